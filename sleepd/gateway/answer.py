"""An answer's head, and the body's framing where a client cannot take the server's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sleepd.gateway.errors import LAST_CHUNK, Dialect, chunk, servers_error_event
from sleepd.gateway.settings import ERROR_BODY_LIMIT

if TYPE_CHECKING:
    from sleepd.gateway.exchange import Exchange

_KEEP, _DROP, _LENGTH, _ENCODING, _CONNECTION, _TYPE = range(6)
_KINDS = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"connection": _CONNECTION,
    b"content-type": _TYPE,
    **dict.fromkeys((b"date", b"server", b"vary", b"x-request-id", b"cache-control"), _KEEP),
    **dict.fromkeys((b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"upgrade"), _DROP),
    **dict.fromkeys((b"x-sleepd-model", b"x-sleepd-waited-ms"), _DROP),
}
_CORS = b"access-control-"


def _kind_of(name: bytes) -> int:
    """Return the kind of a field that is not written as uvicorn writes it."""
    low = name.lower()
    return _DROP if low.startswith(_CORS) else _KINDS.get(low, _KEEP)


@dataclass(slots=True)
class AnswerHead:
    """`fields` complete with CRLF; `until_end`: neither a length nor chunks, so that the connection's end ends it."""

    status: int
    fields: list[bytes]
    chunked: bool
    length: int
    event_stream: bool

    @property
    def until_end(self) -> bool:
        return not self.chunked and self.length < 0 and self.status not in (204, 304)


def take_answer_head(fields: list[tuple[bytes, bytes]], status: int) -> AnswerHead | None:
    """Return the head without what was meant for our hop only; None where its framing is beyond passing on."""
    out: list[bytes] = []
    chunked, length, events = False, -1, False
    named = b""
    for name, value in fields:
        kind = _KINDS.get(name)
        if kind is None:
            kind = _kind_of(name)
        if kind == _DROP:
            continue
        if kind == _LENGTH:
            length = int(value)
        elif kind == _TYPE:
            events = value[:17].lower() == b"text/event-stream"
        elif kind == _ENCODING:
            if value.lower() != b"chunked":
                return None
            chunked = True
        elif kind == _CONNECTION:
            named += b"," + value.lower()
            continue
        out += (name, b": ", value, b"\r\n")
    if named and named not in (b",close", b",keep-alive"):
        names = {token.strip() for token in named.split(b",")} - {b"transfer-encoding", b"content-length"}
        out = [p for at in range(0, len(out), 4) if out[at].lower() not in names for p in out[at : at + 4]]
    return AnswerHead(status, out, chunked, length, events)


class Reframing:
    """Frames an answer's body for a client that cannot have the server's own framing.

    HTTP/1.0: without chunks, ended by the connection. After heartbeats: as chunks of the answer begun then, and an
    error status as the one event that it has become.
    """

    def __init__(self, x: Exchange) -> None:
        self._x = x
        self._pieces: list[bytes] = []
        self._error: bytearray | None = None
        self._begun = False
        self._status = 0

    def follow(self, upstream: Any) -> Any:
        """Return what the parser calls: the upstream itself, and `on_body` of this."""
        return _Followed(upstream, self._take)

    def _take(self, piece: bytes) -> None:
        if self._error is None:
            self._pieces.append(piece)
        elif len(self._error) < ERROR_BODY_LIMIT:
            self._error += piece

    def begin(self, head: AnswerHead, line: bytes) -> None:
        """Write the head where none went out yet."""
        x = self._x
        self._begun, self._status = True, head.status
        if x.beaten:
            if head.status != 200 or not head.event_stream:
                self._error = bytearray(b"".join(self._pieces))
                self._pieces.clear()
        else:
            fields = [p for at in range(0, len(head.fields), 4) for p in self._kept(head.fields[at : at + 4])]
            assert x.lane is not None
            x.client.write(b"".join((b"HTTP/1.1", line[8:], *fields, x.lane.mark(x))))
        self.flush()

    def _kept(self, field: list[bytes]) -> list[bytes]:
        return [] if field[0].lower() in (b"transfer-encoding", b"trailer") else field

    def flush(self) -> None:
        """Write what came of the body."""
        if not self._begun or not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        self._x.client.write(b"".join(map(chunk, pieces) if self._x.beaten else pieces))

    def end(self) -> None:
        """Write what ends the body."""
        x = self._x
        if not x.beaten:
            return
        last = LAST_CHUNK
        if self._error is not None:
            dialect = x.route.dialect if x.route is not None else Dialect.OPENAI
            last = chunk(servers_error_event(self._status, bytes(self._error), dialect)) + last
        x.client.write(last)


class _Followed:
    """The parser's protocol: an upstream's callbacks, with one for the body."""

    def __init__(self, upstream: Any, on_body: Any) -> None:
        self.on_body = on_body
        self.on_message_begin = upstream.on_message_begin
        self.on_header = upstream.on_header
        self.on_headers_complete = upstream.on_headers_complete
        self.on_message_complete = upstream.on_message_complete
