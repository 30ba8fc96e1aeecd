"""The gateway between raw sockets: a daemon of which every gate and answer is the test's, and servers that play back.

Servers and clients here speak bytes, so that a test says exactly what was sent and sees exactly what came.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sleepd.annex import Annex
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Known, ModelSpec, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.seen import EngineFacts
from sleepd.core.wishes import WakeAsked
from sleepd.core.world import World
from sleepd.engine.gate import Gate, Gates
from sleepd.gateway.app import Gateway
from sleepd.gateway.daemon import Held
from sleepd.gateway.lane import Access
from sleepd.gateway.settings import GatewaySettings
from sleepd.service.gateway import access_of

LIMIT_S = 20.0
JSON = b"content-type: application/json\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class FakeDaemon:
    """The daemon as the gateway sees it. Models are awake with their gates open unless a test says otherwise."""

    def __init__(self) -> None:
        self.gates = Gates()
        self.asked: list[WakeAsked] = []
        self.withdrawn = 0
        self.attended: list[tuple[int, bool]] = []
        self.holds: list[str] = []
        self.holding: asyncio.Future[Answer] | None = None
        self.waits: list[Held] = []
        self.ends: list[tuple[str, str]] = []
        self.answers: asyncio.Queue[Callable[[int], Answer]] = asyncio.Queue()
        self.eta: float | None = None
        self.back: float | None = None
        self._opened: list[Callable[[str], None]] = []
        self.gates.when_opened(lambda model: [tell(model) for tell in self._opened] and None)
        self.world = World(Settings(models={}), {})

    def add(self, name: str, url: str, *, awake: bool = True, facts: EngineFacts | None = None, **keys: Any) -> None:
        spec = ModelSpec(name, url, **keys)
        state = State.AWAKE if awake else State.ASLEEP_L1
        record = ModelRecord(spec=spec, life=Life(state, Weights.LOADED), facts=facts)
        models = {**self.world.models, name: record}
        self.world = World(Settings(models={n: r.spec for n, r in models.items()}), models)
        if awake:
            self.gates.open(name)

    def now(self) -> Now:
        return Now(0.0, 0.0)

    def gate(self, model: str) -> Gate:
        return self.gates.of(model)

    def when_opened(self, tell: Callable[[str], None]) -> None:
        self._opened.append(tell)

    async def ask(self, make: Callable[[int], WakeAsked]) -> Answer:
        self.asked.append(make(len(self.asked) + 1))
        try:
            return (await self.answers.get())(self.asked[-1].waiter)
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise

    def wake(self, model: str) -> None:
        """The model is awake: its gate opens, and whoever asked is told."""
        self.gates.open(model)
        self.answers.put_nowait(lambda waiter: Answer(waiter, AnswerKind.DONE, level=0))

    def refuse(self, problem: str, detail: str) -> None:
        self.answers.put_nowait(lambda waiter: Answer(waiter, AnswerKind.REFUSED, problem=problem, detail=detail))

    def attend(self, waiter: int, model: str, *, attended: bool) -> None:
        self.attended.append((waiter, attended))

    def hold(self, model: str, who: str) -> asyncio.Future[Answer] | None:
        self.holds.append(model)
        return self.holding

    def held(self, held: Held) -> None:
        self.waits.append(held)

    def answered(self, model: str, outcome: str) -> None:
        self.ends.append((model, outcome))

    def eta_s(self, model: str) -> float | None:
        return self.eta

    def come_back_s(self, model: str) -> float | None:
        return self.back

    def reason(self, model: str) -> str:
        return "it is a test"


@dataclass
class Seen:
    """One request as a server saw it."""

    head: bytes
    body: bytes
    raw: bytes

    @property
    def fields(self) -> dict[bytes, bytes]:
        pairs = (line.split(b":", 1) for line in self.head.split(b"\r\n")[1:] if line)
        return {name.lower(): value.strip() for name, value in pairs}


Play = Callable[[Seen, asyncio.StreamWriter], Any]


@dataclass
class Server:
    """A server that keeps every byte it got, and answers each whole request by `play`."""

    play: Play
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    lost: int = 0
    """Connections whose client was gone before they were answered."""
    raw: bytearray = field(default_factory=bytearray)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while (request := await self._read(reader)) is not None:
                self.seen.append(request)
                await _play(self.play, request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost += 1
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Seen | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            self.raw += cut.partial
            return None
        self.raw += head
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length is not None:
            raw = body = await reader.readexactly(int(length[1]))
        elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            raw, body = await _read_chunks(reader)
        else:
            raw = body = b""
        self.raw += raw
        return Seen(head, body, raw)


async def _play(play: Play, request: Seen, writer: asyncio.StreamWriter) -> None:
    done = play(request, writer)
    if asyncio.iscoroutine(done):
        await done


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    raw, body = b"", b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line, 16)
        data = await reader.readexactly(size + 2)
        raw += line + data
        body += data[:-2]
        if size == 0:
            return raw, body


def answer(data: bytes = OK) -> Play:
    """Play these bytes to every request."""
    return lambda request, writer: writer.write(data)


class Client:
    """A raw connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.readexactly(size)

    async def head(self) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Return status, head and body of the next answer that has a length."""
        head = await self.head()
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return int(head[9:12]), head, await self.read(int(length[1])) if length else b""

    async def rest(self) -> bytes:
        """Return everything until the gateway ends the connection."""
        async with asyncio.timeout(LIMIT_S):
            try:
                return await self.reader.read(-1)
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.close()


class Rig:
    """`async with Rig(tmp_path) as rig`: one gateway on a unix socket and on TCP, its daemon, servers by name."""

    def __init__(self, root: Path, settings: GatewaySettings | None = None, **access: bytes) -> None:
        self.root, self.settings = root, settings or GatewaySettings()
        self.daemon = FakeDaemon()
        self.servers: dict[str, Server] = {}
        self.annex: Annex | None = None
        self.passed = False
        self._access = access
        self._open = AsyncExitStack()
        self._count = 0

    async def __aenter__(self) -> Rig:
        import socket

        self.gateway = Gateway(self.daemon, self.settings, self._access_of, passed=self.passed, annex=self.annex)
        self.path = self.root / "g.sock"
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.path))
        tcp = socket.socket()
        tcp.bind(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        await self.gateway.start([unix, tcp])
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.gateway.close()
        await self._open.aclose()
        serving = [task for server in self.servers.values() for task in server.serving]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0.001)

    def _access_of(self, spec: ModelSpec) -> Access:
        if spec.url.startswith("https:"):
            return access_of(spec)
        key = self._access.get(spec.name, b"")
        return Access(b"authorization: Bearer " + key + b"\r\n" if key else b"")

    async def server(
        self, name: str, play: Play | None = None, *, tls: ssl.SSLContext | None = None, **keys: Any
    ) -> Server:
        """A model's server, on a unix socket of its own, with `tls` on TCP; by default it answers {} to everything."""
        server = self.servers[name] = Server(play or answer())
        if tls is None:
            path = self.root / f"{name}.s"
            listening = await asyncio.start_unix_server(server.serve, str(path), limit=1 << 26)
            url = f"unix:{path}"
        else:
            listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, limit=1 << 26)
            url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        self._open.callback(listening.close)
        self.daemon.add(name, url, **keys)
        return server

    async def client(self, *, tcp: bool = False) -> Client:
        if tcp:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)
        else:
            reader, writer = await asyncio.open_unix_connection(str(self.path), limit=1 << 26)
        self._open.callback(writer.close)
        return Client(reader, writer)

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        """Return once it holds."""
        for _ in range(int(LIMIT_S / 0.005)):
            if holds():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"waited {LIMIT_S:g} s for {what}")


def post(body: bytes, path: bytes = b"/v1/chat/completions", fields: bytes = b"") -> bytes:
    """Return a POST of a JSON body."""
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b" % (path, fields)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def get(path: bytes, fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path, fields)


CHAT = b'{"messages": [{"role": "user", "content": "hi"}], "model": "m"}'
STREAM = CHAT[:-1] + b', "stream": true}'
__all__ = [
    "CHAT",
    "EVENTS",
    "JSON",
    "OK",
    "STREAM",
    "Client",
    "FakeDaemon",
    "Known",
    "Rig",
    "Seen",
    "Server",
    "answer",
    "get",
    "post",
]
