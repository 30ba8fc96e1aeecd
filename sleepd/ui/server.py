"""The page's server: its files, logins, and those routes of the socket API that it uses, as one aiohttp application.

It is a guest on other listeners: each connection is good for one request, so that a proxy which keeps connections to
a listener never finds one of them here.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiohttp import web

from sleepd.api.access import Access
from sleepd.api.daemon import Daemon
from sleepd.api.fields import BODY_LIMIT
from sleepd.api.handling import STREAMS, Next, end_streams, handler_of, refuse_in_words
from sleepd.api.problems import Problem
from sleepd.api.protocol import Runner
from sleepd.core.units import Seconds
from sleepd.ui.files import HEADERS, add_files
from sleepd.ui.logins import Logins
from sleepd.ui.origins import check_host, check_origin, check_site
from sleepd.ui.routes import CONTROL, SHOWN

CONNECTIONS_LIMIT = 256
REQUEST_WITHIN_S: Seconds = 10.0
STOP_LIMIT_S: Seconds = 2.0
_OURS = re.compile(rb"(?:\r?\n)?(?:GET|HEAD|POST|DELETE|PUT|PATCH|OPTIONS) (?:/ui[ /?]|/sleepd/v1/)")
_LONGEST = 32
"""Bytes after which it is known whether they begin like `_OURS`."""


class UiServer:
    """Takes connections after `start`, ends them with `close`. An Annex."""

    def __init__(
        self,
        daemon: Daemon,
        *,
        roles: Mapping[str, Iterable[str]],
        origins: Iterable[str],
        session_s: Seconds,
        sessions_path: Path,
    ) -> None:
        self._roles = roles
        self.logins = Logins(Access(roles), frozenset(origins), session_s, sessions_path)
        self._app = web.Application(middlewares=[refuse_in_words, self._admit], client_max_size=BODY_LIMIT)
        self._app[STREAMS] = set()
        self._app.on_shutdown.append(end_streams)
        self._app.on_response_prepare.append(_furnish)
        add_files(self._app)
        self.logins.add_routes(self._app)
        for route in SHOWN:
            handler = self.logins.watched(handler_of(daemon, route, self.logins.caller_of))
            self._app.router.add_route(route.method, CONTROL + route.path, handler)
        self._app.router.add_get("/ui/{rest:.*}", _refuse_unknown)
        self._unread: dict[asyncio.BaseProtocol | None, asyncio.TimerHandle] = {}
        self._runner = Runner(
            self._app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_LIMIT_S, auto_decompress=False
        )

    async def start(self) -> None:
        """Read who is logged in, and be ready for connections."""
        await self.logins.restore()
        await self._runner.setup()

    def take_settings(self, roles: Mapping[str, Iterable[str]], origins: Iterable[str], session_s: Seconds) -> None:
        """Go by these, and by the groups that users are in by now. Where somebody's role may have changed streams end,
        and are judged anew when their pages ask again."""
        self.logins.origins, self.logins.session_s = frozenset(origins), session_s
        lost = self.logins.look_up_groups()
        if roles == self._roles and not lost:
            return
        self._roles, self.logins.access = roles, Access(roles)
        streams = self._app[STREAMS]
        for task in tuple(streams):
            task.cancel()

    async def close(self) -> None:
        """End every request within STOP_LIMIT_S."""
        await self._runner.cleanup()

    # Annex

    def wants(self, begun: bytes) -> bool | None:
        if _OURS.match(begun):
            return True
        return None if len(begun) < _LONGEST and b"\n" not in begun.lstrip(b"\r\n") else False

    def take(self, transport: asyncio.Transport, begun: bytes) -> None:
        server = self._runner.server
        if server is None or len(server.connections) >= CONNECTIONS_LIMIT:
            transport.abort()
            return
        protocol = server()
        self._unread[protocol] = asyncio.get_running_loop().call_later(REQUEST_WITHIN_S, self._cut, protocol, transport)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(begun)

    def _cut(self, protocol: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        del self._unread[protocol]
        transport.abort()

    # every request

    @web.middleware
    async def _admit(self, request: web.Request, handler: Next) -> web.StreamResponse:
        """Let in what comes from a page of ours, under a name of ours. Its body has come when its handler begins."""
        check_host(request.host, self.logins.origins)
        if request.path.startswith(f"{CONTROL}/"):
            check_site(request.headers)
        if request.method not in ("GET", "HEAD"):
            check_origin(request.headers, request.host, self.logins.origins)
            if request.content_type != "application/json":
                raise Problem(
                    "invalid", "wanted a JSON body", wanted="application/json", found=request.content_type, status=415
                )
        await request.read()
        timer = self._unread.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        return await handler(request)


async def _furnish(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer says what a browser may do with it, and that it is the last of its connection."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.pop("Server", None)
    response.headers["Connection"] = "close"
    response.force_close()


async def _refuse_unknown(request: web.Request) -> web.StreamResponse:
    raise Problem("invalid", f"there is no {request.path[:120]} here; the page is at /ui", status=404)
