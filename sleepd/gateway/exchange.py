"""One request and its answer, from the first byte of the head to the last of the answer."""

from __future__ import annotations

from asyncio import TimerHandle
from typing import TYPE_CHECKING, Protocol

from sleepd.gateway.errors import Refusal, chunk, heartbeat
from sleepd.gateway.peek import Wanted
from sleepd.gateway.routes import Route

_BEAT_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n"
)

if TYPE_CHECKING:
    from sleepd.gateway.client import ClientConnection
    from sleepd.gateway.lane import Lane
    from sleepd.gateway.upstream import Upstream


class Scan(Protocol):
    """Looks through a body as it arrives."""

    found: Wanted

    def feed(self, piece: bytes) -> None: ...


class Exchange:
    """Plain data that client, lane and upstream share; each sets what it alone knows. `client` leaves by `gone`.

    `fields` are the header fields that go upstream, complete with CRLF; `credentials` are the client's own ones, which
    go only where neither the gateway nor the model has a key. `length` is the declared one, -1: chunked or none yet.
    `inside`: counted by its lane's gate. `waited_ms` is what the client is told. `beaten`: status 200 and heartbeats
    went out already, so whatever comes now must be an event. `told`: what became of it was counted.
    """

    __slots__ = (
        "api_key",
        "authorization",
        "beaten",
        "client",
        "complete",
        "content_type",
        "cors",
        "counted",
        "credentials",
        "expects",
        "fields",
        "foreign",
        "gone",
        "held_at_s",
        "inside",
        "keep_alive",
        "lane",
        "length",
        "limit_s",
        "method",
        "name",
        "old",
        "origin",
        "parts",
        "refusal",
        "route",
        "scan",
        "size",
        "stream",
        "target",
        "timer",
        "told",
        "upstream",
        "waited_ms",
        "who",
    )

    route: Route | None
    length: int
    authorization: bytes
    api_key: bytes
    origin: bytes
    content_type: bytes
    limit_s: float
    scan: Scan | None
    lane: Lane | None
    upstream: Upstream | None
    refusal: Refusal | None
    timer: TimerHandle | None

    def __init__(self, client: ClientConnection, method: bytes, target: bytes, *, old: bool, keep_alive: bool) -> None:
        self.client, self.method, self.target, self.old, self.keep_alive = client, method, target, old, keep_alive
        self.parts: list[bytes] = []
        self.size = self.counted = self.waited_ms = self.length = 0
        self.complete = self.inside = self.gone = self.beaten = self.stream = self.expects = self.foreign = False
        self.told = False
        self.route = self.scan = self.lane = self.upstream = self.refusal = self.timer = None
        self.fields = self.credentials = self.cors = b""
        self.authorization = self.api_key = self.origin = self.content_type = b""
        self.name = self.who = ""
        self.held_at_s = 0.0
        """When it began to wait for its model; 0.0: it never did."""

    @property
    def learns(self) -> bool:
        """Its answer carries an id that later requests name."""
        return self.route is not None and self.route.learns

    @property
    def bare(self) -> bool:
        """The answer has a head only."""
        return self.method == b"HEAD"

    # as one of those who wait for a model

    @property
    def is_stream(self) -> bool:
        """Heartbeats may be due to it."""
        return (self.stream or not self.complete) and not self.old

    @property
    def goes_on(self) -> bool:
        """It is sent to the server, and not answered here."""
        return self.route is not None and self.route.page is None

    def beat(self, now_s: float) -> None:
        """Send a heartbeat, where it is known to be a stream by now and its client takes it."""
        if not (self.stream and self.complete and self.client.is_writable):
            return
        assert self.lane is not None
        assert self.route is not None
        head = b""
        if not self.beaten:
            self.beaten = True
            self.waited_ms = int((now_s - self.held_at_s) * 1000)
            head = _BEAT_HEAD + self.lane.mark(self)
        self.client.write(head + chunk(heartbeat(self.route.dialect)))

    def refuse(self, refusal: Refusal) -> None:
        self.client.refuse(self, refusal)

    def let_in(self, lane: Lane) -> None:
        lane.take_again(self)

    def let_through(self) -> None:
        """The question at the gate is answered: the model is awake and held so."""
        assert self.lane is not None
        self.client.write(b"HTTP/1.1 204 No Content\r\n" + self.lane.mark(self))
        self.lane.tell_end(self, 204)
        self.client.finished(self)

    @property
    def is_untouched(self) -> bool:
        """It was read whole and is not being answered: nobody but its client would miss it."""
        return self.complete and self.refusal is None and not self.inside and self.upstream is None

    def leave_gate(self) -> None:
        """Count the request out of its gate, once."""
        if self.inside:
            self.inside = False
            assert self.lane is not None
            self.lane.gate.leave()
