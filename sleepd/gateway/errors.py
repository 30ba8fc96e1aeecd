"""Refusals: what a client is told, in the words and shapes of the API that it speaks.

OpenAI: https://platform.openai.com/docs/guides/error-codes; its clients retry 408, 409, 429 and 5xx, and go by
Retry-After. Anthropic: https://docs.claude.com/en/api/errors.
"""

import asyncio
import json
import math
from enum import Enum
from http import HTTPStatus
from typing import Any

from sleepd.core.units import Seconds

WORDS_LIMIT = 1000
"""Bytes of a server's refusal that are told where it is no JSON object."""


class Dialect(Enum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Refusal(Exception):
    """One answer of the gateway's own. `code` is stable and machine-readable, `message` a sentence.

    `retry_after_s`: AT_ONCE_S (core/wishes.py) at least. `fields` are further header fields, complete with CRLF.
    `closes`: what follows on the connection cannot be trusted or is not wanted.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: Seconds | None = None,
        closes: bool = False,
        fields: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after_s, self.closes, self.fields = retry_after_s, closes, fields


def internal(error: BaseException) -> Refusal:
    """Report an error of our own to the event loop's handler, and return what a client is told of it."""
    told = {"message": "an error inside the gateway", "exception": error}
    asyncio.get_running_loop().call_exception_handler(told)
    return Refusal(500, "internal", "an error inside sleepd; its log has the details", closes=True)


_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(refusal: Refusal, dialect: Dialect) -> dict[str, Any]:
    """Return the API's own error object."""
    status = refusal.status
    if dialect is Dialect.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": refusal.message}}
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}


def error_answer(refusal: Refusal, dialect: Dialect, *, fields: bytes, closes: bool, bare: bool = False) -> bytes:
    """Return the whole HTTP answer; `bare` leaves the body out, as HEAD wants it."""
    body = json.dumps(error_body(refusal, dialect), ensure_ascii=False).encode()
    fields += refusal.fields
    if refusal.retry_after_s is not None:
        fields += b"retry-after: %d\r\n" % math.ceil(refusal.retry_after_s)
    return json_answer(refusal.status, body, fields=fields, closes=closes, bare=bare)


def json_answer(status: int, body: bytes, *, fields: bytes = b"", closes: bool = False, bare: bool = False) -> bytes:
    """Return an HTTP answer with a JSON body; without a body where the status has none."""
    line = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    if closes:
        fields += b"connection: close\r\n"
    if status == 204:
        return line + fields + b"\r\n"
    head = line + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body) + fields + b"\r\n"
    return head if bare else head + body


def error_event(refusal: Refusal, dialect: Dialect) -> bytes:
    """Return one server-sent event that ends a stream whose status 200 went out already."""
    body = json.dumps(error_body(refusal, dialect), ensure_ascii=False).encode()
    return _as_event(body, dialect)


def servers_error_event(status: int, body: bytes, dialect: Dialect) -> bytes:
    """Return a server's refusal as the last event of a stream: its own object, else its words in one of ours."""
    try:
        if isinstance(json.loads(body), dict):
            return _as_event(body, dialect)
    except ValueError:
        pass
    words = body[:WORDS_LIMIT].decode(errors="replace").strip()
    told = f"the model's server answered {status}: {words or 'nothing more'}"
    return error_event(Refusal(status if status >= 400 else 502, "bad_upstream", told), dialect)


def _as_event(body: bytes, dialect: Dialect) -> bytes:
    data = b" ".join(body.splitlines())
    return b"event: error\ndata: " + data + b"\n\n" if dialect is Dialect.ANTHROPIC else b"data: " + data + b"\n\n"


def heartbeat(dialect: Dialect) -> bytes:
    """Return what a waiting stream is sent: a comment, or the ping of Anthropic's own protocol."""
    if dialect is Dialect.ANTHROPIC:
        return b'event: ping\ndata: {"type": "ping"}\n\n'
    return b": waiting for the model to wake\n\n"


LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of the chunked transfer coding; data must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
