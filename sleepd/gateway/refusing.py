"""What a client is sent where its request is refused, and which refusal an error amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httptools import HttpParserCallbackError

from sleepd.gateway.errors import LAST_CHUNK, Dialect, Refusal, chunk, error_answer, error_event, internal

if TYPE_CHECKING:
    from sleepd.gateway.exchange import Exchange


def refusal_bytes(x: Exchange, refusal: Refusal) -> bytes:
    """Return the whole answer; where status 200 and heartbeats went out already, the event that ends the stream."""
    dialect = x.route.dialect if x.route is not None else Dialect.OPENAI
    if x.beaten:
        return chunk(error_event(refusal, dialect)) + LAST_CHUNK
    fields = x.cors if x.lane is None else x.lane.tell_wait(x) + x.cors
    return error_answer(refusal, dialect, fields=fields, closes=not x.keep_alive, bare=x.bare)


def refusal_of(error: Exception) -> Refusal:
    """Return what a client is told of an error of the parser, or of ours inside one of its callbacks."""
    cause = error if isinstance(error, Refusal) else error.__context__
    if isinstance(cause, Refusal):
        return cause
    if isinstance(error, HttpParserCallbackError):
        return internal(cause or error)
    return Refusal(400, "bad_request", f"this is not HTTP/1.1: {error}", closes=True)
