"""Everything of one model: its gate, the connections to its server, its queue, and what its answers are marked with."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from sleepd.core.model import ModelSpec
from sleepd.core.seen import KEEP_ALIVE_S
from sleepd.core.units import Seconds
from sleepd.gateway.errors import Refusal
from sleepd.gateway.queue import Queue, Waiting
from sleepd.gateway.routes import ROUTES, show
from sleepd.gateway.settings import AHEAD_LIMIT, CONNECT_S, GATE_S, IDLE_SHARE, KNOCK_AGAIN_S, UNNOTICED_S
from sleepd.gateway.upstream import Upstream

if TYPE_CHECKING:
    from sleepd.gateway.exchange import Exchange
    from sleepd.gateway.front import Front


_CLASSES = ("", "", "2xx", "3xx", "4xx", "5xx")


class Question(Waiting, Protocol):
    """Somebody who asks at the gate and sends nothing through it."""

    @property
    def gone(self) -> bool: ...

    def let_through(self) -> None:
        """Tell that the model is awake and held so."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a server wants to see and what it is known by: header fields complete with CRLF, and a TLS context."""

    credentials: bytes = b""
    tls: ssl.SSLContext | None = None


class Lane:
    """The way to one model. `starts` are request lines with Host, ready to be sent, by request target."""

    def __init__(self, front: Front, spec: ModelSpec, access: Access) -> None:
        self._front, self.spec, self.name = front, spec, spec.name
        self.gate = front.daemon.gate(spec.name)
        self.queue = Queue(front, self)
        self.access, self.credentials = access, access.credentials
        self._address = _address_of(spec.url)
        self._host = b"host: " + self._address.host.encode() + b"\r\n"
        self.starts = {path: self._start(b"POST", path) for path, route in ROUTES.items() if b"POST" in route.methods}
        self._mark = b"x-sleepd-model: %b\r\nx-sleepd-waited-ms: " % spec.name.encode()
        self._plain_mark = self._mark + b"0\r\n\r\n"
        self._idle: list[Upstream] = []
        self._all: set[Upstream] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._preparing: set[asyncio.Task[None]] = set()
        self.closed = False

    def take(self, x: Exchange) -> None:
        """Send the request to the server, or hold it until the model is awake. Raises Refusal."""
        x.lane = self
        if x.route is not None and x.route.page is not None:
            x.limit_s = wait_of(x.target)
            self.answer_gate(x)
        elif self.gate.enter():
            x.inside = True
            self.send(x)
        else:
            self.queue.hold(x)

    def take_again(self, x: Exchange) -> None:
        """Take a request that was not answered, and may be sent anew; where it cannot be held, its client is told."""
        try:
            self.take(x)
        except Refusal as refusal:
            x.client.refuse(x, refusal)

    def answer_gate(self, asked: Question) -> None:
        """Tell a proxy beside us that the model is awake, once it is and is kept so for the request that follows.
        Raises Refusal where it cannot be waited for."""
        asked.lane = self
        if not self.gate.open:
            self.queue.hold(asked, asked.limit_s)
            return
        standing = self._front.daemon.hold(self.name, asked.who or "gate")
        if standing is None:
            asked.let_through()
        else:
            standing.add_done_callback(lambda _: self._let_through(asked))

    def _let_through(self, asked: Question) -> None:
        """Its hold stands, or cannot: answer by the gate as it is now, which may have shut meanwhile."""
        if asked.gone:
            return
        if self.gate.open:
            asked.let_through()
            return
        try:
            self.queue.hold(asked, asked.limit_s)
        except Refusal as refusal:
            asked.refuse(refusal)

    def send(self, x: Exchange) -> None:
        """Send a request that its gate has let in."""
        idle = self._idle
        while idle:
            upstream = idle.pop()
            if upstream.is_quiet(self._front.time()):
                upstream.begin(x)
                return
            upstream.abort()
        task = asyncio.get_running_loop().create_task(self._connect(x))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def prepare(self, wanted: int) -> None:
        """Connect ahead while requests wait, so that the wake is not followed by hundreds of connections at once."""
        if len(self._idle) + len(self._preparing) < wanted and not self.closed:
            task = asyncio.get_running_loop().create_task(self._connect_ahead())
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)

    async def _connect_ahead(self) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            upstream = await self._open()
            self.give_back(upstream) if self.queue.held else upstream.transport.close()

    async def _open(self) -> Upstream:
        """Return a new connection. Waits CONNECT_S at most. Raises OSError, TimeoutError."""
        loop, address = asyncio.get_running_loop(), self._address
        async with asyncio.timeout(CONNECT_S):
            if address.path:
                _, upstream = await loop.create_unix_connection(lambda: Upstream(self), address.path)
            else:
                _, upstream = await loop.create_connection(
                    lambda: Upstream(self), address.name, address.port, ssl=self.access.tls
                )
        self._all.add(upstream)
        return upstream

    async def _connect(self, x: Exchange) -> None:
        """Send the request on a new connection."""
        try:
            upstream = await self._reach(x)
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a name that no resolver takes
            if not x.gone:
                x.leave_gate()
                message = f"the server of {self.name} cannot be reached: {error or 'no answer in time'}"
                x.client.refuse(x, Refusal(503, "unreachable", message, retry_after_s=5))
            return
        if upstream is None:
            x.leave_gate()
            self.take_again(x)
        elif x.gone:
            self.give_back(upstream)
        else:
            upstream.begin(x)

    async def _reach(self, x: Exchange) -> Upstream | None:
        """Return a new connection for the request; None where its gate was shut meanwhile.

        A server that has just died is noticed a few polls later. Nothing was sent to it: the request waits for that,
        UNNOTICED_S at most, and then as others do. Raises OSError, TimeoutError.
        """
        until_s = self._front.time() + UNNOTICED_S
        while True:
            try:
                return await self._open()
            except (ConnectionRefusedError, FileNotFoundError):
                if x.gone or self.closed or self._front.time() >= until_s:
                    raise
            await asyncio.sleep(KNOCK_AGAIN_S)
            if not (x.gone or self.gate.open):
                return None

    def give_back(self, upstream: Upstream) -> None:
        """The connection is free."""
        if self.closed:
            upstream.transport.close()  # its client left while it was opened: nobody looks after it here any more
            return
        upstream.idle_since_s = self._front.time()
        upstream.good_until_s = upstream.idle_since_s + self._reused_for_s()
        self._idle.append(upstream)

    def lost(self, upstream: Upstream) -> None:
        """The connection has ended."""
        self._all.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def drop_idle(self, now_s: float) -> None:
        """Give up connections that the server may be about to drop, and open others for requests that wait."""
        dropped = [u for u in self._idle if now_s >= u.good_until_s]
        if dropped:
            self._idle = [u for u in self._idle if u not in dropped]
        for upstream in dropped:
            upstream.transport.close()
        waiting = sum(x.goes_on for x in self.queue.held)
        for _ in range(min(waiting, AHEAD_LIMIT, len(dropped))):
            self.prepare(waiting)

    def _reused_for_s(self) -> Seconds:
        """How long a connection may idle and be used again: whoever stands before the server may know less patience."""
        record = self._front.daemon.world.models.get(self.name)
        kept_s = record.facts.keep_alive_s if record is not None and record.facts is not None else KEEP_ALIVE_S
        return IDLE_SHARE * min(kept_s, KEEP_ALIVE_S)

    def close(self) -> None:
        """Let what runs finish, and keep no connection: the server has another address now, or none."""
        self.closed = True
        idle, self._idle = self._idle, []
        for upstream in idle:
            upstream.transport.close()

    # what requests and answers carry

    def make_start(self, x: Exchange) -> bytes:
        """Return the request line and Host of a target that is not always the same."""
        return self._start(x.method, x.target)

    def _start(self, method: bytes, target: bytes) -> bytes:
        return b"%b %b HTTP/1.1\r\n%b" % (method, target, self._host)

    def mark(self, x: Exchange) -> bytes:
        """Return the header fields that are ours, and the end of the head."""
        if x.keep_alive and not x.cors and not x.waited_ms:
            return self._plain_mark
        end = b"\r\n" if x.keep_alive else b"connection: close\r\n\r\n"
        return b"".join((self.tell_wait(x), x.cors, end))

    def tell_wait(self, x: Exchange) -> bytes:
        """Return the header fields that are ours: whose request it was, and how long it was held."""
        return b"%b%d\r\n" % (self._mark, x.waited_ms)

    def tell_end(self, x: Exchange, status: int = 0) -> None:
        """The server's answer was passed on whole with this status; without one it broke off."""
        self._front.tell_end(x, _CLASSES[status // 100] if 200 <= status < 600 else "broken")

    def forget_bytes(self, x: Exchange) -> None:
        """The body has gone on: it is kept no more."""
        self._front.forget_bytes(x)

    def learn(self, x: Exchange, data: bytes) -> bool:
        """Remember the id that an answer carries; True once there is nothing more to look for."""
        return self._front.ids.learn(x, data, self.name)


def wait_of(target: bytes) -> Seconds:
    """Return how long a question at the gate waits: wait_s of its query, GATE_S without one. Raises Refusal."""
    query = target.partition(b"?")[2]
    if not query:
        return GATE_S
    found = re.fullmatch(rb"wait_s=(\d{1,3})", query)
    if found is None:
        raise Refusal(400, "invalid_query", f"wanted wait_s of 0 to 999, found {show(query)}")
    return float(found[1])


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    name: str = ""
    port: int = 0
    path: str = ""


def _address_of(url: str) -> _Address:
    """Return where a configured url leads; its spelling was checked when it was read."""
    if url.startswith("unix:"):
        return _Address("localhost", path=url.removeprefix("unix:"))
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return _Address(parts.netloc, parts.hostname or "", port)
