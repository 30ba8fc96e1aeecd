"""Tasks on a server's unit: stop, start, restart. How they begin, how their steps end, and what follows.

A start holds the locks of its GPUs until the server answers, also where systemd began it; of all GPUs where nobody can
know which ones it takes.
"""

from sleepd.core.budget import clear_failures, count_failure
from sleepd.core.commands import AnswerKind, LookNow
from sleepd.core.draft import Draft
from sleepd.core.events import StepEnd, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, State
from sleepd.core.measured import learn_duration
from sleepd.core.model import Cause, CauseKind, Known, Reading
from sleepd.core.orders import uuids_of
from sleepd.core.owed_wakes import owe_wakes
from sleepd.core.plan import UNIT_VERBS, Verb, plan_await, plan_start, plan_stop
from sleepd.core.record import AskKind, Belief, ModelRecord, Stopped
from sleepd.core.refusals import refuse_users
from sleepd.core.restarts import clear_restarts, count_restart, owe_restart
from sleepd.core.room import claimed
from sleepd.core.task import Task, TaskKind
from sleepd.core.tasks import carry_on, create
from sleepd.core.unit import JobEnd, Ordered, UnitSeen
from sleepd.core.whose_stop import came_late
from sleepd.core.wording import describe

STOPPED_HINT = "sleepctl start"


def begin_stop(draft: Draft, name: str, cause: Cause) -> Task:
    """Shut the gate of a model that serves, and stop its unit once nothing runs in it."""
    record = draft.models[name]
    serves = record.life.state is State.AWAKE
    before = record.life
    if serves:
        draft.state(name, Fact.SLEEP_CHOSEN)
    claims, plan = claims_of(draft, record) - claimed(draft), plan_stop(confirm=serves)
    task = create(draft, Task(0, name, TaskKind.STOP, 0, cause, plan, draft.mono_s, claims=claims))
    settled = before.state in (State.AWAKE, State.ASLEEP_L1, State.ASLEEP_L2)
    belief = Belief(before, record.incarnation, record.control) if settled else None
    draft.change(name, reason=f"stopping: {describe(cause)}", belief=belief, restart_due="", start_wanted=None)
    _tell(draft, task, "stopped")
    return carry_on(draft, task)


def begin_start(draft: Draft, name: str, cause: Cause, claims: frozenset[str]) -> Task:
    """Start a unit that is stopped: what is left in its cgroup is ended first, and its GPU memory shown free."""
    task = create(draft, Task(0, name, TaskKind.START, 0, cause, plan_start(), draft.mono_s, claims=claims))
    draft.change(name, reason=f"starting: {describe(cause)}")
    _tell(draft, task, "started")
    return carry_on(draft, task)


def begin_restart(draft: Draft, name: str, cause: Cause, claims: frozenset[str]) -> Task:
    """End everything of a unit and start it anew; counted against the budget in the same turn."""
    record = draft.models[name]
    if cause.kind is CauseKind.RECOVERY:
        count_restart(draft, name)
    slept = record.made_room
    task = Task(0, name, TaskKind.RESTART, 0, cause, plan_start(), draft.mono_s, claims=claims, slept=slept)
    task = create(draft, task)
    why = record.restart_due or describe(cause)
    draft.change(
        name, made_room=(), belief=None, checking=False, owed_wake=None, restart_due="", reason=f"restarting: {why}"
    )
    _tell(draft, task, "restarted")
    return carry_on(draft, task)


def await_start(draft: Draft, name: str) -> Task:
    """Somebody else started the unit: its GPUs are kept from others until the server answers."""
    draft.state(name, Fact.FOUND_STARTING)
    cause = Cause(CauseKind.RECOVERY, "a start of its unit")
    claims = claims_of(draft, draft.models[name]) - claimed(draft)
    task = create(draft, Task(0, name, TaskKind.START, 0, cause, plan_await(), draft.mono_s, claims=claims))
    unit = draft.models[name].spec.unit
    draft.change(name, stopped=None, restart_due="", failure=None, reason=f"{unit} starts, and not by us")
    return carry_on(draft, task)


def claims_of(draft: Draft, record: ModelRecord) -> frozenset[str]:
    """The GPUs that a start or stop of its unit moves memory on: all there are, where nobody can know which."""
    uuids = uuids_of(draft, record)
    if not uuids and isinstance(draft.gpus, Known):
        return frozenset(g.uuid for g in draft.gpus.value)
    return frozenset(uuids)


def claim_late(draft: Draft) -> None:
    """Starts that we did not begin take the locks of their GPUs as these come free."""
    for task in list(draft.tasks.values()):
        if task.kind is TaskKind.START and task.plan.steps[task.cursor].verb is Verb.AWAIT_HEALTH:
            missing = claims_of(draft, draft.models[task.model]) - claimed(draft)
            if missing:
                draft.put_task(replace(task, claims=task.claims | missing))


def _tell(draft: Draft, task: Task, done: str) -> None:
    record = draft.models[task.model]
    data = {"task": task.id, "cause": f"{task.cause.kind}:{task.cause.who}", "unit": record.spec.unit}
    text = f"{task.model} is being {done} ({record.spec.unit}): {describe(task.cause)}"
    draft.note("task_begun", task.model, text, data)


# --- how steps end -----------------------------------------------------------------------------------------------


def is_on_unit(task: Task) -> bool:
    """Whether the task's current step is one on the unit."""
    return task.plan.steps[task.cursor].verb in UNIT_VERBS


def end_unit_step(draft: Draft, task: Task, event: StepEnded) -> None:
    """Take in how a step on the unit ended, and go on."""
    name, verb = task.model, task.plan.steps[task.cursor].verb
    unit = event.evidence.unit
    if isinstance(unit, Known):
        draft.change(name, unit=unit)
    if event.end is not StepEnd.DONE:
        _not_done(draft, task, verb, event)
    elif verb is Verb.AWAIT_HEALTH:
        _came_up(draft, task, event)
    elif task.kind is TaskKind.STOP and isinstance(unit, Known) and not unit.value.is_over:
        _let_go(draft, task, event.evidence.detail)
    elif task.kind is TaskKind.STOP:
        _stopped(draft, task, ours=task.cause.kind is not CauseKind.OPERATOR and not came_late(task, event))
    elif verb is Verb.END_UNIT and task.cause.kind is not CauseKind.OPERATOR and came_late(task, event):
        stopped_on_purpose(draft, name, task)
    else:
        # Whether there is room is looked at after everything that was left of it gave its memory back.
        draft.change(name, settled_s=event.evidence.answered_s)
        task = draft.put_task(replace(task, cursor=task.cursor + 1, attempt=0))
        if verb is Verb.START_UNIT:
            carry_on(draft, task)


def _came_up(draft: Draft, task: Task, event: StepEnded) -> None:
    name = task.model
    began_s = draft.models[name].since_s
    if len(task.plan.steps) > 1:
        learn_duration(draft, draft.models[name], "start", draft.mono_s - began_s)
    draft.state(name, Fact.HEALTHY)
    draft.end_task(task, "it answers", done=True)
    draft.change(
        name,
        failure=None,
        stopped=None,
        start_wanted=None,
        restart_due="",
        failed_polls=0,
        # By now it has its memory; a GPU reading asked before may not know of it.
        settled_s=event.evidence.seen.asked_at_s if isinstance(event.evidence.seen, Known) else draft.mono_s,
        last_active_s=draft.mono_s,
        reason="it came up: looking at it",
    )
    # Victims of a start slept for it: the model serves now, and they sleep on like any other's.
    draft.command(LookNow(model=name, unit=name))


def _stopped(draft: Draft, task: Task, *, ours: bool) -> None:
    name = task.model
    record = draft.state(name, Fact.GONE)
    draft.end_task(task, "stopped", done=True)
    clear_failures(draft, name)
    stopped = _stopped_by(task, record) if ours else None
    draft.change(
        name,
        stopped=stopped,
        failure=None,
        belief=None,
        checking=False,
        owed_wake=None,
        wanted_by="",
        reason=f"stopped: {describe(task.cause)}",
    )
    for waiter in draft.models[name].waiters:
        if waiter.ask is AskKind.STOP:
            draft.answer(name, waiter, AnswerKind.DONE, task_id=task.id)
        elif waiter.ask is AskKind.SLEEP or not ours:
            detail = f"{name} was stopped: {describe(task.cause)}"
            hint = f"{STOPPED_HINT} {name}"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="stopped", detail=detail, hint=hint)


def _stopped_by(task: Task, record: ModelRecord) -> Stopped:
    return Stopped(task.cause, record.unit.value.invocation if isinstance(record.unit, Known) else "")


def _not_done(draft: Draft, task: Task, verb: Verb, event: StepEnded) -> None:
    name, ordered = task.model, event.evidence.ordered
    detail = event.evidence.detail or event.end.value
    if ordered is not None and ordered.end is JobEnd.CANCELED:
        _overruled(draft, task, detail, event.evidence.unit)
    elif task.kind is TaskKind.STOP:
        _not_stopped(draft, task, detail, ordered)
    elif verb is Verb.START_UNIT and event.end is StepEnd.BROKEN_OFF:
        stopped_on_purpose(draft, name, task)
    elif verb is Verb.AWAIT_HEALTH and event.end is StepEnd.BROKEN_OFF:
        unit = event.evidence.unit
        if isinstance(unit, Known) and unit.value.rests:
            _fell_back(draft, task, detail)
        else:
            stopped_on_purpose(draft, name, task)
    else:
        _not_started(draft, task, verb, event, detail)


def _not_stopped(draft: Draft, task: Task, detail: str, ordered: Ordered | None) -> None:
    """The unit would not be stopped. Where nothing was done to it the model is what it was, and is looked at anew."""
    name = task.model
    draft.end_task(task, f"not stopped: {detail}")
    untouched = ordered is not None and ordered.end in (JobEnd.NOT_PERMITTED, JobEnd.UNREACHABLE)
    belief = draft.models[name].belief
    if untouched and belief is not None:
        draft.state(name, Fact.CONTRADICTED)
        draft.note("failure", name, detail, {"code": "not_stopped"})
        draft.change(name, not_before_s=draft.mono_s + _AGAIN_S, reason=f"not stopped: {detail}")
        draft.command(LookNow(model=name))
    else:
        draft.state(name, Fact.STOP_EXPIRED)
        draft.fail(name, "not_stopped", detail)
    problem = "not_permitted" if ordered is not None and ordered.end is JobEnd.NOT_PERMITTED else "engine_failed"
    _refuse_stops(draft, name, problem, detail)


def _refuse_stops(draft: Draft, name: str, problem: str, detail: str) -> None:
    for waiter in draft.models[name].waiters:
        if waiter.ask is AskKind.STOP:
            draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=detail)


_AGAIN_S = 60.0
"""A stop that a rule wanted and that was not permitted is not tried again by a rule before this."""


def _not_started(draft: Draft, task: Task, verb: Verb, event: StepEnded, detail: str) -> None:
    name, ordered = task.model, event.evidence.ordered
    not_permitted = ordered is not None and ordered.end is JobEnd.NOT_PERMITTED
    code = {Verb.END_UNIT: "not_stopped", Verb.START_UNIT: "start_failed"}.get(verb, "start_expired")
    code = "start_failed" if event.end is StepEnd.REFUSED and verb is Verb.AWAIT_HEALTH else code
    code = "not_permitted" if not_permitted else code
    draft.end_task(task, f"failed: {detail}")
    draft.state(name, Fact.START_EXPIRED)
    draft.change(name, restart_due="", start_wanted=None, stopped=None)
    draft.fail(name, code, detail, verb)
    count_failure(draft, name)
    if not_permitted:
        # Asking again changes nothing before somebody installs what is missing.
        draft.change(name, restarts_spent=True)
    if not owe_restart(draft, name, detail):
        refuse_users(draft, name, "failed", detail, f"when the cause is gone: sleepctl reset {name}")
        owe_wakes(draft, task.slept, name)
    else:
        draft.change(name, made_room=task.slept)


def _fell_back(draft: Draft, task: Task, detail: str) -> None:
    """It ended before it answered, and systemd starts it again: that is waited for, without its locks."""
    name = task.model
    draft.end_task(task, f"{detail}; systemd starts it again")
    draft.state(name, Fact.LOST)
    draft.fail(name, "lost", f"{detail} before it answered; systemd starts it again: see journalctl -u its unit")
    # A person's wish is systemd's now: ordered again and again, it would never come to its start.
    draft.change(name, made_room=task.slept, start_wanted=None)


def _overruled(draft: Draft, task: Task, detail: str, unit: Reading[UnitSeen] | None) -> None:
    """Another job took the place of ours: what somebody else wants of the unit is left to them, and looked at."""
    name = task.model
    if task.kind is not TaskKind.STOP and isinstance(unit, Known) and unit.value.is_stopped_on_purpose:
        stopped_on_purpose(draft, name, task)
        return
    _let_go(draft, task, detail)
    _refuse_stops(draft, name, "engine_failed", detail)


def _let_go(draft: Draft, task: Task, detail: str) -> None:
    """End the task, and look anew at what became of its unit in others' hands."""
    name = task.model
    draft.end_task(task, f"overruled: {detail}")
    draft.state(name, Fact.LOST)
    draft.fail(name, "lost", f"{detail}: somebody else stopped or started it meanwhile")
    draft.change(name, made_room=task.slept, belief=None, start_wanted=None, restart_due="")
    draft.command(LookNow(model=name, unit=name))


def stopped_on_purpose(draft: Draft, name: str, task: Task | None = None) -> None:
    """Its unit was stopped, and not by us: hands off until a person starts it.

    Whoever asked for a start before anybody had looked whether it runs has asked for the start of a stopped unit.
    """
    if task is not None:
        draft.end_task(task, "its unit was stopped")
        owe_wakes(draft, task.slept, name)
    draft.state(name, Fact.STOPPED_ON_PURPOSE)
    record = draft.models[name]
    wanted = record.start_wanted if task is None and record.incarnation is None else None
    clear_restarts(draft, name)
    clear_failures(draft, name)
    draft.change(
        name,
        stopped=None,
        start_wanted=wanted,
        failure=None,
        belief=None,
        owed_wake=None,
        wanted_by="",
        reason=f"{record.spec.unit} was stopped on purpose",
    )
    for waiter in record.waiters:
        if waiter.ask is AskKind.STOP:
            draft.answer(name, waiter, AnswerKind.DONE)
        elif wanted is None:
            detail, hint = f"{record.spec.unit} was stopped on purpose", f"{STOPPED_HINT} {name}"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="stopped", detail=detail, hint=hint)


def wait_stopped(draft: Draft, task: Task, why: str) -> None:
    """Nothing is left of it, and there is no room to start it in: it waits, its GPUs are not kept from others."""
    name = task.model
    record = draft.state(name, Fact.GONE)
    draft.end_task(task, f"waits for {why}")
    draft.change(
        name,
        stopped=_stopped_by(task, record),
        made_room=task.slept,
        restart_due="",
        failure=None,
        reason=f"stopped, waits for {why}",
    )
