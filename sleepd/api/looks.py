"""Answers to who only looks."""

from aiohttp import web

from sleepd import wire
from sleepd.api.call import Call
from sleepd.api.problems import Problem, respond
from sleepd.api.stream import stream_events


async def get_status(call: Call) -> web.StreamResponse:
    return respond(200, wire.status_body(call.daemon))


async def get_models(call: Call) -> web.StreamResponse:
    names = sorted(call.daemon.world.models)
    return respond(200, {"models": [wire.model_body(call.daemon, name) for name in names]})


async def get_model(call: Call) -> web.StreamResponse:
    return respond(200, wire.model_body(call.daemon, call.model))


async def get_explain(call: Call) -> web.StreamResponse:
    return respond(200, wire.explain_body(call.daemon.explain(call.model)))


async def get_holds(call: Call) -> web.StreamResponse:
    return respond(200, wire.holds_body(call.daemon.world))


async def get_reservations(call: Call) -> web.StreamResponse:
    return respond(200, wire.reservations_body(call.daemon.world))


async def get_tasks(call: Call) -> web.StreamResponse:
    return respond(200, wire.tasks_body(call.daemon))


async def get_task(call: Call) -> web.StreamResponse:
    written = call.request.match_info["id"]
    known = written.isascii() and written.isdigit() and len(written) < 19
    task = wire.find_task(call.daemon, int(written)) if known else None
    if task is None:
        detail = "no such task is running or among the last 1,000"
        raise Problem("invalid", detail, wanted="the id of a task", found=written[:80], status=404)
    return respond(200, task)


async def get_events(call: Call) -> web.StreamResponse:
    return await stream_events(call.request, call.daemon)


async def get_metrics(call: Call) -> web.StreamResponse:
    content_type, page = await call.daemon.metrics(call.request.headers.get("Accept", ""))
    return web.Response(body=page, headers={"Content-Type": content_type})


async def get_healthz(call: Call) -> web.StreamResponse:
    return respond(200, {"ok": True})


async def get_readyz(call: Call) -> web.StreamResponse:
    unread = wire.unread_models(call.daemon.world)
    return respond(503 if unread else 200, {"ready": not unread, "waiting_for": unread})
