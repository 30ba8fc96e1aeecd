"""Forward-auth: a proxy asks whether a model is awake before it sends a request past us."""

from aiohttp import web

from sleepd.api.call import Call
from sleepd.api.fields import Number, read_query
from sleepd.api.problems import Problem

GATE_QUERY = (Number("wait_s", 50, "how long to wait; proxies give an answer 60 s", most=999, whole=True),)


async def get_gate(call: Call) -> web.StreamResponse:
    """Answer 204 once the model is awake, and held so for the request that follows; else 503 and when to ask again."""
    wait_s = read_query(call.request.query, GATE_QUERY)["wait_s"]
    found = await call.daemon.ask_gate(call.model, call.caller.name, wait_s)
    if found is not None:
        again = {"Retry-After": f"{found.retry_after_s:.0f}"}
        raise Problem(found.kind, found.detail, status=503, headers=again)
    return web.Response(status=204)
