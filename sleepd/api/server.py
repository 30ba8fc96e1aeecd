"""The socket API's server: one aiohttp application on one unix socket, built from the route table."""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aiohttp import web

from sleepd.api.access import Access, Caller, Peer, read_peer
from sleepd.api.daemon import Daemon
from sleepd.api.fields import BODY_LIMIT
from sleepd.api.handling import STREAMS, end_streams, handler_of, refuse_in_words
from sleepd.api.protocol import Runner
from sleepd.api.routes import ROUTES
from sleepd.api.sockets import SocketFiles, SocketTaken, bind_socket

STOP_LIMIT_S = 2.0
"""How long open requests may still take once the API is told to stop; then they are cut off."""


class Judge:
    """Says who sent a request, by the roles that are in force."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def caller_of(self, request: web.Request) -> Caller:
        return self.access.caller(_peer_of(request))


def make_app(daemon: Daemon, judge: Judge) -> web.Application:
    """Return the application with every route of the table."""
    app = web.Application(middlewares=[refuse_in_words], client_max_size=BODY_LIMIT)
    app[STREAMS] = set()
    for route in ROUTES:
        app.router.add_route(route.method, route.path, handler_of(daemon, route, judge.caller_of))
    app.on_shutdown.append(end_streams)
    return app


def _peer_of(request: web.Request) -> Peer:
    """Return who sent the request. The descriptor is copied: uvloop's and asyncio's wrappers cannot ask the kernel
    for everything."""
    transport = request.transport
    wrapped = transport.get_extra_info("socket") if transport is not None else None
    if wrapped is None:
        raise ConnectionResetError("the client left")
    with socket.socket(fileno=os.dup(wrapped.fileno())) as connected:
        return read_peer(connected)


class ApiServer:
    """The API on its socket; made by start_api, over after close."""

    def __init__(self, runner: web.AppRunner, judge: Judge, passed: bool, files: SocketFiles) -> None:
        """`passed`: its sockets are the service manager's; `files`: those of its own."""
        self._runner, self._judge, self._passed, self._files = runner, judge, passed, files

    def grant(self, roles: Mapping[str, Iterable[str]]) -> None:
        """Judge requests by these roles from now on."""
        self._judge.access = Access(roles)

    async def leave_passed(self) -> None:
        """Take no more connections from sockets that were passed: who comes now waits there for the next daemon."""
        if self._passed:
            for site in self._runner.sites:
                await site.stop()

    async def close(self) -> None:
        """End every request within STOP_LIMIT_S, stop listening, and take the socket file away if it is ours."""
        await self._runner.cleanup()
        self._files.remove()


async def start_api(
    daemon: Daemon,
    *,
    socket_path: Path,
    socket_mode: int,
    roles: Mapping[str, Iterable[str]],
    passed: Sequence[socket.socket] = (),
) -> ApiServer:
    """Return the API, listening on the sockets that were `passed`, else on `socket_path`. Raises SocketTaken."""
    for each in passed:
        if each.family != socket.AF_UNIX:
            raise SocketTaken(f"wanted a unix socket passed for the API, found {each.getsockname()}: see sleepd.socket")
    bound = list(passed) or [bind_socket(socket_path, socket_mode)]
    judge = Judge(Access(roles))
    app = make_app(daemon, judge)
    # A client that leaves cancels its handler, and with it its wish.
    runner = Runner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_LIMIT_S, auto_decompress=False
    )
    await runner.setup()
    for each in bound:
        await web.SockSite(runner, each).start()
    return ApiServer(runner, judge, bool(passed), SocketFiles(() if passed else (socket_path,)))
