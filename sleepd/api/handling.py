"""From a request to its handler and back: who asks is judged, the body is read, every refusal is told in words.

Whoever serves routes of the table does it with this: the socket API, and the pages for people (sleepd/ui).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from sleepd.api.access import Caller
from sleepd.api.call import Call
from sleepd.api.daemon import Daemon
from sleepd.api.fields import BODY_LIMIT, read_fields
from sleepd.api.problems import Problem, respond
from sleepd.api.route import Route

_log = logging.getLogger("sleepd.api")

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

STREAMS: web.AppKey[set["asyncio.Task[object]"]] = web.AppKey("streams", set)
"""The handlers whose answers have no end of their own."""


def handler_of(daemon: Daemon, route: Route, caller_of: Callable[[web.Request], Caller]) -> Next:
    """Return what answers the route; `caller_of` says who asks, or raises Problem."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = Call(request, daemon, caller_of(request), {})
        call.require(route.role, route.verb)
        if route.takes_body:
            call.fields.update(read_fields(await request.read(), route.fields))
        if not route.endless and not call.fields.get("attach"):
            return await route.handler(call)
        streams, task = request.app[STREAMS], asyncio.current_task()
        assert task is not None
        streams.add(task)
        try:
            return await route.handler(call)
        finally:
            streams.discard(task)

    return handle


async def end_streams(app: web.Application) -> None:
    """Cut off what would never end by itself."""
    streams = app[STREAMS]
    for task in tuple(streams):
        task.cancel()


@web.middleware
async def refuse_in_words(request: web.Request, handler: Next) -> web.StreamResponse:
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
