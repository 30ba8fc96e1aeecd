"""What callers want done: each is one wish to the daemon, and gets its one answer."""

from collections.abc import Callable

from aiohttp import web

from sleepd import wire
from sleepd.api.access import Role
from sleepd.api.call import Call
from sleepd.api.daemon import Ask
from sleepd.api.fields import LONGEST_S, Flag, Number
from sleepd.api.problems import respond, retry_headers
from sleepd.core.wishes import PinAsked, ResetAsked, SleepAsked, StartAsked, StopAsked, WakeAsked
from sleepd.wire import answers

WAIT = Flag("wait", True, "answer once it is done; false: once the wish was accepted, with 202")
TIMEOUT = Number("timeout_s", 600.0, "then 504 `timeout`, and the task goes on", most=LONGEST_S)

WAKE_FIELDS = (
    WAIT,
    TIMEOUT,
    Flag("force", False, "skip the preflight, not the lock; needs admin"),
    Flag("dry_run", False, "do nothing; the answer's `plan` says what would be done"),
)
SLEEP_FIELDS = (
    Number("level", 1, "1: weights stay in host RAM; 2: weights are discarded", least=1, most=2, whole=True),
    Number("drain_s", 0.0, "how long running requests may take before 409 `busy`"),
    Flag("force", False, "skip hold, pin, `min_awake` and `keep_awake`, never requests in flight; needs admin"),
    Flag("via_wake", False, "a model that sleeps less deeply is woken for it first; else 409 `needs_wake`"),
    WAIT,
    TIMEOUT,
)


UNIT_FIELDS = (WAIT, TIMEOUT)


async def post_wake(call: Call) -> web.StreamResponse:
    model, who, fields = call.model, call.caller.name, call.fields
    _check_force(call, "wake")
    if fields["dry_run"]:
        plan = wire.plan_body(call.daemon.plan_of_wake(model))
        body: answers.Outcome = {"model": wire.model_body(call.daemon, model), "task": None, "waited_s": 0.0}
        return respond(200, body | {"plan": plan})
    return await _ask(
        call,
        lambda waiter: WakeAsked(waiter, model, who, fields["timeout_s"], wait=fields["wait"], force=fields["force"]),
    )


async def post_sleep(call: Call) -> web.StreamResponse:
    model, who, fields = call.model, call.caller.name, call.fields
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
            via_wake=fields["via_wake"],
        ),
    )


async def post_stop(call: Call) -> web.StreamResponse:
    model, who, fields = call.model, call.caller.name, call.fields
    return await _ask(call, lambda waiter: StopAsked(waiter, model, who, fields["timeout_s"], wait=fields["wait"]))


async def post_start(call: Call) -> web.StreamResponse:
    model, who, fields = call.model, call.caller.name, call.fields
    return await _ask(call, lambda waiter: StartAsked(waiter, model, who, fields["timeout_s"], wait=fields["wait"]))


async def post_reset(call: Call) -> web.StreamResponse:
    model, who = call.model, call.caller.name
    return await _ask(call, lambda waiter: ResetAsked(waiter, model, who))


async def post_pin(call: Call) -> web.StreamResponse:
    return await _pin(call, pinned=True)


async def post_unpin(call: Call) -> web.StreamResponse:
    return await _pin(call, pinned=False)


async def _pin(call: Call, *, pinned: bool) -> web.StreamResponse:
    model, who = call.model, call.caller.name
    return await _ask(call, lambda waiter: PinAsked(waiter, model, who, pinned))


async def post_reload(call: Call) -> web.StreamResponse:
    outcome = await call.daemon.reload()
    if outcome.errors:
        detail = "the configuration is not valid; the running settings were kept"
        status, body = wire.problem_body("invalid", detail, hint="sleepd check names every error", status=422)
        body["errors"] = list(outcome.errors)
        return respond(status, body)
    return respond(200, {"changed": list(outcome.changed)})


def _check_force(call: Call, what: str) -> None:
    if call.fields["force"]:
        call.require(Role.ADMIN, f"{what} with force")


async def _ask(call: Call, make: Callable[[int], Ask]) -> web.StreamResponse:
    """Wait for the daemon's one answer; it comes by the wish's own timeout. Cancelled, the wish is withdrawn."""
    model = call.model
    answer = await call.daemon.ask(make)
    return respond(*wire.answer_body(call.daemon, model, answer), headers=retry_headers(answer))
