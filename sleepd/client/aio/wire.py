"""Requests and their answers over a daemon's socket, whole or line by line."""

import json
from typing import Any

import aiohttp
from yarl import URL

from sleepd.client.answers import DaemonUnreachable, Reply, broke_off, read_reply, say_unreachable, silent
from sleepd.client.asks import BEAT_LIMIT_S, Request


class Stream:
    """An answer that has no end of its own."""

    def __init__(self, response: aiohttp.ClientResponse, socket_path: str) -> None:
        self.socket_path, self._response = socket_path, response

    async def read_line(self) -> bytes:
        """Return the next line when it came; empty: the daemon ended the stream. Raises DaemonUnreachable."""
        try:
            return await self._response.content.readline()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise broke_off(self.socket_path, error) from None

    def close(self) -> None:
        self._response.close()


class Wire:
    """The way to one daemon. Every method raises ApiProblem for a refusal and DaemonUnreachable for no answer."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request, timeout_s: float) -> Reply[Any]:
        """Return the whole answer; one that owes no wait has `timeout_s`."""
        try:
            async with await self._ask(request, aiohttp.ClientTimeout(total=request.limit_s(timeout_s))) as found:
                return read_reply(found.status, await found.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise silent(self._socket_path, error) from None

    async def open_stream(self, request: Request, timeout_s: float) -> Stream:
        """Return the stream once its head came; its lines may come BEAT_LIMIT_S apart."""
        between_s = max(BEAT_LIMIT_S, request.limit_s(timeout_s))
        response = await self._ask(request, aiohttp.ClientTimeout(total=None, sock_read=between_s))
        if response.status >= 400:
            async with response:
                read_reply(response.status, await response.read())
        return Stream(response, self._socket_path)

    async def _ask(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        if self._session is None:
            # A connection for each call: one that a restarted daemon has closed must not fail the next call.
            connector = aiohttp.UnixConnector(self._socket_path, limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=1 << 20)
        body = None if request.body is None else json.dumps(request.body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        url = f"http://localhost{request.path}"
        try:
            return await self._session.request(
                request.method, URL(url, encoded=True), data=body, headers=headers, timeout=limits
            )
        except aiohttp.ClientConnectorError as error:
            raise DaemonUnreachable(say_unreachable(self._socket_path, error.os_error)) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise silent(self._socket_path, error) from None
