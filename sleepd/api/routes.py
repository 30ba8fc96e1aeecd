"""Every route of the socket API, as one table: method, path, the role it takes, and what answers it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

from aiohttp import web

from sleepd import wire
from sleepd.api.access import Access, Peer, Role
from sleepd.api.daemon import Ask, Daemon
from sleepd.api.fields import NO_FIELDS, SLEEP_FIELDS, WAKE_FIELDS, Field
from sleepd.api.problems import Problem, respond
from sleepd.api.stream import stream_events
from sleepd.core.events import ResetAsked, SleepAsked, WakeAsked


@dataclass(frozen=True, slots=True)
class Call:
    """One request that its route's role permits; `fields` are its body, checked and complete."""

    request: web.Request
    daemon: Daemon
    access: Access
    peer: Peer
    fields: dict[str, Any]

    @property
    def model(self) -> str:
        """The model of the path. Raises Problem where it is not configured."""
        name = self.request.match_info["name"]
        models = self.daemon.world.models
        if name not in models:
            near = get_close_matches(name, list(models), n=1)
            hint = f'did you mean "{near[0]}"?' if near else "sleepctl status lists the models"
            raise Problem("unknown_model", f"no model is named {name[:80]}", found=name[:80], hint=hint)
        return name

    def require(self, role: Role, what: str) -> None:
        """Raise Problem unless the peer has the role."""
        if self.access.role_of(self.peer) < role:
            detail = f"you are {self.peer.name}; {what} needs {role.name.lower()}; {self.access.way_to(role)}"
            raise Problem("not_permitted", detail)


Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]


async def get_status(call: Call) -> web.StreamResponse:
    return respond(200, wire.status_body(call.daemon))


async def get_models(call: Call) -> web.StreamResponse:
    names = sorted(call.daemon.world.models)
    return respond(200, {"models": [wire.model_body(call.daemon, name) for name in names]})


async def get_model(call: Call) -> web.StreamResponse:
    return respond(200, wire.model_body(call.daemon, call.model))


async def get_explain(call: Call) -> web.StreamResponse:
    return respond(200, wire.explain_body(call.daemon.explain(call.model)))


async def get_events(call: Call) -> web.StreamResponse:
    return await stream_events(call.request, call.daemon)


async def post_wake(call: Call) -> web.StreamResponse:
    model, who, fields = call.model, call.peer.name, call.fields
    _check_force(call, "wake")
    return await _ask(
        call,
        lambda waiter: WakeAsked(waiter, model, who, fields["timeout_s"], wait=fields["wait"], force=fields["force"]),
    )


async def post_sleep(call: Call) -> web.StreamResponse:
    model, who, fields = call.model, call.peer.name, call.fields
    _check_force(call, "sleep")
    return await _ask(
        call,
        lambda waiter: SleepAsked(
            waiter,
            model,
            who,
            fields["level"],
            fields["timeout_s"],
            drain_s=fields["drain_s"],
            wait=fields["wait"],
            force=fields["force"],
        ),
    )


async def post_reset(call: Call) -> web.StreamResponse:
    model, who = call.model, call.peer.name
    return await _ask(call, lambda waiter: ResetAsked(waiter, model, who))


async def post_reload(call: Call) -> web.StreamResponse:
    outcome = await call.daemon.reload()
    if outcome.errors:
        detail = "the configuration is not valid; the running settings were kept"
        status, body = wire.problem_body("invalid", detail, hint="sleepd check names every error", status=422)
        return respond(status, body | {"errors": list(outcome.errors)})
    return respond(200, {"changed": list(outcome.changed)})


async def get_healthz(call: Call) -> web.StreamResponse:
    return respond(200, {"ok": True})


async def get_readyz(call: Call) -> web.StreamResponse:
    unread = wire.unread_models(call.daemon.world)
    return respond(503 if unread else 200, {"ready": not unread, "waiting_for": unread})


def _check_force(call: Call, what: str) -> None:
    if call.fields["force"]:
        call.require(Role.ADMIN, f"{what} with force")


async def _ask(call: Call, make: Callable[[int], Ask]) -> web.StreamResponse:
    """Wait for the daemon's one answer; it comes by the wish's own timeout. Cancelled, the wish is withdrawn."""
    model = call.model
    answer = await call.daemon.ask(make)
    return respond(*wire.answer_body(call.daemon, model, answer))


@dataclass(frozen=True, slots=True)
class Route:
    """`verb` names the route in refusals: "wake needs operator". `endless`: its answer has no end of its own."""

    method: str
    path: str
    role: Role
    verb: str
    handler: Handler
    fields: tuple[Field, ...] = NO_FIELDS
    endless: bool = False


ROUTES = (
    Route("GET", "/v1/status", Role.VIEWER, "status", get_status),
    Route("GET", "/v1/models", Role.VIEWER, "models", get_models),
    Route("GET", "/v1/models/{name}", Role.VIEWER, "models", get_model),
    Route("GET", "/v1/models/{name}/explain", Role.VIEWER, "explain", get_explain),
    Route("POST", "/v1/models/{name}/wake", Role.OPERATOR, "wake", post_wake, WAKE_FIELDS),
    Route("POST", "/v1/models/{name}/sleep", Role.OPERATOR, "sleep", post_sleep, SLEEP_FIELDS),
    Route("POST", "/v1/models/{name}/reset", Role.OPERATOR, "reset", post_reset),
    Route("GET", "/v1/events", Role.VIEWER, "events", get_events, endless=True),
    Route("POST", "/v1/reload", Role.ADMIN, "reload", post_reload),
    Route("GET", "/healthz", Role.ANYONE, "healthz", get_healthz),
    Route("GET", "/readyz", Role.ANYONE, "readyz", get_readyz),
)
