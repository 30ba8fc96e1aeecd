"""One client's connection: requests in, answers out, in their order. llhttp does the parsing, in strict mode.

Reading goes on while a request is answered, so that a client that leaves is noticed at once; what it pipelines is
parsed and waits, and reading pauses until its turn comes.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import TYPE_CHECKING, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpRequestParser

from sleepd.core.units import Bytes
from sleepd.gateway.errors import LAST_CHUNK, Dialect, Refusal, chunk, error_answer, error_event, internal
from sleepd.gateway.exchange import Exchange
from sleepd.gateway.head import Fields, take_head
from sleepd.gateway.routes import find_route
from sleepd.gateway.settings import (
    BODY_LIMIT,
    BODY_STALLED_S,
    CHUNK_OVERHEAD,
    DISCARDED_LIMIT,
    FIELDS_LIMIT,
    HEAD_LIMIT,
    HEAD_WITHIN_S,
    IDLE_CLIENT_S,
    LEAST_BYTES_S,
    PIPELINED_LIMIT,
    SMALL_BODY,
    UNREAD_S,
)

if TYPE_CHECKING:
    from sleepd.gateway.door import Door
    from sleepd.gateway.front import Front
    from sleepd.gateway.keys import Keys

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def has_hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end was closed; where reading is paused only the kernel knows."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


class ClientConnection(asyncio.Protocol):
    """A uvloop transport's protocol. Whoever answers an exchange calls `write`, and at the end `finished`."""

    __slots__ = (
        "_chunked_fed",
        "_completed",
        "_deaf",
        "_door",
        "_feed",
        "_fields",
        "_front",
        "_head_fed",
        "_in_head",
        "_line",
        "_parser",
        "_reading",
        "_target",
        "_writable",
        "asked",
        "bytes_seen",
        "now",
        "sweeps",
        "transport",
        "verified",
        "verified_by",
        "who",
        "write",
    )

    def __init__(self, front: Front, door: Door) -> None:
        self._front, self._door = front, door
        self._parser = HttpRequestParser(self)
        self._feed = self._parser.feed_data
        self._target = b""
        self._fields: Fields = []
        self._in_head, self._completed, self._deaf, self._writable = True, False, False, True
        self._head_fed = self._chunked_fed = 0
        self._reading: Exchange | None = None
        self.now: Exchange | None = None
        self.asked = False
        """Whether the head of a request ever came."""
        self._line: deque[Exchange] = deque()
        self.sweeps = self.bytes_seen = 0
        self.verified, self.who = b"", ""
        self.verified_by: Keys | None = None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self.write = self.transport.write
        self._front.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.bytes_seen += len(data)
        if self._in_head and len(data) + self._head_fed > HEAD_LIMIT:
            self._receive_much(data)
            return
        self._completed = False
        try:
            self._feed(data)
        except HttpParserError as error:
            self._malformed(error)
            return
        if self._in_head:
            if self._completed:
                self._head_fed = 0
            else:
                self._begin_head()
                self._head_fed += len(data)
        elif self._reading is not None and self._reading.length < 0:
            self._count_chunked(self._reading, len(data))
        if self._line:
            self.transport.pause_reading()

    def _begin_head(self) -> None:
        """A head has its time from its own first byte, however long the connection idled before."""
        if not self._head_fed:
            self.sweeps = 0

    def _count_chunked(self, x: Exchange, fed: Bytes) -> None:
        """Chunk extensions and trailers are no part of a body, nor of what its limits count: they have one here."""
        self._chunked_fed += fed
        if x.refusal is None and self._chunked_fed > 2 * HEAD_LIMIT + CHUNK_OVERHEAD * x.size:
            self._malformed(Refusal(431, "head_too_large", f"wanted trailers of at most {HEAD_LIMIT} bytes"))

    def _receive_much(self, data: bytes) -> None:
        """Give the parser no more of a head than a head may have; what follows a complete one comes after it."""
        view = memoryview(data)
        try:
            while view:
                taken = max(1, HEAD_LIMIT - self._head_fed) if self._in_head else len(view)
                self._completed = False
                self._feed(bytes(view[:taken]))
                view = view[taken:]
                if self._in_head:
                    if self._completed:
                        self._head_fed = 0
                    else:
                        self._begin_head()
                        self._head_fed += taken
                    if self._head_fed >= HEAD_LIMIT:
                        raise Refusal(431, "head_too_large", f"wanted a head of at most {HEAD_LIMIT} bytes")
        except (HttpParserError, Refusal) as error:
            self._malformed(error)
            return
        if self._line:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends nothing more: it has left. A closed socket and a half-closed one look the same to us."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._deaf = True
        for x in (self.now, *self._line):
            if x is not None:
                self._front.tell_end(x, "client_left")
                self._front.abandon(x)
        self.now, self._reading = None, None
        self._line.clear()
        self._front.left(self)
        del self._feed, self._parser  # they hold our methods: without this only the collector would free them

    def pause_writing(self) -> None:
        self._writable = False
        self.sweeps = 0
        if self.now is not None and self.now.upstream is not None:
            self.now.upstream.pause()

    def resume_writing(self) -> None:
        self._writable = True
        self.sweeps = 0
        if self.now is not None and self.now.upstream is not None:
            self.now.upstream.resume()

    def sweep(self) -> None:
        """Look once a second whether the client keeps a pace that can be told from none."""
        self.sweeps += 1
        x = self._reading
        if self._deaf:
            return
        if self.now is not None and not self.transport.is_reading() and has_hung_up(self.transport):
            self.transport.abort()
        elif x is not None and self.transport.is_reading():
            if self.bytes_seen >= LEAST_BYTES_S:
                self.sweeps = self.bytes_seen = 0
            elif self.sweeps > BODY_STALLED_S:
                self._malformed(Refusal(408, "too_slow", f"wanted the body within {BODY_STALLED_S:g} s"))
        elif not self._writable:
            if self.sweeps > UNREAD_S:
                self.transport.abort()
        elif self.now is None and self._head_fed:
            if self.sweeps > HEAD_WITHIN_S:
                self._malformed(Refusal(408, "too_slow", f"wanted the head within {HEAD_WITHIN_S:g} s"))
        elif self.now is None and self.sweeps > IDLE_CLIENT_S:
            self.transport.close()

    @property
    def is_writable(self) -> bool:
        """The client takes what is written; where not, its upstream is not read."""
        return self._writable

    # the parser's side

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._fields) >= FIELDS_LIMIT:
            raise Refusal(431, "head_too_large", f"wanted at most {FIELDS_LIMIT} header fields")
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._deaf:
            raise Refusal(400, "bad_request", "nothing more is read here")
        parser, fields = self._parser, self._fields
        version = parser.get_http_version()
        old = version != "1.1"
        kept = parser.should_keep_alive() and not old
        x = Exchange(self, parser.get_method(), self._target, old=old, keep_alive=kept)
        self._reading, self._in_head, self._head_fed = x, False, 0
        self._chunked_fed = 0
        self._target, self._fields = b"", []
        self.sweeps = self.bytes_seen = 0
        self.asked = True
        if self.now is None:
            self.now = x
        else:
            self._line.append(x)
            if len(self._line) > PIPELINED_LIMIT:
                raise Refusal(429, "too_many_pipelined", f"wanted at most {PIPELINED_LIMIT} requests in advance")
        try:
            if old and version != "1.0":
                raise Refusal(505, "bad_version", "wanted HTTP/1.1 or 1.0", closes=True)
            host = take_head(x, fields)
            x.route, x.name = find_route(x.target)
            self._door.admit(x, host)
            self._front.check(x)
        except Refusal as refusal:
            x.refusal = refusal
        if x.refusal is not None and (x.expects or not 0 <= x.length <= DISCARDED_LIMIT):
            x.keep_alive = False
            if x is self.now:
                self._proceed(x)
        elif x.expects and x.refusal is None:
            if x is self.now:
                self.write(_CONTINUE)
            else:
                message = "a request that was pipelined cannot wait for 100-continue"
                x.refusal = Refusal(417, "bad_expectation", message, closes=True)

    def on_body(self, piece: bytes) -> None:
        x = self._reading
        if x is None or x.refusal is not None:
            return
        x.size += len(piece)
        if x.upstream is not None:
            if x.size > BODY_LIMIT:
                raise Refusal(413, "body_too_large", f"wanted a body of at most {BODY_LIMIT} bytes")
            x.upstream.send_body(piece)
            return
        x.parts.append(piece)
        if x.size > SMALL_BODY:
            self._look_at_large(x, piece)

    def _look_at_large(self, x: Exchange, piece: bytes) -> None:
        try:
            if self._front.look_at_large(x, piece) and x is self.now:
                self._front.dispatch(x)
        except Refusal as refusal:
            self._refuse_midway(x, refusal)

    def on_message_complete(self) -> None:
        x, self._reading = self._reading, None
        self._in_head, self._completed = True, True
        if self._fields:
            self._fields = []  # a trailer's fields say nothing to us
        if x is not None:
            x.complete = True
            if x is self.now:
                self._proceed(x)

    # answers

    def _proceed(self, x: Exchange) -> None:
        """Answer the request that is first in line, as far as it has come."""
        try:
            if x.refusal is not None:
                raise x.refusal
            if x.upstream is not None:
                x.upstream.end_body()
            elif x.lane is None:
                self._front.dispatch(x)
        except Refusal as refusal:
            self.refuse(x, refusal)
        except Exception as error:
            x.leave_gate()
            self.refuse(x, internal(error))

    def refuse(self, x: Exchange, refusal: Refusal) -> None:
        """Answer with a refusal of the gateway's own; the exchange is over then."""
        if x.gone:
            return
        if refusal.closes or not x.complete:
            x.keep_alive = False
        dialect = x.route.dialect if x.route is not None else Dialect.OPENAI
        if x.beaten:
            self.write(chunk(error_event(refusal, dialect)) + LAST_CHUNK)
        else:
            self.write(error_answer(refusal, dialect, fields=x.cors, closes=not x.keep_alive, bare=x.bare))
        self._front.tell_end(x, refusal.code)
        self._front.abandon(x)  # wherever it had come to: what was answered is held, counted and sent no more
        self.finished(x)

    def _refuse_midway(self, x: Exchange, refusal: Refusal) -> None:
        """Refuse a body while it arrives: now where it is its turn, else when that comes."""
        x.parts.clear()
        x.refusal, x.keep_alive = refusal, False
        self._front.forget_bytes(x)
        if x is self.now:
            self.refuse(x, refusal)

    def finished(self, x: Exchange) -> None:
        """The answer has been written whole: the next request has its turn, or the connection ends."""
        self.now = None
        self.sweeps = 0
        if not x.keep_alive or not x.complete or self._front.closing:
            self.close()
        elif self._line:
            self.now = self._line.popleft()
            if not self._line:
                self.transport.resume_reading()
            if self.now.complete or self.now.refusal is not None:
                asyncio.get_running_loop().call_soon(self._go_on, self.now)
        elif not self.transport.is_reading():
            self.transport.resume_reading()  # its server took the body slowly, and answered before the last of it

    def read_on(self) -> None:
        """Read again what comes, unless a request waits for its turn already."""
        if not self._line:
            self.transport.resume_reading()

    def _go_on(self, x: Exchange) -> None:
        if x is self.now:
            self._proceed(x)

    def _malformed(self, error: Exception) -> None:
        """Answer what cannot be parsed, behind what is being answered; nothing after it is read."""
        if self._deaf:
            return
        refusal = self._refusal_of(error)
        x = self._reading
        self._reading, self._deaf = None, True
        if x is None:
            self._add_refused(refusal)
        elif x.lane is None:
            self._refuse_midway(x, x.refusal or refusal)
        else:
            self._front.abandon(x)  # its body ends in nonsense: the server must not take it for whole
            self.transport.abort()

    def _refusal_of(self, error: Exception) -> Refusal:
        """Return what a client is told of an error of the parser, or of ours inside one of its callbacks."""
        cause = error if isinstance(error, Refusal) else error.__context__
        if isinstance(cause, Refusal):
            return cause
        if isinstance(error, HttpParserCallbackError):
            return internal(cause or error)
        return Refusal(400, "bad_request", f"this is not HTTP/1.1: {error}", closes=True)

    def _add_refused(self, refusal: Refusal) -> None:
        """What is no request at all is refused in its turn."""
        bad = Exchange(self, b"", b"", old=False, keep_alive=False)
        bad.refusal, bad.complete, refusal.closes = refusal, True, True
        if self.now is None:
            self.now = bad
            self.refuse(bad, refusal)
        elif self.now.keep_alive:
            self._line.append(bad)

    def close(self) -> None:
        """Say that nothing more comes, and end once the client has seen it: closing with unread bytes loses them."""
        self._deaf = True
        for x in self._line:
            self._front.abandon(x)
        self._line.clear()
        if not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()  # what is still sent is dropped: unread it would cost the answer
        self._front.linger(self)
