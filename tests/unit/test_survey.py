"""vLLM servers told from other processes, and asked in all their moods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from found_servers import load, process

from sleepd.adapters.owners import Owners
from sleepd.adapters.sock_diag import TcpSocket
from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.vllm_types import EngineSpec
from sleepd.survey.arguments import ServerArguments, read_command
from sleepd.survey.asking import ask_all, ask_server
from sleepd.survey.first_config import Found, missing, write_config
from sleepd.survey.processes import Survey, find_open_ports, survey_processes
from sleepd.survey.table import ProcessRow, ProcessTable

NOBODY = Owners()
THIS = psutil.Process()


@pytest.mark.parametrize(
    ("command", "model", "name", "port"),
    [
        ("/usr/bin/python3 /opt/vllm/bin/vllm serve Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B", 8000),
        ("vllm serve m --served-model-name a b --port=8001", "m", "a", 8001),
        ("python3.12 -I -W ignore -m vllm.entrypoints.openai.api_server --model m --port 9", "m", "m", 9),
        ("python3 -u -mvllm.entrypoints.openai.api_server --model m", "m", "m", 8000),
        ("python -m vllm.entrypoints.cli.main serve m --port 1 --port 2", "m", "m", 2),
        ("python /x/vllm/entrypoints/openai/api_server.py --model=m --served_model_name x", "m", "x", 8000),
        ("vllm serve --config server.yaml --enable-sleep-mode", "", "", 8000),
        ("/usr/bin/python3 -I /usr/bin/sleepd fake-vllm --port 5 --name tiny", "", "tiny", 5),
    ],
)
def test_a_server_is_known_by_its_command(command: str, model: str, name: str, port: int) -> None:
    found = read_command(command.split())
    assert found is not None
    assert (found.model, found.name, found.port) == (model, name, port)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "vllm bench serve --model m",
        "vllm chat",
        "sudo vllm serve m",
        "docker run vllm/vllm-openai serve m",
        "python -c import_vllm serve",
        "python",
        "grep vllm serve",
        "less vllm serve",
        "VLLM::EngineCore",
        "sleepd run",
    ],
)
def test_what_is_no_server_or_only_starts_one_is_left_alone(command: str) -> None:
    assert read_command(command.split()) is None


def test_where_a_server_runs_is_read_from_its_cgroup() -> None:
    def where(cgroup: str) -> tuple[str, bool, bool]:
        one = process(cgroup=cgroup)
        assert one.own_cgroup in ("", cgroup)
        return one.unit, one.in_container, one.own_cgroup != ""

    assert where("system.slice/system-vllm.slice/vllm@a.service") == ("vllm@a.service", False, True)
    assert where("user.slice/user-1000.slice/session-3.scope") == ("", False, False)
    assert where("user.slice/user-1000.slice/user@1000.service/app.slice/a.service") == ("", False, True)
    assert where(f"system.slice/docker-{'a1' * 32}.scope") == ("", True, True)
    assert where(f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{'a1' * 32}.scope/container") == (
        "",
        True,
        True,
    )
    assert where(f"system.slice/vllm-a.service/libpod-payload-{'a1' * 32}") == ("vllm-a.service", True, True)
    assert where("lxc.payload.box/system.slice/x.service")[1]
    assert where("") == ("", False, False)


def test_no_port_that_cannot_be_is_believed() -> None:
    asked = ["99999", "0", "9" * 5000, "²", "-1", ""]
    assert [ServerArguments(("--port", port)).port for port in asked] == [8000] * 6


@pytest.mark.parametrize("words", ["--host [::1]", "--host http://x", "--host @/x", "--host a@b", "--uds \udcff"])
def test_what_is_no_address_is_not_asked(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert survey_of({7: ["vllm", "serve", "m", *words.split()]}, monkeypatch).servers[0].urls == ()


def test_an_address_of_another_server_is_not_asked_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {7: ["vllm", "serve", "in-a-container"], 8: ["vllm", "serve", "here"], 9: ["vllm", "serve", "hidden"]}
    owners = Owners(ports={8000: {8}})
    here = "http://127.0.0.1:8000"
    assert [one.urls for one in survey_of(commands, monkeypatch, owners).servers] == [(), (here,), ()]
    # Who cannot see who listens has to ask; so has who sees a proxy that is none of the servers listen.
    for unknown in (Owners(), Owners(ports={8000: {1}})):
        assert [one.urls for one in survey_of(commands, monkeypatch, unknown).servers] == [(here,)] * 3


def test_who_may_reach_a_port_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(address: str, port: int, *, listens: bool = True) -> TcpSocket:
        return TcpSocket((address, port), ("::", 0), listens, 1, 0.0)

    sockets = [at("127.0.0.1", 1), at("0.0.0.0", 2), at("::1", 1), at("::1", 2), at("192.0.2.5", 3, listens=False)]
    monkeypatch.setattr("sleepd.survey.processes.tcp_sockets", lambda: iter(sockets))
    assert find_open_ports() == {1: False, 2: True}

    def refuse() -> Iterator[TcpSocket]:
        raise OSError(1, "no netlink here")

    monkeypatch.setattr("sleepd.survey.processes.tcp_sockets", refuse)
    assert find_open_ports() == {}


def test_a_server_in_another_network_is_not_looked_for_at_our_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepd.survey.processes._is_apart", lambda pid: pid == 7)
    commands = {7: ["vllm", "serve", "m"], 8: ["vllm", "serve", "m"], 9: ["vllm", "serve", "m", "--host", "10.0.0.2"]}
    apart, here, named = survey_of(commands, monkeypatch).servers
    assert (apart.urls, here.urls, named.urls) == ((), ("http://127.0.0.1:8000",), ("http://10.0.0.2:8000",))
    assert (apart.apart, here.apart) == (True, False)


def survey_of(commands: dict[int, list[str]], monkeypatch: pytest.MonkeyPatch, owners: Owners = NOBODY) -> Survey:
    """What is found where these processes run, and these listen."""
    monkeypatch.setattr("sleepd.survey.processes.psutil.Process", lambda _: THIS)
    monkeypatch.setattr("sleepd.survey.processes.look_around", lambda parents: owners)
    return survey_processes(ProcessTable({pid: ProcessRow(pid, 1, "vllm", words) for pid, words in commands.items()}))


@asynccontextmanager
async def served(tmp_path: Path, **spec: Any) -> AsyncIterator[str]:
    uds = tmp_path / "s"
    async with FakeVllm(EngineSpec(**spec), uds=uds):
        yield f"unix:{uds}"


async def test_a_server_tells_its_release_its_models_and_whether_it_sleeps(tmp_path: Path) -> None:
    async with served(tmp_path, name="tiny", version="0.28.0") as url:
        told = await ask_server(process(urls=(f"unix:{tmp_path}/nobody", url)))
    assert told.url == url
    assert told.facts is not None
    assert (told.facts.version, told.facts.served_names, told.facts.sleep_mode) == ("0.28.0", ("tiny",), True)
    assert (told.dev_mode, told.is_sleeping, told.locked, told.silent) == (True, False, False, "")
    assert told.counts


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end(tmp_path: Path) -> None:
    body = b'{"version": "0.32.0", "is_sleeping": true, "data": [{"id": "tiny"}]}'
    rest = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body[:9]))
        await writer.drain()
        # The client has had the beginning when it has had turns enough to read it.
        for _ in range(20):
            await asyncio.sleep(0)
        rest.set()
        writer.write(body[9:])
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "s"):
        told = await ask_server(process(urls=(f"unix:{tmp_path}/s",)))
    assert rest.is_set()
    assert told.facts is not None
    assert (told.facts.version, told.facts.served_names, told.is_sleeping) == ("0.32.0", ("tiny",), True)


async def test_one_address_is_one_server(tmp_path: Path) -> None:
    # Two containers, each with its server at port 8000 of its own: this host has one such address.
    async with served(tmp_path, name="tiny") as url:
        one, other = process("a", urls=(url,)), process("b", urls=(url.replace("unix:/", "unix://"),))
        told = await ask_all([one, other])
    assert (told[0].url, told[1].url) == (url, "")
    assert "is the address of another server" in told[1].silent
    found = [Found(name, x, y, ("0",)) for name, x, y in zip("ab", (one, other), told, strict=True)]
    assert "Give it --uds PATH" in " ".join(missing(found[1], frozenset()))
    assert load(tmp_path, write_config(found, when="now")) == {"a"}


async def test_a_release_without_end_is_no_release(tmp_path: Path) -> None:
    async with served(tmp_path, version="0.32.0" + "9" * 1000) as url:
        told = await ask_server(process(urls=(url,)))
    assert "not as vLLM does" in told.silent


async def test_a_key_is_shown_where_the_arguments_have_it_and_named_missing_anyway(tmp_path: Path) -> None:
    async with served(tmp_path, name="tiny", api_key="sesame") as url:
        knows = await ask_server(process("--api-key", "sesame", urls=(url,)))
        guesses = await ask_server(process(urls=(url,)))
    assert knows.facts is not None
    assert guesses.facts is not None
    assert (knows.facts.served_names, guesses.facts.served_names) == (("tiny",), ())
    for told in (knows, guesses):
        one = Found("tiny", process("--api-key", "sesame", cgroup="s/a.service"), told)
        assert "api_key_file" in " ".join(missing(one, frozenset()))
        assert "sesame" not in write_config([one], when="now")


async def test_without_dev_mode_or_sleep_mode_it_says_what_to_start_it_with(tmp_path: Path) -> None:
    async with served(tmp_path, dev_mode=False) as url:
        told = await ask_server(process(urls=(url,), environ=None))
    found = Found("a", process(environ=None, cgroup="s/a.service"), told)
    assert [text.partition(". ")[2].split()[3] for text in missing(found, frozenset())] == [
        "VLLM_SERVER_DEV_MODE=1",
        "--enable-sleep-mode.",
    ]


async def test_a_server_that_hangs_is_waited_for_so_long_and_not_longer(tmp_path: Path) -> None:
    connected = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(hang, tmp_path / "s"):
        (told,) = await ask_all([process(urls=(f"unix:{tmp_path}/s",))], timeout_s=0.2)
        assert connected.is_set()
    assert (told.silent, told.facts) == ("no answer within 0.2 s", None)
    one = Found("a", process("Qwen/A"), told, ("0",), guessed=True)
    assert "It may still be loading" in next(missing(one, frozenset()))
    assert f'url  = "unix:{tmp_path}/s"' in write_config([one], when="now")


@pytest.mark.parametrize(
    ("hangs", "names", "locked", "silent"),
    [
        (b"GET /is_sleeping", ("tiny",), False, "/is_sleeping does not answer"),
        (b"GET /v1/models", (), None, "no answer within"),
    ],
)
async def test_a_server_that_stops_answering_has_told_what_it_said_before_and_nothing_more(
    hangs: bytes, names: tuple[str, ...], locked: bool | None, silent: str, tmp_path: Path
) -> None:
    body = b'{"version": "0.32.0", "data": [{"id": "tiny"}]}'
    given_up = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if not asked.startswith(hangs):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        else:
            await reader.read()
            given_up.set()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "s"):
        told = await ask_server(process(urls=(f"unix:{tmp_path}/s",)), timeout_s=0.5)
        await given_up.wait()
    assert told.facts is not None
    assert (told.facts.served_names, told.dev_mode, told.locked) == (names, None, locked)
    assert told.silent.startswith(silent)


async def test_somebody_else_at_the_address_is_told_from_vllm(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "s"):
        told = await ask_server(process(urls=(f"unix:{tmp_path}/s",)))
    assert "not as vLLM does" in told.silent
    assert (await ask_server(process())).silent == "it listens nowhere that can be seen"
    assert "a network namespace of its own" in (await ask_server(process(apart=True))).silent
