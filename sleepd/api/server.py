"""The socket API's server: one aiohttp application on one unix socket, built from the route table."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from sleepd.api.access import Access, Peer, read_peer
from sleepd.api.call import Call
from sleepd.api.daemon import Daemon
from sleepd.api.fields import BODY_LIMIT, read_fields
from sleepd.api.problems import Problem, respond
from sleepd.api.protocol import Runner
from sleepd.api.route import Route
from sleepd.api.routes import ROUTES
from sleepd.api.sockets import SocketFiles, SocketTaken, bind_socket

_log = logging.getLogger("sleepd.api")

STOP_LIMIT_S = 2.0
"""How long open requests may still take once the API is told to stop; then they are cut off."""

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Shared:
    """What requests share: the roles in force, and the streams that are open."""

    access: Access
    streams: set["asyncio.Task[object]"] = field(default_factory=set)


_SHARED = web.AppKey("shared", _Shared)


def make_app(daemon: Daemon, access: Access) -> web.Application:
    """Return the application with every route of the table; `access` may be replaced later (set_access)."""
    app = web.Application(middlewares=[_refuse_in_words], client_max_size=BODY_LIMIT)
    app[_SHARED] = _Shared(access)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _handler(daemon, route))
    app.on_shutdown.append(_end_streams)
    return app


def set_access(app: web.Application, access: Access) -> None:
    """Let requests from now on be judged by these roles (after a reload)."""
    app[_SHARED].access = access


def _handler(daemon: Daemon, route: Route) -> Next:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = Call(request, daemon, request.app[_SHARED].access, _peer_of(request), {})
        call.require(route.role, route.verb)
        if route.takes_body:
            call.fields.update(read_fields(await request.read(), route.fields))
        if not route.endless and not call.fields.get("attach"):
            return await route.handler(call)
        streams, task = request.app[_SHARED].streams, asyncio.current_task()
        assert task is not None
        streams.add(task)
        try:
            return await route.handler(call)
        finally:
            streams.discard(task)

    return handle


def _peer_of(request: web.Request) -> Peer:
    """Return who sent the request. The descriptor is copied: uvloop's and asyncio's wrappers cannot ask the kernel
    for everything."""
    transport = request.transport
    wrapped = transport.get_extra_info("socket") if transport is not None else None
    if wrapped is None:
        raise ConnectionResetError("the client left")
    with socket.socket(fileno=os.dup(wrapped.fileno())) as connected:
        return read_peer(connected)


@web.middleware
async def _refuse_in_words(request: web.Request, handler: Next) -> web.StreamResponse:
    """Turn every refusal, aiohttp's own ones too, into problem+json."""
    try:
        return await handler(request)
    except Problem as refused:
        problem = refused
    except web.HTTPException as refused:
        problem = _translate(request, refused)
    except ConnectionError:
        raise
    except Exception:
        _log.exception("a request could not be answered: %s %s", request.method, request.path)
        problem = Problem("failed", "an error inside sleepd; its log has the details", status=500)
    return respond(problem.status, problem.body, problem.headers)


def _translate(request: web.Request, refused: web.HTTPException) -> Problem:
    path = request.path[:120]
    if isinstance(refused, web.HTTPRequestEntityTooLarge):
        return Problem("invalid", "the body is too large", wanted=f"at most {BODY_LIMIT} bytes", status=413)
    if isinstance(refused, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(refused.allowed_methods))
        detail = f"{path} does not take {request.method}"
        return Problem("invalid", detail, wanted=allowed, found=request.method, status=405, headers={"Allow": allowed})
    if isinstance(refused, web.HTTPNotFound):
        return Problem("invalid", f"there is no {path} in this version; docs/api.md lists every route", status=404)
    return Problem("invalid", refused.reason, status=refused.status)


async def _end_streams(app: web.Application) -> None:
    """Cut off what would never end by itself; other requests have STOP_LIMIT_S for their answer."""
    for task in list(app[_SHARED].streams):
        task.cancel()


class ApiServer:
    """The API on its socket; made by start_api, over after close."""

    def __init__(self, runner: web.AppRunner, app: web.Application, passed: bool, files: SocketFiles) -> None:
        """`passed`: its sockets are the service manager's; `files`: those of its own."""
        self._runner, self._app, self._passed, self._files = runner, app, passed, files

    def grant(self, roles: Mapping[str, Iterable[str]]) -> None:
        """Judge requests by these roles from now on."""
        set_access(self._app, Access(roles))

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
    app = make_app(daemon, Access(roles))
    # A client that leaves cancels its handler, and with it its wish.
    runner = Runner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_LIMIT_S, auto_decompress=False
    )
    await runner.setup()
    for each in bound:
        await web.SockSite(runner, each).start()
    return ApiServer(runner, app, bool(passed), SocketFiles(() if passed else (socket_path,)))
