"""A few pages for machines over plain HTTP: GET and HEAD of fixed paths, one answer a connection, nothing to write to.

Whoever reaches the address may look, so it is bounded: in connections, in the size of a request, in the time that
either end of it may take. There is nothing here that a page of another origin could do beside reading it.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from httptools import HttpParserError, HttpRequestParser, parse_url

from sleepd.annex import Annex

CONNECTIONS_LIMIT = 32
HEAD_LIMIT = 16 << 10
HEAD_WITHIN_S = 5.0
ANSWER_WITHIN_S = 30.0
"""From the request to the last byte that the client took."""
LINGER_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes


Show = Callable[[str], Awaitable[Answer]]
"""Makes one page for what the Accept header says."""


def json_answer(status: int, body: object) -> Answer:
    return Answer(status, "application/json", json.dumps(body).encode() + b"\n")


class Pages:
    """Listens after `start`, is over after `close`."""

    def __init__(self, pages: Mapping[str, Show]) -> None:
        self.pages = pages
        self.annex: Annex | None = None
        self.connections: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Sequence[socket.socket], annex: Annex | None = None) -> None:
        """Listen on these bound sockets; connections that `annex` wants are its own."""
        self.annex = annex
        loop = asyncio.get_running_loop()
        for bound in sockets:
            bound.setblocking(False)
            create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            self._servers.append(await create(lambda: _Connection(self), sock=bound))

    async def close(self) -> None:
        """Listen no more, and end what is open."""
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._parser = HttpRequestParser(self)
        self._method, self._target, self._accept, self._size = b"", b"", b"", 0
        self._begun = b""
        self._annex = pages.annex
        self._answering: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        if len(self._pages.connections) >= CONNECTIONS_LIMIT:
            self._transport.abort()
            return
        self._pages.connections.add(self)
        self._within(HEAD_WITHIN_S)

    def data_received(self, data: bytes) -> None:
        if self._answering is not None:
            return  # a body, or a second request: neither is wanted
        if self._annex is not None and self._annexed(self._annex, data):
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if self._answering is None:
                self._begin(_refusal(HTTPStatus.BAD_REQUEST))
        if self._answering is None and self._size > HEAD_LIMIT:
            self._begin(_refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

    def _annexed(self, annex: Annex, data: bytes) -> bool:
        """Hand the connection over where its request is the annex's."""
        self._begun += data
        wanted = annex.wants(self._begun)
        if wanted is False:
            self._annex = None
        if wanted:
            self._forget()
            annex.take(self._transport, self._begun)
        return bool(wanted)

    def eof_received(self) -> bool:
        """Stay open for the answer to who only says that its request was all it had to say."""
        return self._answering is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        if self._answering is not None:
            self._answering.cancel()

    def _forget(self) -> None:
        self._pages.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        del self._parser  # it holds our methods

    def abort(self) -> None:
        self._transport.abort()

    def _within(self, seconds: float) -> None:
        """End the connection after so long, whatever it does then."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    # the parser's side

    def on_url(self, url: bytes) -> None:
        if self._answering is None:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answering is None and name.lower() == b"accept":
            self._accept += b", " * bool(self._accept) + value

    def on_headers_complete(self) -> None:
        if self._answering is None:
            self._method = self._parser.get_method()
            self._begin(self._show())

    # answers

    def _begin(self, answer: Awaitable[Answer]) -> None:
        self._within(ANSWER_WITHIN_S)
        self._answering = asyncio.ensure_future(self._answer(answer))

    async def _show(self) -> Answer:
        if self._method not in (b"GET", b"HEAD"):
            return await _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            path = parse_url(self._target).path or b"/"
        except HttpParserError:
            return await _refusal(HTTPStatus.BAD_REQUEST)
        show = self._pages.pages.get(path.decode("latin-1"))
        return await (show(self._accept.decode("latin-1")) if show is not None else _refusal(HTTPStatus.NOT_FOUND))

    async def _answer(self, making: Awaitable[Answer]) -> None:
        try:
            answer = await making
        except Exception as error:
            told = {"message": "a page could not be made", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
            answer = await _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._transport.write(_head(answer) + (b"" if self._method == b"HEAD" else answer.body))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)


async def _refusal(status: HTTPStatus) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())


def _head(answer: Answer) -> bytes:
    fields = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        *(["allow: GET, HEAD"] if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
        "cache-control: no-store",
        "connection: close",
    ]
    return "\r\n".join([*fields, "", ""]).encode("latin-1")
