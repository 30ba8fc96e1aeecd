"""One connection to a model's server: a request goes out, its answer's bytes are handed to the client as they come.

llhttp follows the answer in strict mode and says where it ends; it is never framed anew, so no chunk is merged or
delayed. Only where the client cannot take the server's framing (HTTP/1.0, or heartbeats went out) the body is.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpResponseParser

from sleepd.gateway.answer import Reframing, take_answer_head
from sleepd.gateway.errors import LAST_CHUNK, Refusal, chunk
from sleepd.gateway.settings import HEAD_LIMIT, SURE_UPSTREAM_S

if TYPE_CHECKING:
    from sleepd.gateway.exchange import Exchange
    from sleepd.gateway.lane import Lane

_IDLE, _HEAD, _BODY, _REFRAMED, _LEARNING = range(5)
_END = b"\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Serves one exchange at a time: `begin`, then `send_body` and `end_body` where its body was not whole yet."""

    __slots__ = (
        "_again",
        "_done",
        "_feed",
        "_fields",
        "_interim",
        "_keeps",
        "_lane",
        "_parser",
        "_paused",
        "_raw",
        "_reframing",
        "_stage",
        "_to_end",
        "exchange",
        "good_until_s",
        "idle_since_s",
        "is_fresh",
        "status",
        "transport",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._stage = _IDLE
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._fields: list[tuple[bytes, bytes]] = []
        self._raw = b""
        self._interim = self.status = 0
        self._done = self._again = self._keeps = self._to_end = self._paused = False
        self._reframing: Reframing | None = None
        self.exchange: Exchange | None = None
        self.idle_since_s = self.good_until_s = 0.0
        self.is_fresh = True

    # towards the server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def begin(self, x: Exchange) -> None:
        """Send the request, as much of it as has come; its answer goes to its client."""
        self.exchange, x.upstream, self._stage = x, self, _HEAD
        if x.old or x.beaten:
            self._reframing = Reframing(x)
            self._parser = HttpResponseParser(self._reframing.follow(self))
            self._feed = self._parser.feed_data
        if x.complete:
            length = b"content-length: %d\r\n\r\n" % x.size if x.method == b"POST" else b"\r\n"
        elif x.length >= 0:
            length = b"content-length: %d\r\n\r\n" % x.length
        else:
            length = b"transfer-encoding: chunked\r\n\r\n"
        lane = self._lane
        start = lane.starts.get(x.target) or lane.make_start(x)
        head = (start, x.fields, lane.credentials or x.credentials, length)
        if x.complete and len(x.parts) <= 2:
            self.transport.write(b"".join((*head, *x.parts)))
        else:
            self.transport.write(b"".join(head))
            plain = x.complete or x.length >= 0
            self.transport.writelines(x.parts if plain else [p for part in x.parts for p in _framed(part)])
        x.parts = []
        if x.counted:
            lane.forget_bytes(x)
        if not x.client.is_writable:
            self.pause()

    def send_body(self, piece: bytes) -> None:
        """Send what has come of the body since."""
        x = self.exchange
        if x is not None:
            self.transport.write(piece if x.length >= 0 else chunk(piece))

    def end_body(self) -> None:
        """The body has come whole."""
        if self.exchange is not None and self.exchange.length < 0:
            self.transport.write(LAST_CHUNK)

    def pause(self) -> None:
        """Read nothing more for now: the client does not take it."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.exchange is not None and not self.exchange.complete:
            self.exchange.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.read_on()

    def is_quiet(self, now_s: float) -> bool:
        """Whether the connection can be used again: where it idled for a while the kernel is asked, as its server may
        have closed it a moment ago."""
        idle_s = now_s - self.idle_since_s
        if now_s >= self.good_until_s or self.transport.is_closing():
            return False
        if idle_s < SURE_UPSTREAM_S:
            return True
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def abort(self) -> None:
        """End the connection and with it what the server does for the exchange, whose client has left."""
        self.exchange = None
        self.transport.abort()

    # from the server

    def data_received(self, data: bytes) -> None:
        x = self.exchange
        if x is None:
            self.transport.abort()  # nobody asked for anything
            return
        try:
            self._feed(data)
        except HttpParserError as error:
            self._fail(x, f"its answer is not HTTP/1.1: {error}")
            return
        stage = self._stage
        if stage == _BODY:
            if not self._again:
                x.client.write(data)
        elif stage == _HEAD:
            self._raw += data
            if self.status == 0:
                if len(self._raw) > HEAD_LIMIT:
                    self._fail(x, f"the head of its answer is larger than {HEAD_LIMIT} bytes")
                return
            if not self._begin_answer(x):
                return
        elif not self._again:
            self._pass_on(x, data)
        if self._done:
            self._end_answer(x, data)

    def _pass_on(self, x: Exchange, data: bytes) -> None:
        """Hand a piece of the body on where more is to be done than that."""
        if self._reframing is not None:
            self._reframing.flush()
            return
        x.client.write(data)
        if self._lane.learn(x, data):
            self._stage = _BODY

    def _begin_answer(self, x: Exchange) -> bool:
        """Write the head of the answer, and what came of the body behind it."""
        raw, self._raw = self._raw, b""
        at = 0
        for _ in range(self._interim + 1):
            begin = at
            at = raw.find(_END, at) + 4
        head = take_answer_head(self._fields, self.status)
        if head is None or raw[begin : begin + 7] != b"HTTP/1.":
            self._fail(x, "the head of its answer cannot be passed on")
            return False
        self._fields, self._interim = [], 0
        self._to_end = head.until_end and not self._done
        if self._again:
            self._fail(x, "it sent more than one answer")
            return False
        if self._reframing is not None:
            self._stage = _REFRAMED
            self._reframing.begin(head, raw[begin : raw.find(b"\r\n", begin) + 2])
            return True
        self._stage = _BODY
        if self._to_end:
            x.keep_alive = False
        line = raw[begin + 8 : raw.find(b"\r\n", begin) + 2]
        x.client.write(b"".join((b"HTTP/1.1", line, *head.fields, self._lane.mark(x), raw[at:])))
        if x.learns and not self._lane.learn(x, raw[at:]):
            self._stage = _LEARNING
        return True

    def _end_answer(self, x: Exchange, data: bytes) -> None:
        """The answer is whole: the connection is free for the next one, or ends. After a 5xx it does: uvicorn closes it
        without a word where the application failed (httptools_impl.py, run_asgi)."""
        self._done = False
        status, self.status = self.status, 0
        self._lane.tell_end(x, status)
        self.exchange, self._stage = None, _IDLE
        if self._again or data[-6:] == b"\r\n\r\n\r\n":
            # More than the answer came: to whom it belongs cannot be known, so that it reaches nobody.
            self.transport.abort()
            x.keep_alive = False
        elif self._keeps and status < 500 and x.complete and self._reframing is None and not self._lane.closed:
            self.is_fresh = False
            self.resume()
            self._lane.give_back(self)
        else:
            self.transport.close()
        x.upstream = None
        x.leave_gate()
        if self._reframing is not None:
            self._reframing.end()
        x.client.finished(x)

    def connection_lost(self, error: Exception | None) -> None:
        x, self.exchange = self.exchange, None
        self._lane.lost(self)
        if x is not None:
            if self._stage > _HEAD and self._to_end and error is None:
                x.upstream = None
                self._lane.tell_end(x, self.status)
                x.leave_gate()
                if self._reframing is not None:
                    self._reframing.flush()
                    self._reframing.end()
                x.client.finished(x)
            else:
                why = f"the connection broke: {error}" if error is not None else "it closed the connection"
                self._give_up(x, f"{why} before its answer was whole")
        del self._feed, self._parser

    def _fail(self, x: Exchange, why: str) -> None:
        self.exchange = None
        self.transport.abort()
        self._give_up(x, why)

    def _give_up(self, x: Exchange, why: str) -> None:
        """Tell the client what became of the answer; where bytes of it went out already, only by breaking off.

        It is never sent again: the server may have worked on it.
        """
        begun = self._stage > _HEAD
        self._stage = _IDLE
        x.upstream = None
        x.leave_gate()
        if begun:
            self._lane.tell_end(x)
            x.client.transport.abort()
        elif not self.is_fresh and x.method == b"GET" and not x.gone:
            self._lane.take_again(x)
        else:
            message = f"the server of {self._lane.name} gave no answer: {why}"
            x.client.refuse(x, Refusal(502, "bad_upstream", message, retry_after_s=1))

    # the parser's side

    def on_message_begin(self) -> None:
        if self._done:
            self._again = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # what comes behind the head is a trailer, and stays where it is
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
        elif status == 101:
            raise ValueError("another protocol")

    def on_message_complete(self) -> None:
        if self.status:
            self._done, self._keeps = True, self._parser.should_keep_alive()
        else:
            self._interim += 1
            self._fields = []


def _framed(part: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a chunk without copying it."""
    return b"%x\r\n" % len(part), part, b"\r\n"
