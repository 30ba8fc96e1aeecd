"""One client's connection: requests in, answers out, in their order. llhttp does the parsing, in strict mode.

Reading goes on while a request is answered, so that a client that leaves is noticed at once; what it pipelines is
parsed and waits, and reading pauses until its turn comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpRequestParser

from sleepd.core.units import Bytes
from sleepd.gateway.errors import Refusal, internal
from sleepd.gateway.exchange import Exchange
from sleepd.gateway.head import Fields
from sleepd.gateway.refusing import refusal_bytes, refusal_of
from sleepd.gateway.settings import (
    BODY_LIMIT,
    CHUNK_OVERHEAD,
    DISCARDED_LIMIT,
    FIELDS_LIMIT,
    HEAD_LIMIT,
    PIPELINED_LIMIT,
    SMALL_BODY,
)

if TYPE_CHECKING:
    from sleepd.gateway.door import Door
    from sleepd.gateway.front import Front
    from sleepd.gateway.keys import Keys

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientConnection(asyncio.Protocol):
    """A uvloop transport's protocol. Whoever answers an exchange calls `write`, and at the end `finished`.

    `reading`: the request whose body still comes. `is_midway`: a request has come in part. `now` is being answered,
    `line` comes after it. `deaf`: what comes is dropped. `is_writable`: the client takes what is written; where not,
    its upstream is not read. `sweeps`, `bytes_seen`, `head_fed`: see gateway/pace.py.
    """

    __slots__ = (
        "_chunked_fed",
        "_completed",
        "_door",
        "_feed",
        "_fields",
        "_front",
        "_in_head",
        "_parser",
        "_target",
        "asked",
        "bytes_seen",
        "deaf",
        "head_fed",
        "is_midway",
        "is_writable",
        "line",
        "now",
        "reading",
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
        self._in_head, self._completed, self.deaf, self.is_writable = True, False, False, True
        self.is_midway = False
        self.head_fed = self._chunked_fed = 0
        self.reading: Exchange | None = None
        self.now: Exchange | None = None
        self.asked = False
        """Whether the head of a request ever came."""
        self.line: deque[Exchange] = deque()
        self.sweeps = self.bytes_seen = 0
        self.verified, self.who = b"", ""
        self.verified_by: Keys | None = None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self.write = self.transport.write
        self._front.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        self.bytes_seen += len(data)
        if self._in_head and len(data) + self.head_fed > HEAD_LIMIT:
            self._receive_much(data)
            return
        self._completed = False
        try:
            self._feed(data)
        except HttpParserError as error:
            self.give_up(error)
            return
        if self._in_head:
            self._count_head(len(data))
        elif self.reading is not None and self.reading.length < 0:
            self._count_chunked(self.reading, len(data))
        if self.line:
            self.transport.pause_reading()

    def _count_head(self, fed: Bytes) -> None:
        """A head has its time from its own first byte, however long the connection idled before."""
        if self._completed:
            self.head_fed = 0
            return
        if not self.head_fed:
            self.sweeps = 0
        self.head_fed += fed

    def _count_chunked(self, x: Exchange, fed: Bytes) -> None:
        """Chunk extensions and trailers are no part of a body, nor of what its limits count: they have one here."""
        self._chunked_fed += fed
        if x.refusal is None and self._chunked_fed > 2 * HEAD_LIMIT + CHUNK_OVERHEAD * x.size:
            self.give_up(Refusal(431, "head_too_large", f"wanted trailers of at most {HEAD_LIMIT} bytes"))

    def _receive_much(self, data: bytes) -> None:
        """Give the parser no more of a head than a head may have; what follows a complete one comes after it."""
        view = memoryview(data)
        try:
            while view:
                taken = max(1, HEAD_LIMIT - self.head_fed) if self._in_head else len(view)
                self._completed = False
                self._feed(bytes(view[:taken]))
                view = view[taken:]
                if self._in_head:
                    self._count_head(taken)
                    if self.head_fed >= HEAD_LIMIT:
                        raise Refusal(431, "head_too_large", f"wanted a head of at most {HEAD_LIMIT} bytes")
        except (HttpParserError, Refusal) as error:
            self.give_up(error)
            return
        if self.line:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends nothing more: it has left. A closed socket and a half-closed one look the same to us."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.deaf = True
        for x in (self.now, *self.line):
            if x is not None:
                self._front.tell_end(x, "client_left")
                self._front.abandon(x)
        self.now, self.reading = None, None
        self.line.clear()
        self._front.left(self)
        del self._feed, self._parser  # they hold our methods: without this only the collector would free them

    def pause_writing(self) -> None:
        self.is_writable = False
        self.sweeps = 0
        if self.now is not None and self.now.upstream is not None:
            self.now.upstream.pause()

    def resume_writing(self) -> None:
        self.is_writable = True
        self.sweeps = 0
        if self.now is not None and self.now.upstream is not None:
            self.now.upstream.resume()

    # the parser's side

    def on_message_begin(self) -> None:
        self.is_midway = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._fields) >= FIELDS_LIMIT:
            raise Refusal(431, "head_too_large", f"wanted at most {FIELDS_LIMIT} header fields")
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self.deaf:
            raise Refusal(400, "bad_request", "nothing more is read here")
        parser, fields = self._parser, self._fields
        version = parser.get_http_version()
        old = version != "1.1"
        kept = parser.should_keep_alive() and not old
        x = Exchange(self, parser.get_method(), self._target, old=old, keep_alive=kept)
        self.reading, self._in_head, self.head_fed = x, False, 0
        self._target, self._fields = b"", []
        self.sweeps = self.bytes_seen = self._chunked_fed = 0
        self.asked = True
        if self.now is None:
            self.now = x
        else:
            self.line.append(x)
            if len(self.line) > PIPELINED_LIMIT:
                raise Refusal(429, "too_many_pipelined", f"wanted at most {PIPELINED_LIMIT} requests in advance")
        self._front.admit(x, fields, version, self._door)
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
        x = self.reading
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
        x, self.reading = self.reading, None
        self._in_head, self._completed, self.is_midway = True, True, False
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
            elif x.lane is None and not self._front.handing_over:
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
        self.write(refusal_bytes(x, refusal))
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
        elif self.line:
            self.now = self.line.popleft()
            if not self.line:
                self.transport.resume_reading()
            if self.now.complete or self.now.refusal is not None:
                asyncio.get_running_loop().call_soon(self.go_on, self.now)
        elif not self.transport.is_reading():
            self.transport.resume_reading()  # its server took the body slowly, and answered before the last of it

    def read_on(self) -> None:
        """Read again what comes, unless a request waits for its turn already."""
        if not self.line:
            self.transport.resume_reading()

    def go_on(self, x: Exchange) -> None:
        """Begin with the request, if it still is the first in line."""
        if x is self.now:
            self._proceed(x)

    def give_up(self, error: Exception) -> None:
        """Answer what cannot be parsed or comes too slowly, behind what is being answered; nothing after it is read."""
        if self.deaf:
            return
        refusal = refusal_of(error)
        x = self.reading
        self.reading, self.deaf = None, True
        if x is None:
            self._add_refused(refusal)
        elif x.lane is None:
            self._refuse_midway(x, x.refusal or refusal)
        else:
            self._front.abandon(x)  # its body ends in nonsense: the server must not take it for whole
            self.transport.abort()

    def _add_refused(self, refusal: Refusal) -> None:
        """What is no request at all is refused in its turn."""
        bad = Exchange(self, b"", b"", old=False, keep_alive=False)
        bad.refusal, bad.complete, refusal.closes = refusal, True, True
        if self.now is None:
            self.now = bad
            self.refuse(bad, refusal)
        elif self.now.keep_alive:
            self.line.append(bad)

    def close(self) -> None:
        """Say that nothing more comes, and end once the client has seen it: closing with unread bytes loses them."""
        self.deaf = True
        for x in self.line:
            self._front.abandon(x)
        self.line.clear()
        if not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()  # what is still sent is dropped: unread it would cost the answer
        self._front.linger(self)
