"""Keys go where --api-key guards and nowhere else; certificates must hold; what is wrong is told in words."""

import ssl
from pathlib import Path

import pytest
from adapters.certificates import certificate
from adapters.raw_server import Answer, Asked, reply, serving

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.credentials import Credentials, trust
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.calls import Answered, ProbeAnswer
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec
from sleepd.core.plan import Verb
from sleepd.core.turn import Note
from sleepd.doctor.servers import UNTRUSTED
from sleepd.service.servers import Servers
from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.vllm_types import EngineSpec

KEY = "sk-local-12345"


def client(url: str, credentials: Credentials) -> VllmServer:
    return VllmServer(ModelSpec("chat", url), SystemClock(), ProcessFinder(Path("/")), None, credentials)


async def look(server: VllmServer) -> Known | Missing:
    return await server.look(ask_sleeping=False, timeout_s=5.0)


# keys


async def test_the_key_goes_with_what_is_guarded_and_with_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/metrics"):
            return reply(b"process_start_time_seconds 12.5\n")
        return reply({"version": "0.32.0", "is_sleeping": False})

    async with serving(path, answer) as raw:
        server = client(f"unix:{path}", Credentials(KEY, "/key"))
        await look(server)
        await server.call(Verb.WAKE, timeout_s=5.0, mode_parameter=True)
        for route in ("/v1/completions", "/v1/embeddings", "/pooling"):
            await server.complete("p", api_name="a", asks_at=route, timeout_s=5.0)
        await server.close()
        told = {asked.path: asked.headers.get("authorization") for asked in raw.asked}
    guarded = {path for path in told if path.startswith("/v1")}
    assert guarded == {"/v1/models", "/v1/completions", "/v1/embeddings"}
    assert {told[path] for path in guarded} == {f"Bearer {KEY}"}
    assert {told[path] for path in told.keys() - guarded} == {None}


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        (Credentials(), "the server wants a key: set api_key_file in [models.chat]"),
        (Credentials("another-key", "/etc/sleepd/chat.key"), "the key in /etc/sleepd/chat.key is not the server's"),
    ],
)
async def test_a_key_that_is_missing_or_wrong_is_told_in_words(credentials: Credentials, said: str) -> None:
    async with FakeVllm(EngineSpec(api_key=KEY), port=0) as fake:
        server = client(fake.base_url, credentials)
        reading = await look(server)
        assert isinstance(reading, Missing)
        assert reading.reason is MissingReason.UNAUTHORIZED
        assert said in reading.detail
        refused = await server.complete("p", api_name="tiny-a", timeout_s=5.0)
        assert isinstance(refused, Answered)
        assert (refused.status, said in refused.text) == (401, True)
        assert "another-key" not in repr(credentials) + reading.detail + refused.text
        await server.close()


async def test_the_right_key_is_let_in_and_a_new_one_is_used_from_then_on() -> None:
    async with FakeVllm(EngineSpec(api_key=KEY), port=0) as fake:
        server = client(fake.base_url, Credentials("old-key-12345", "/key"))
        assert isinstance(await look(server), Missing)
        server.show(Credentials(KEY, "/key"))
        reading = await look(server)
        assert isinstance(reading, Known)
        assert reading.value.facts.served_names == ("tiny-a",)
        assert isinstance(await server.complete("p", api_name="tiny-a", timeout_s=5.0), ProbeAnswer)
        await server.close()


class Outside:
    """As much of the outside as clients are made of."""

    clock, units = SystemClock(), None
    find = ProcessFinder(Path("/"))


async def test_key_files_are_read_anew_and_one_that_cannot_be_read_leaves_what_was(tmp_path: Path) -> None:
    key_file, told = tmp_path / "key", list[Note]()
    key_file.write_text("old-key-12345\n")
    key_file.chmod(0o600)
    async with FakeVllm(EngineSpec(api_key=KEY), port=0) as fake:
        spec = ModelSpec("chat", fake.base_url, api_key_file=str(key_file))
        servers = Servers(Outside(), told.append)  # type: ignore[arg-type]
        server = servers.client(spec)
        assert isinstance(await server.look(ask_sleeping=False, timeout_s=5.0), Missing)
        key_file.write_text(f"{KEY}\n")
        servers.renew([spec])
        assert isinstance(await server.look(ask_sleeping=False, timeout_s=5.0), Known)
        key_file.chmod(0o644)
        servers.renew([spec])
        assert isinstance(await server.look(ask_sleeping=False, timeout_s=5.0), Known)
        assert ["chmod 600" in note.text and KEY not in note.text for note in told] == [True]
        await server.close()


# TLS


def serving_tls(made: Path, key: Path) -> FakeVllm:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, key)
    return FakeVllm(EngineSpec(api_key=KEY), port=0, tls=context)


async def test_a_server_that_shows_the_right_certificate_is_spoken_to(tmp_path: Path) -> None:
    made, key = certificate(tmp_path, "own")
    async with serving_tls(made, key) as fake:
        server = client(fake.base_url, Credentials(KEY, "/key", trust(str(made))))
        assert isinstance(await look(server), Known)
        assert await server.call(Verb.WAKE, timeout_s=5.0, mode_parameter=True) == Answered(200, "awake")
        assert isinstance(await server.complete("p", api_name="tiny-a", timeout_s=5.0), ProbeAnswer)
        await server.close()


@pytest.mark.parametrize("wrong", ["another authority", "another name", "the host's authorities"])
async def test_a_certificate_that_does_not_hold_is_told_and_nothing_is_sent(tmp_path: Path, wrong: str) -> None:
    made, key = certificate(tmp_path, "own", "IP:127.0.0.9" if wrong == "another name" else "IP:127.0.0.1")
    trusted = {"another authority": str(certificate(tmp_path, "other")[0]), "the host's authorities": ""}
    async with serving_tls(made, key) as fake:
        server = client(fake.base_url, Credentials(KEY, "/key", trust(trusted.get(wrong, str(made)))))
        reading = await look(server)
        assert isinstance(reading, Missing)
        assert reading.reason is MissingReason.UNREACHABLE
        assert reading.detail.startswith(f"{UNTRUSTED} (")
        assert "set ca_file" in reading.detail
        assert fake.engine.snapshot().http_requests == {}
        await server.close()


async def test_https_to_a_server_without_tls_is_told() -> None:
    async with FakeVllm(EngineSpec(), port=0) as fake:
        server = client(fake.base_url.replace("http:", "https:"), Credentials(tls=trust("")))
        reading = await look(server)
        assert isinstance(reading, Missing)
        assert reading.reason is MissingReason.UNREACHABLE
        assert "no TLS could be agreed on" in reading.detail
        await server.close()


async def test_http_to_a_server_with_tls_is_no_refusal(tmp_path: Path) -> None:
    made, key = certificate(tmp_path, "own")
    async with serving_tls(made, key) as fake:
        server = client(fake.base_url.replace("https:", "http:"), Credentials())
        reading = await look(server)
        assert isinstance(reading, Missing)
        assert reading.reason is not MissingReason.REFUSED
        await server.close()
