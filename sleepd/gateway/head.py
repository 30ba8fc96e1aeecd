"""A request's head: which fields go on to the server, which stay here, and what is refused.

llhttp has parsed it in strict mode: names are tokens, values hold no control characters, no line is folded, no length
is doubled or beside a transfer encoding. What is checked here is what one hop must decide for itself (RFC 9110, 7.6).
"""

from __future__ import annotations

from sleepd.gateway.errors import Refusal
from sleepd.gateway.exchange import Exchange
from sleepd.gateway.routes import show

(
    _KEEP,
    _DROP,
    _HOST,
    _CONNECTION,
    _LENGTH,
    _ENCODING,
    _EXPECT,
    _UPGRADE,
    _AUTH,
    _API_KEY,
    _ORIGIN,
    _TYPE,
    _CODING,
    _SITE,
) = range(14)

_KINDS = {
    b"connection": _CONNECTION,
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authorization": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"http2-settings": _DROP,
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
    b"authorization": _AUTH,
    b"x-api-key": _API_KEY,
    b"origin": _ORIGIN,
    b"sec-fetch-site": _SITE,
    b"content-type": _TYPE,
    b"content-encoding": _CODING,
    **dict.fromkeys((b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"x-request-id"), _KEEP),
    **dict.fromkeys((b"anthropic-version", b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip"), _KEEP),
}
_KINDS |= {name.title(): kind for name, kind in _KINDS.items()}
"""Looked up as written first: nearly every client writes names in lower case or Like-This."""

Fields = list[tuple[bytes, bytes]]


def take_head(x: Exchange, fields: Fields) -> bytes:
    """Set what the fields say, and return Host, empty where an HTTP/1.0 request has none. Raises Refusal."""
    host: bytes | None = None
    chunked = False
    named: bytes | None = None
    out: list[bytes] = []
    for name, value in fields:
        kind = _KINDS.get(name)
        if kind is None:
            kind = _KINDS.get(name.lower(), _KEEP)
        if kind == _KEEP:
            out += (name, b": ", value, b"\r\n")
        elif kind == _HOST:
            if host is not None:
                raise _bad("wanted one Host field, found two")
            host = value
        elif kind == _TYPE:
            x.content_type = value
            out += (name, b": ", value, b"\r\n")
        elif kind == _LENGTH:
            x.length = int(value)
        elif kind == _AUTH:
            x.authorization = value
        elif kind == _CONNECTION:
            named = value if named is None else named + b"," + value
        elif kind != _DROP:
            chunked = _take_rare(x, kind, value) or chunked
    if chunked:
        x.length = -1
    if host is None and not x.old:
        raise _bad("wanted a Host field, found none")
    if named is not None and named.lower() not in (b"keep-alive", b"close"):
        out = _without(out, named)
    x.fields = b"".join(out)
    return host or b""


def _take_rare(x: Exchange, kind: int, value: bytes) -> bool:
    """Take a field that few requests have; True where it says that the body is chunked."""
    if kind == _API_KEY:
        x.api_key = value
    elif kind == _ORIGIN:
        if x.origin:
            raise _bad("wanted one Origin field, found two")
        x.origin = value
    elif kind == _ENCODING:
        if value.lower() != b"chunked" or x.old:
            raise _bad(f"wanted the transfer encoding chunked of HTTP/1.1, found {show(value)}")
        return True
    elif kind == _SITE:
        x.foreign = value.lower() not in (b"none", b"same-origin")
    elif kind == _EXPECT:
        if value.lower() != b"100-continue":
            raise Refusal(417, "bad_expectation", f"wanted 100-continue, found {show(value)}", closes=True)
        x.expects = not x.old
    elif kind == _UPGRADE:
        raise _bad("there is no other protocol here: send the request as HTTP/1.1 without an Upgrade field")
    elif kind == _CODING and value.lower() != b"identity":
        raise Refusal(415, "bad_encoding", f"wanted a body without content encoding, found {show(value)}", closes=True)
    return False


def _without(out: list[bytes], named: bytes) -> list[bytes]:
    """Leave out the fields that Connection names: they were meant for this hop only (RFC 9110, 7.6.1)."""
    names = {token.strip().lower() for token in named.split(b",")}
    kept: list[bytes] = []
    for at in range(0, len(out), 4):
        if out[at].lower() not in names:
            kept += out[at : at + 4]
    return kept


def credentials_of(x: Exchange) -> bytes:
    """Return the client's own credentials as header fields."""
    sent = b"authorization: " + x.authorization + b"\r\n" if x.authorization else b""
    return sent + b"x-api-key: " + x.api_key + b"\r\n" if x.api_key else sent


def traceparent_of(fields: bytes) -> str:
    """Return the client's trace context among the fields that go on, empty where it sent none that is one."""
    at = fields.lower().find(b"traceparent: ")
    value = fields[at + 13 : at + 13 + 55] if at == 0 or fields[at - 2 : at] == b"\r\n" else b""
    return value.decode("latin-1") if value[:3] == b"00-" else ""


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad_request", message, closes=True)
