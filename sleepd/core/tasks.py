"""Tasks: begun, carried to their next step. Ends of steps: core/progress.py; ends of tasks: core/ends.py."""

from sleepd.core.dialect import Capabilities, capabilities
from sleepd.core.draft import Draft
from sleepd.core.ends import fell_asleep, woke
from sleepd.core.frozen import replace
from sleepd.core.known_answer import UPDATED, has_other_weights, may_take_answer, retakes_adapters
from sleepd.core.life import Fact, Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Known, Verify
from sleepd.core.orders import intent_of, order_of, uuids_of
from sleepd.core.plan import COUNTED_AS, UNIT_VERBS, Verb, plan_prove, plan_sleep, plan_wake
from sleepd.core.record import AskKind, ModelRecord
from sleepd.core.task import HOST_LOCK, LIFTS, Phase, Task, TaskKind
from sleepd.core.wording import describe
from sleepd.core.world import proof_key


def begin_sleep(draft: Draft, name: str, level: int, cause: Cause, parent: Task | None = None) -> Task:
    """Shut the gate and start putting an awake model to sleep."""
    record = draft.state(name, Fact.SLEEP_CHOSEN)
    wanted = may_take_answer(record) or retakes_adapters(record)
    claims = frozenset() if parent else frozenset({*uuids_of(draft, record), HOST_LOCK})
    check = cause.kind is CauseKind.CHECK
    plan = plan_sleep(level, fingerprint_wanted=wanted, checksums=check and _takes_checksums(record))
    forced = any(w.force and w.ask is AskKind.SLEEP for w in record.waiters)
    task = Task(0, name, TaskKind.SLEEP, level, cause, plan, draft.mono_s, claims=claims, forced=forced)
    task = create(draft, task)
    if parent:
        task = draft.put_task(replace(task, parent=parent.id))
    draft.change(name, reason=f"falling asleep: {describe(cause)}", checking=check, checksums="")
    _tell_begun(draft, task)
    return carry_on(draft, task)


def _takes_checksums(record: ModelRecord) -> bool:
    assert record.facts is not None
    return capabilities(record.facts, fenced=record.spec.fenced).checksums


def begin_wake(draft: Draft, name: str, cause: Cause, claims: frozenset[str]) -> Task:
    """Start waking a sleeping model. Its memory may have to be made free first: see core/choices.py."""
    record = draft.models[name]
    assert record.facts is not None
    caps = capabilities(record.facts, fenced=record.spec.fenced)
    level = 2 if record.life.state is State.ASLEEP_L2 or _as_level2(draft, record, caps) else 1
    verify, weights = record.spec.verify, record.life.weights
    checked = proof_key(record.facts) in draft.proven and not record.checking
    plan = plan_wake(
        level,
        caps,
        doubtful=weights is not Weights.OFFLOADED,
        known=record.fingerprint is not None,
        # One that fell asleep before the answer of its last wake was compared may have been put aside as it was then.
        before=verify is Verify.BEFORE or record.unverified,
        trusted=verify in (Verify.AFTER, Verify.OFF) and weights is Weights.BLANK and checked,
        checksums=record.checking and bool(record.checksums),
    )
    slept = record.made_room
    task = create(draft, Task(0, name, TaskKind.WAKE, level, cause, plan, draft.mono_s, claims=claims, slept=slept))
    draft.change(name, reason=f"waking: {describe(cause)}", made_room=())
    _tell_begun(draft, task)
    return task


def _as_level2(draft: Draft, record: ModelRecord, caps: Capabilities) -> bool:
    """Whether a sleeper whose level nobody can tell is woken as from level 2: its weights are read anew before anything
    is computed, which is right for either level. Only where that was checked and a partial wake stays held (0.24+)."""
    assert record.facts is not None
    unknown = record.life == Life(State.ASLEEP_L1, Weights.DOUBTFUL)
    checked = not caps.level2_unsafe and proof_key(record.facts) in draft.proven
    return unknown and caps.held_when_partial and checked


def begin_proof(draft: Draft, name: str) -> None:
    """Settle doubt about an awake engine whose gate is shut, or give up where nothing can settle it."""
    record = draft.models[name]
    assert record.facts is not None
    caps = capabilities(record.facts, fenced=record.spec.fenced)
    unsafe = UPDATED if has_other_weights(record) else caps.cure_unsafe
    if record.fingerprint is None and unsafe:
        draft.state(name, Fact.GAVE_UP)
        detail = f"somebody slept and woke it before, and its weights cannot be proven ({unsafe})"
        draft.fail(name, "doubtful", f"{detail}: restart the server")
        return
    cause = Cause(CauseKind.RECOVERY, "doubt")
    claims = frozenset({*uuids_of(draft, record), HOST_LOCK})
    plan = plan_prove(reload=record.fingerprint is None)
    task = create(draft, Task(0, name, TaskKind.PROVE, 0, cause, plan, draft.mono_s, claims=claims))
    carry_on(draft, task)


def begin_verification(draft: Draft, name: str) -> None:
    """Ask an engine that serves already for the known answer. Nothing moves, so nothing is claimed."""
    cause = Cause(CauseKind.CHECK, "the known answer")
    plan = plan_prove(reload=False)
    carry_on(draft, create(draft, Task(0, name, TaskKind.PROVE, 0, cause, plan, draft.mono_s)))


def create(draft: Draft, task: Task) -> Task:
    """Begin the task under a number of its own."""
    task = draft.put_task(replace(task, id=draft.next_task))
    draft.next_task += 1
    return task


def _tell_begun(draft: Draft, task: Task) -> None:
    verb = f"going to sleep at level {task.level}" if task.kind is TaskKind.SLEEP else "waking"
    data = {"task": task.id, "cause": f"{task.cause.kind}:{task.cause.who}", "level": task.level}
    draft.note("task_begun", task.model, f"{task.model} is {verb}: {describe(task.cause)}", data)


def carry_on(draft: Draft, task: Task) -> Task:
    """Order the task's current step, stating what is true from the moment its call leaves."""
    name = task.model
    step = task.plan.steps[task.cursor]
    if step.verb in UNIT_VERBS:
        task = _order_unit(draft, task)
    elif task.phase in (Phase.DO, Phase.UNDO):
        record = draft.models[name]
        if step.verb in (Verb.WAKE, Verb.WAKE_WEIGHTS) and record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2):
            as_level2 = record.life.state is State.ASLEEP_L1 and step.verb is Verb.WAKE_WEIGHTS
            draft.state(name, Fact.RELOAD_CHOSEN if as_level2 else Fact.WAKE_CHOSEN)
            draft.change(name, wanted_by="")
        if step.verb is Verb.RELOAD and record.life.state is State.PROVING:
            draft.state(name, Fact.RELOAD_CHOSEN)
        called_s = draft.mono_s if task.called_s is None else task.called_s
        task = replace(task, intent=intent_of(draft, draft.models[name], task), sent_s=draft.mono_s, called_s=called_s)
        if step.issued is not None:
            draft.state(name, step.issued)
    order = order_of(draft, task)
    sent = (order.order.step.verb,) if order.order.step.verb in COUNTED_AS else ()
    task = draft.put_task(replace(task, running=True, resume_s=None, uncounted=(*task.uncounted, *sent)))
    draft.command(order)
    return task


def _order_unit(draft: Draft, task: Task) -> Task:
    """State what is true from the moment the unit is ordered to do something."""
    name, record = task.model, draft.models[task.model]
    if task.kind is TaskKind.STOP and record.life.state is not State.STOPPING:
        draft.state(name, Fact.STOP_CHOSEN)
    elif task.kind is TaskKind.RESTART and record.life.state is not State.STARTING:
        draft.state(name, Fact.RESTARTING)
    elif record.life.state is State.STOPPED:
        draft.state(name, Fact.START_CHOSEN)
    intent = task.intent or replace(intent_of(draft, record, task), invocation="")
    if task.kind in LIFTS and task.intent is None and isinstance(record.unit, Known):
        intent = replace(intent, invocation=record.unit.value.invocation)
    elif task.kind is TaskKind.STOP and not task.attempt:
        intent = replace(intent, invocation=_start_to_stop(record, task))
    intent = replace(intent, ordered_wall_s=(*intent.ordered_wall_s, draft.now.wall_s)[-ORDERS_KEPT:])
    return replace(task, intent=intent, sent_s=draft.mono_s)


ORDERS_KEPT = 4
"""So many daemons in a row may die of one step on a unit, and what each of them ordered is still known."""


def _start_to_stop(record: ModelRecord, task: Task) -> str:
    """The start of the unit that a rule's stop is meant for, as last seen: what somebody starts afterwards is theirs. A
    person's stop is of whatever runs."""
    unit = record.unit
    if task.cause.kind is CauseKind.OPERATOR or not isinstance(unit, Known) or unit.asked_at_s < record.settled_s:
        return ""
    return unit.value.invocation


def step_on(draft: Draft, task: Task) -> None:
    """Go to the next step, or end the task where none is left."""
    task = draft.put_task(replace(task, cursor=task.cursor + 1, refusals=0))
    if task.cursor < len(task.plan.steps):
        # The last stage of a wake waits for its room: core/onward.py sends it, in this turn where there is room.
        if task.plan.steps[task.cursor].verb is Verb.WAKE_KV:
            draft.put_task(replace(task, sent_s=draft.mono_s))
        else:
            carry_on(draft, task)
    elif draft.models[task.model].life.state in (State.ASLEEP_L1, State.ASLEEP_L2):
        fell_asleep(draft, task)
    else:
        woke(draft, task)


def without_victim(task: Task, name: str) -> Task:
    """The task without a victim that is no longer there."""
    if task.victim != name and name not in task.slept:
        return task
    victim = None if task.victim == name else task.victim
    return replace(task, victim=victim, slept=tuple(n for n in task.slept if n != name))
