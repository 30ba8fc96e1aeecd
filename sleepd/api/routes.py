"""Every route of the socket API, as one table: method, path, the role it takes, what it takes, and what it answers.

The server is built from it, and so are `GET /openapi.json` and docs/api.md.
"""

from aiohttp import web

from sleepd.api import doctor, gate, history, holds, looks, reservations, tokens, wishes
from sleepd.api.access import Role
from sleepd.api.call import Call
from sleepd.api.leases import ENDS_SOMEHOW
from sleepd.api.openapi import describe
from sleepd.api.route import Route
from sleepd.api.stream import EVENT_QUERY
from sleepd.wire import answers, history_shapes, shapes
from sleepd.wire import reservation_shapes as reserved

WISH = {200: answers.Outcome, 202: answers.Outcome}
MAY_FAIL = ("failed", "engine_failed", "not_recordable", "timeout")
NO_ROOM = ("no_room", "blind", "reserved", "group_full", "stopped", "busy")


async def get_openapi(call: Call) -> web.StreamResponse:
    return web.json_response(describe(ROUTES))


ROUTES: tuple[Route, ...] = (
    Route(
        *("GET", "/v1/status", Role.VIEWER, "status", looks.get_status),
        "everything there is to see, of one moment",
        {200: answers.Status},
    ),
    Route(
        *("GET", "/v1/models", Role.VIEWER, "models", looks.get_models),
        "every model",
        {200: answers.Models},
    ),
    Route(
        *("GET", "/v1/models/{name}", Role.VIEWER, "models", looks.get_model),
        "one model",
        {200: shapes.Model},
        kinds=("unknown_model",),
    ),
    Route(
        *("GET", "/v1/models/{name}/explain", Role.VIEWER, "explain", looks.get_explain),
        "every rule, its conditions with wanted and found, the verdict, what comes next",
        {200: answers.Explanation},
        kinds=("unknown_model",),
    ),
    Route(
        *("GET", "/v1/models/{name}/gate", Role.CALLER, "gate", gate.get_gate),
        "for proxies (docs/forward-auth.md): 204 once awake, and held so for 30 s; else 503 with `Retry-After`",
        {204: type(None), 503: shapes.Problem},
        query=gate.GATE_QUERY,
        kinds=("unknown_model",),
    ),
    Route(
        *("POST", "/v1/models/{name}/wake", Role.OPERATOR, "wake", wishes.post_wake),
        "200 once awake, `task` null when it was; 202 with `wait: false`",
        WISH,
        wishes.WAKE_FIELDS,
        kinds=("unknown_model", *NO_ROOM, *MAY_FAIL),
    ),
    Route(
        *("POST", "/v1/models/{name}/sleep", Role.OPERATOR, "sleep", wishes.post_sleep),
        "200 once asleep; already that deep: 200 with the true level; 202 with `wait: false`",
        WISH,
        wishes.SLEEP_FIELDS,
        kinds=("unknown_model", "needs_wake", "busy", "held", "pinned", "level_unsafe", "blind", "stopped", *MAY_FAIL),
    ),
    Route(
        *("POST", "/v1/models/{name}/stop", Role.ADMIN, "stop", wishes.post_stop),
        "its unit is stopped, and only a person starts it again; 202 with `wait: false`",
        WISH,
        wishes.UNIT_FIELDS,
        kinds=("unknown_model", "busy", "held", "pinned", "not_permitted", *MAY_FAIL),
    ),
    Route(
        *("POST", "/v1/models/{name}/start", Role.OPERATOR, "start", wishes.post_start),
        "its unit is started where nothing of it runs; 200 once awake, 202 with `wait: false`",
        WISH,
        wishes.UNIT_FIELDS,
        kinds=("unknown_model", *NO_ROOM, *MAY_FAIL),
    ),
    Route(
        *("POST", "/v1/models/{name}/reset", Role.OPERATOR, "reset", wishes.post_reset),
        "a failed model is taken back and looked at anew",
        WISH,
        kinds=("unknown_model", *MAY_FAIL),
    ),
    Route(
        *("POST", "/v1/models/{name}/pin", Role.OPERATOR, "pin", wishes.post_pin),
        "from now on nothing but force puts it to sleep, over restarts",
        WISH,
        kinds=("unknown_model", *MAY_FAIL),
    ),
    Route(
        *("POST", "/v1/models/{name}/unpin", Role.OPERATOR, "unpin", wishes.post_unpin),
        "rules and operators may put it to sleep again, over restarts",
        WISH,
        kinds=("unknown_model", *MAY_FAIL),
    ),
    Route(
        *("GET", "/v1/holds", Role.VIEWER, "holds", looks.get_holds),
        "every hold",
        {200: answers.Holds},
    ),
    Route(
        *("PUT", "/v1/holds/{id}", Role.OPERATOR, "hold", holds.put_hold),
        "take a hold, or renew one's own; 200 once awake, 202 with `wait: false`; with `attach` a stream",
        {200: shapes.Hold, 202: shapes.Hold},
        holds.HOLD_FIELDS,
        ENDS_SOMEHOW,
        kinds=("unknown_model", *NO_ROOM, *MAY_FAIL),
        stream=(shapes.Hold, shapes.HoldBeat, shapes.HoldEnd),
    ),
    Route(
        *("DELETE", "/v1/holds/{id}", Role.OPERATOR, "hold", holds.delete_hold),
        "let go of one's own hold, or as admin of anybody's",
        {200: answers.Released},
        kinds=("not_recordable",),
    ),
    Route(
        *("GET", "/v1/reservations", Role.VIEWER, "reservations", looks.get_reservations),
        "every reservation",
        {200: reserved.Reservations},
    ),
    Route(
        *("PUT", "/v1/reservations/{id}", Role.OPERATOR, "reserve", reservations.put_reservation),
        "reserve GPU bytes for a job, or renew one's own; 200 once they are free, 202 with `wait: false`; with `attach`"
        " a stream, which with `wait: false` begins at once and tells what the grant waits for",
        {200: reserved.Reservation, 202: reserved.Reservation},
        reservations.RESERVATION_FIELDS,
        ENDS_SOMEHOW,
        kinds=("no_room", "blind", "reserved", "busy", "failed", "not_recordable", "timeout"),
        stream=(reserved.Reservation, reserved.ReservationBeat, reserved.ReservationEnd),
    ),
    Route(
        *("DELETE", "/v1/reservations/{id}", Role.OPERATOR, "reserve", reservations.delete_reservation),
        "give one's own reservation back, or as admin anybody's; who was put to sleep for it is woken again",
        {200: answers.Released},
        kinds=("not_recordable",),
    ),
    Route(
        *("GET", "/v1/tasks", Role.VIEWER, "tasks", looks.get_tasks),
        "those running and the last 1,000 that ended, the newest first",
        {200: answers.Tasks},
    ),
    Route(
        *("GET", "/v1/tasks/{id}", Role.VIEWER, "tasks", looks.get_task),
        "one task; 404 for one that is not known any more",
        {200: shapes.Task, 404: shapes.Problem},
    ),
    Route(
        *("GET", "/v1/events", Role.VIEWER, "events", looks.get_events),
        "server-sent events, those on record first",
        {},
        query=EVENT_QUERY,
        stream=(shapes.Event, shapes.Gap),
        stream_type="text/event-stream",
    ),
    Route(
        *("GET", "/v1/history", Role.VIEWER, "history", history.get_history),
        "states, requests by the minute, wakes, other tasks and VRAM of a span of time, in pages",
        {200: history_shapes.History},
        query=history.HISTORY_QUERY,
        kinds=("failed",),
    ),
    Route(
        *("GET", "/v1/history/buckets", Role.VIEWER, "history", history.get_buckets),
        "the same in steps of whole hours: enough to draw a week of many models",
        {200: history_shapes.HistoryBuckets},
        query=history.BUCKETS_QUERY,
        kinds=("failed",),
    ),
    Route(
        *("GET", "/v1/history/timeline", Role.VIEWER, "history", history.get_timeline),
        "states of models and bytes in use on GPUs as they are drawn: each step shows what lasted longest in it",
        {200: history_shapes.Timeline},
        query=history.TIMELINE_QUERY,
        kinds=("failed",),
    ),
    Route(
        *("GET", "/v1/history/report", Role.VIEWER, "report", history.get_report),
        "a span of time added up: by model, and by what put models to sleep",
        {200: history_shapes.HistoryReport},
        query=history.REPORT_QUERY,
        kinds=("failed",),
    ),
    Route(
        *("POST", "/v1/ui/tokens", Role.VIEWER, "ui-token", tokens.post_token),
        "a token that lets somebody in at the page, once, as you; 404 where there is no page",
        {200: answers.UiToken, 404: shapes.Problem},
        tokens.TOKEN_FIELDS,
    ),
    Route(
        *("GET", "/v1/doctor", Role.VIEWER, "doctor", doctor.get_doctor),
        "what is wrong with the daemon, its host and its models, by its own eyes (docs/doctor.md)",
        {200: answers.Examination},
    ),
    Route(
        *("POST", "/v1/reload", Role.ADMIN, "reload", wishes.post_reload),
        "the configuration is read anew; 422 with every error where it is not valid, and the running settings stay",
        {200: answers.Reloaded, 422: shapes.Problem},
    ),
    Route(
        *("GET", "/metrics", Role.ANYONE, "metrics", looks.get_metrics),
        "what is counted and what is so now, for Prometheus (docs/metrics.md); OpenMetrics where `Accept` asks for it",
        {200: str},
    ),
    Route(
        *("GET", "/healthz", Role.ANYONE, "healthz", looks.get_healthz),
        "200 while the daemon answers",
        {200: answers.Health},
    ),
    Route(
        *("GET", "/readyz", Role.ANYONE, "readyz", looks.get_readyz),
        "200 once every model answered or was found unreachable, 503 before",
        {200: answers.Readiness, 503: answers.Readiness},
    ),
    Route(
        *("GET", "/openapi.json", Role.ANYONE, "openapi.json", get_openapi),
        "this table as an OpenAPI 3.1 document",
        {200: dict},
    ),
)
