"""Webhooks: signed as others can check, sent again and given up within limits, and nobody waits for them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sleepd.adapters.webhook_http import Sent, WebhookSender, sign
from sleepd.api.daemon import RingEvent
from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.config.secrets import read_webhook_secret
from sleepd.config.settings import WebhookSettings
from sleepd.core.turn import Note
from sleepd.service import webhooks as module
from sleepd.service.webhooks import Webhooks

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LIMIT_S = 30.0


class Receiver:
    """Answers what `answers` holds, then 204; `taken` are the ids that were sent. Slow while `may_answer` is clear."""

    def __init__(self) -> None:
        self.answers: list[Sent] = []
        self.taken: list[tuple[str, str, bytes]] = []
        self.bodies: list[dict[str, Any]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def send(
        self, url: str, secret: bytes, message_id: str, body: bytes, wall_s: float, timeout_s: float
    ) -> Sent:
        self.taken.append((message_id, url, secret))
        self.bodies.append(json.loads(body))
        await self.may_answer.wait()
        return self.answers.pop(0) if self.answers else Sent(204)

    async def close(self) -> None:
        """Nothing is open."""


class Rig:
    def __init__(self, folder: Path) -> None:
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET)
        self.secret_file.chmod(0o600)
        self.receiver, self.told = Receiver(), list[Note]()
        self.webhooks = Webhooks(self.receiver, self.told.append, lambda: 1000.0)
        self.count = 0

    def settings(self, **fields: Any) -> WebhookSettings:
        keys = {"name": "w", "url": "https://h/", "kinds": frozenset({"failure", "state"}), **fields}
        return WebhookSettings(secret_file=str(self.secret_file), **keys)

    def tell(self, kind: str = "failure", model: str = "a", **data: Any) -> str:
        self.count += 1
        self.webhooks.hear(RingEvent(f"e-{self.count}", 5.0, Note(kind, model, f"text {self.count}", data), ("GPU-0",)))
        return f"e-{self.count}"

    @property
    def ids(self) -> list[str]:
        return [message_id for message_id, _, _ in self.receiver.taken]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 - of a condition of many parts
                await asyncio.sleep(0.001)


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_RETRY_S", 0.002)
    rig = Rig(tmp_path)
    yield rig
    await rig.webhooks.stop()


async def test_chosen_kinds_of_chosen_models_are_sent_in_order(rig: Rig) -> None:
    rig.webhooks.take([rig.settings(models=frozenset({"a"}))])
    first = rig.tell(task=7, cause="rule:nap", code="x")
    rig.tell("hold")
    rig.tell(model="b")
    rig.tell(model="")
    last = rig.tell("state")
    await rig.until(lambda: len(rig.ids) == 2)
    assert rig.ids == [first, last]
    body = rig.receiver.bodies[0]
    assert (body["type"], body["timestamp"]) == ("sleepd.failure", "1970-01-01T00:00:05.000Z")
    assert (body["data"]["task"], body["data"]["cause"]) == (7, {"kind": "rule", "who": "nap"})
    assert (body["data"]["gpus"], body["data"]["data"]["code"]) == (["GPU-0"], "x")
    assert rig.told == []


async def test_what_is_not_taken_is_sent_again_and_told_once(rig: Rig) -> None:
    rig.webhooks.take([rig.settings()])
    rig.receiver.answers = [Sent(None, "no answer within 10 s"), Sent(503), Sent(429, retry_after_s=0.0), Sent(301)]
    first, second = rig.tell(), rig.tell()
    await rig.until(lambda: len(rig.ids) == 5)
    assert rig.ids == [first] * 4 + [second], "a redirect is an answer that is none, and is not followed"
    await rig.until(lambda: len(rig.told) == 3)
    assert [note.data["code"] for note in rig.told] == ["failing", "refused", "again"]
    assert "webhook w: no answer within 10 s; it is tried again" in rig.told[0].text
    assert rig.told[2].text.endswith("it takes events again, 1 events were lost")


async def test_a_receiver_that_asks_for_no_pause_gets_the_usual_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 3600.0)
    monkeypatch.setattr(module, "LONGEST_RETRY_S", 3600.0)
    rig.webhooks.take([rig.settings()])
    rig.receiver.answers = [Sent(503, retry_after_s=0.0)] * module.ATTEMPTS
    rig.tell()
    await rig.until(lambda: bool(rig.told))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(rig.ids) == 1


async def test_after_so_many_times_an_event_is_given_up_and_the_next_has_its_turn(rig: Rig) -> None:
    rig.webhooks.take([rig.settings()])
    rig.receiver.answers = [Sent(500)] * module.ATTEMPTS
    first, second = rig.tell(), rig.tell()
    await rig.until(lambda: second in rig.ids)
    assert rig.ids.count(first) == module.ATTEMPTS
    assert "lost" in [note.data["code"] for note in rig.told]


async def test_a_slow_receiver_costs_the_oldest_events_and_nobody_waits(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 3)
    rig.webhooks.take([rig.settings()])
    rig.receiver.may_answer.clear()
    ids = [rig.tell()]
    await rig.until(lambda: len(rig.ids) == 1)
    ids += [rig.tell() for _ in range(5)]
    assert [note.data["lost"] for note in rig.told] == [1]
    rig.receiver.may_answer.set()
    await rig.until(lambda: len(rig.ids) == 4)
    assert rig.ids == [ids[0], *ids[-3:]]
    await rig.until(lambda: rig.told[-1].data["code"] == "again")
    assert rig.told[-1].data["lost"] == 2, "six were told and four were sent: the one that was on its way is not lost"


async def test_what_waits_survives_a_reload_and_takes_the_new_settings(rig: Rig) -> None:
    rig.webhooks.take([rig.settings(), rig.settings(name="other")])
    rig.receiver.answers = [Sent(500)] * 4
    monkey = module.FIRST_RETRY_S
    try:
        module.FIRST_RETRY_S = module.LONGEST_RETRY_S = 3600.0
        event = rig.tell()
        await rig.until(lambda: len(rig.ids) == 2)
        rig.receiver.answers = []
        other = "whsec_" + SECRET[6:].swapcase()
        rig.secret_file.write_text(other)
        rig.webhooks.take([rig.settings(url="https://new/")])
        await rig.until(lambda: len(rig.ids) == 3)
    finally:
        module.FIRST_RETRY_S = module.LONGEST_RETRY_S = monkey
    assert rig.receiver.taken[-1] == (event, "https://new/", read_webhook_secret(str(rig.secret_file)))
    assert any(note.data["webhook"] == "other" and note.data["code"] == "removed" for note in rig.told)
    rig.secret_file.write_text("nonsense")
    rig.webhooks.take([rig.settings()])
    assert rig.told[-1].data["code"] == "secret"
    assert "nonsense" not in rig.told[-1].text


async def test_a_webhook_does_not_carry_words_about_itself(rig: Rig) -> None:
    kinds = frozenset({"webhook"})
    rig.webhooks.take([rig.settings(kinds=kinds), rig.settings(name="other", kinds=kinds, url="https://other/")])
    rig.tell("webhook", "", webhook="w")
    await rig.until(lambda: len(rig.ids) == 1)
    assert rig.receiver.taken[0][1] == "https://other/"


def test_the_signature_is_that_of_standard_webhooks(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(f"{SECRET}\n")
    (tmp_path / "s").chmod(0o600)
    secret = read_webhook_secret(str(tmp_path / "s"))
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_over_the_wire_redirects_are_not_followed_and_a_silent_receiver_is_left() -> None:
    seen: list[web.Request] = []
    hang = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        seen.append(request)
        await request.read()
        if request.path == "/silent":
            await hang.wait()
        if request.path == "/later":
            return web.Response(status=503, headers={"Retry-After": "7"})
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{any}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0)
    await site.start()
    port = runner.addresses[0][1]
    sender = WebhookSender()
    try:

        async def send(path: str, timeout_s: float = 20.0) -> Sent:
            return await sender.send(f"http://localhost:{port}{path}", b"x" * 24, "e-1", b"{}", 1000.9, timeout_s)

        assert (await send("/redirects")).status == 307
        assert [request.path for request in seen] == ["/redirects"]
        assert seen[0].headers["webhook-timestamp"] == "1000"
        assert seen[0].headers["webhook-signature"] == sign(b"x" * 24, "e-1", "1000", b"{}")
        later = await send("/later")
        assert (later.status, later.retry_after_s) == (503, 7.0)
        assert (await send("/silent", 0.2)).detail == "no answer within 0.2 s"
    finally:
        hang.set()
        await runner.cleanup()
    assert (await send("/gone")).status is None
    await sender.close()


async def test_what_a_receiver_answers_wrongly_is_told_without_the_key_in_its_address() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")
        writer.close()

    receiver = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    sender = WebhookSender()
    try:
        for url in (f"http://127.0.0.1:{port}/T0KEN?key=T0KEN", "http:///T0KEN"):
            sent = await sender.send(url, b"x" * 24, "e-1", b"{}", 1000.0, 20.0)
            assert sent.status is None
            assert sent.detail
            assert "T0KEN" not in sent.detail
    finally:
        receiver.close()
        await sender.close()


def load(folder: Path, text: str) -> Any:
    (folder / "sleepd.toml").write_text(text)
    return load_config(folder, shipped_dir=folder / "none", environ={})


def test_what_is_wrong_with_a_webhook_is_said_at_its_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("short")
    secret.chmod(0o600)
    text = f"""
[webhooks.alerts]
url = "ftp://user@example.org"
secret_file = "{secret}"
kinds = ["failures"]
models = ["ch*"]
[webhooks.bare]
url = "https://example.org"
"""
    with pytest.raises(ConfigError) as wrong:
        load(tmp_path, text)
    told = "\n".join(str(problem).replace(str(tmp_path), "") for problem in wrong.value.problems)
    assert '/sleepd.toml:3: [webhooks.alerts] url: wanted an address such as "https://' in told
    assert "sleepd.toml:4: [webhooks.alerts] secret_file: wanted whsec_ and 24 to 64 bytes in base64" in told
    assert (
        'sleepd.toml:5: [webhooks.alerts] kinds: there is no kind of event "failures"; did you mean "failure"?' in told
    )
    assert "[webhooks.bare] secret_file: is missing" in told
    assert "short" not in told
    secret.write_text(SECRET)
    config = load(tmp_path, f'[webhooks.w]\nurl = "http://example.org"\nsecret_file = "{secret}"\n')
    assert any("is not https" in warning.message for warning in config.warnings)
    (settings,) = config.service.webhooks
    assert (settings.name, settings.models, settings.timeout_s) == ("w", None, 10.0)
    assert "failure" in settings.kinds
