"""Tasks: begun, carried to their next step, ended. How steps end is taken in by core/progress.py."""

from sleepd.core.budget import clear_failures, count_failure
from sleepd.core.dialect import Capabilities, capabilities
from sleepd.core.draft import Draft
from sleepd.core.events import AnswerKind
from sleepd.core.frozen import replace
from sleepd.core.known_answer import NEVER_TAKEN, UPDATED, has_other_weights, may_take_answer
from sleepd.core.learn import owe_unheard
from sleepd.core.life import Fact, Life, State, Weights
from sleepd.core.measured import learn_duration
from sleepd.core.model import Cause, CauseKind, Known, Verify
from sleepd.core.orders import intent_of, order_of, uuids_of
from sleepd.core.plan import COUNTED_AS, UNIT_VERBS, Verb, plan_prove, plan_sleep, plan_wake
from sleepd.core.restarts import owe_restart
from sleepd.core.units import Seconds
from sleepd.core.world import HOST_LOCK, AskKind, LastWake, ModelRecord, Phase, Task, TaskKind, proof_key

NO_ROOM = "no_room"
"""The failure of a wake that was put back as somebody took its memory meanwhile: no fault of the engine's."""
ON_STOP = "on_stop"
"""Who wants sleepers awake when the daemon ends for good: its setting of that name."""
RULE_PAUSE_S = 60.0
"""A wake that a rule wanted and that failed is not tried again by the rule before this."""


def begin_sleep(draft: Draft, name: str, level: int, cause: Cause, parent: Task | None = None) -> Task:
    """Shut the gate and start putting an awake model to sleep."""
    record = draft.state(name, Fact.SLEEP_CHOSEN)
    wanted = may_take_answer(record)
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


def take_back_drain(draft: Draft, name: str, why: str) -> None:
    """Let a model that only drains serve on: nothing was sent yet, its gate simply opens again."""
    task = draft.tasks.get(name)
    if task is not None and draft.models[name].life.state is State.DRAINING:
        owe_unheard(draft, task)
        draft.end_task(task, why)
        draft.state(name, Fact.WAKE_CHOSEN)
        draft.change(name, checking=False, reason=f"awake: {why}")


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
        before=verify is Verify.BEFORE,
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
    if task.kind is TaskKind.RESTART and task.intent is None and isinstance(record.unit, Known):
        intent = replace(intent, invocation=record.unit.value.invocation)
    elif task.kind is TaskKind.STOP and not task.attempt:
        intent = replace(intent, invocation=_start_to_stop(record, task))
    return replace(task, intent=intent, sent_s=draft.mono_s)


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
        _woke(draft, task)


def give_up(draft: Draft, task: Task, code: str, detail: str) -> None:
    """End a task whose model is not to be used: everybody is told, and victims are owed their wake."""
    name = task.model
    draft.end_task(task, f"failed: {detail}")
    if draft.models[name].checking:
        draft.change(name, check_failed=detail, checking=False, owed_wake=None)
    draft.fail(name, code, detail, task.plan.steps[min(task.cursor, len(task.plan.steps) - 1)].verb)
    if draft.models[name].life.state is State.FAILED and owe_restart(draft, name, detail):
        # Who waits for it awake goes on waiting, and who made room for it goes on sleeping: it will be restarted.
        refuse_sleepers(draft, name)
        draft.change(name, made_room=task.slept)
        return
    refuse_users(draft, name, "engine_failed", detail)
    restore_victims(draft, task)


def refuse_users(draft: Draft, name: str, problem: str, detail: str, hint: str = "") -> None:
    """Tell everybody who waits for the engine that it did not work; who wants it stopped goes on waiting."""
    for waiter in draft.models[name].waiters:
        if waiter.ask is not AskKind.STOP:
            draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)


def refuse_all(draft: Draft, name: str, problem: str, detail: str, hint: str = "") -> None:
    """Tell everybody who waits for the model that nothing will come of it."""
    for waiter in draft.models[name].waiters:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)


def restore_victims(draft: Draft, task: Task) -> None:
    """A wake failed for good: those that made room for it are owed their own."""
    owe_wakes(draft, task.slept, task.model)


def owe_wakes(draft: Draft, victims: tuple[str, ...], name: str) -> None:
    """What made room for `name` in vain is woken again when there is room."""
    for victim in victims:
        record = draft.models.get(victim)
        if record is not None and record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2):
            draft.change(victim, owed_wake=Cause(CauseKind.RECOVERY, name))


def owe_all(draft: Draft) -> None:
    """Every sleeper is to be woken where there is room for it: the daemon will not be there to do it."""
    for name, record in list(draft.models.items()):
        if record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2):
            draft.change(name, owed_wake=Cause(CauseKind.OPERATOR, ON_STOP))


def fell_asleep(draft: Draft, task: Task) -> None:
    name = task.model
    record = draft.models[name]
    put_back = task.kind is TaskKind.WAKE
    draft.end_task(task, "asleep again" if put_back else f"asleep at level {task.level}", done=not put_back)
    if put_back:
        problem = NO_ROOM if record.failure and record.failure.code == NO_ROOM else "engine_failed"
        if problem != NO_ROOM:
            count_failure(draft, name)
        if task.cause.kind is CauseKind.RULE:
            draft.change(name, not_before_s=draft.mono_s + RULE_PAUSE_S)
        refuse_all(draft, name, problem, record.failure.detail if record.failure else "it could not be woken")
        restore_victims(draft, task)
        return
    clear_failures(draft, name)
    draft.change(name, failure=None, reason=f"asleep: {describe(task.cause)}")
    if draft.leaving:
        draft.change(name, owed_wake=Cause(CauseKind.OPERATOR, ON_STOP))
    if record.checking:
        draft.change(name, owed_wake=Cause(CauseKind.CHECK, "level 2"))
    elif task.cause.kind is CauseKind.PRIME:
        draft.change(name, owed_wake=task.cause)
    elif task.cause.kind is CauseKind.VICTIM and task.parent is None:
        # The wake or start it made room for came to its end before it slept.
        owe_wakes(draft, (name,), task.cause.who)
    elif task.cause.kind is CauseKind.RESERVATION and task.cause.who not in draft.reservations:
        # What it made room for is over already.
        owe_wakes(draft, (name,), f"reservation {task.cause.who}")
    level = 2 if draft.models[name].life.state is State.ASLEEP_L2 else 1
    for waiter in draft.models[name].waiters:
        if waiter.ask is AskKind.SLEEP and waiter.level > level and waiter.via_wake:
            continue  # it is woken for this first
        if waiter.ask is AskKind.SLEEP and waiter.level > level:
            detail = f"{name} is asleep at level {level} now, {waiter.level} is deeper"
            hint = "wake it first; on stock vLLM a deeper sleep of a sleeper does nothing"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="needs_wake", detail=detail, hint=hint)
        elif waiter.ask is AskKind.SLEEP:
            draft.answer(name, waiter, AnswerKind.DONE, task_id=task.id, level=level)


def _woke(draft: Draft, task: Task) -> None:
    """End of a wake or a proof: without doubt the gate opens; a resumed sleep tells its failure."""
    name = task.model
    record = draft.models[name]
    if record.life.state is State.PROVING and record.life.weights is not Weights.LOADED:
        # Awake, but nothing showed yet that its memory holds what it should: begin_proof comes next.
        draft.end_task(task, "awake, its weights are to be proven", done=True)
        draft.change(name, reason="its weights are to be proven before it serves")
        return
    if record.life.state is State.PROVING:
        draft.state(name, Fact.NOT_PROVABLE)
    took_s: Seconds = draft.mono_s - task.started_s
    draft.end_task(task, "awake", done=task.kind is not TaskKind.SLEEP)
    asked = any(step.verb in (Verb.PROBE, Verb.FINGERPRINT) for step in task.plan.steps)
    if task.kind is TaskKind.WAKE:
        draft.change(name, unverified=record.spec.verify is not Verify.OFF and not asked)
        began_s = task.started_s if task.called_s is None else task.called_s
        learn_duration(draft, draft.models[name], f"wake{task.level}", draft.mono_s - began_s)
    if task.kind is TaskKind.SLEEP:
        count_failure(draft, name)
        refuse_sleepers(draft, name)
        _fail_check(draft, name)
        if task.cause.kind is CauseKind.PRIME:
            draft.change(name, prime_failed=True)
    else:
        clear_failures(draft, name)
        draft.change(name, failure=None)
    if task.kind is TaskKind.WAKE and task.level == 2:
        _note_check(draft, name)
    draft.change(
        name,
        last_active_s=draft.mono_s,
        owed_wake=None,
        last_wake=LastWake(round(took_s, 3), task.kind.value, True, task.id),
        reason=f"awake: {describe(task.cause)}{_unproven(draft.models[name])}",
    )


def _unproven(record: ModelRecord) -> str:
    """Why no answer can show that this wake brought back what was there; empty where one can."""
    if record.fingerprint is not None or not record.unverified:
        return ""
    return f"; its weights cannot be proven: {record.not_provable or NEVER_TAKEN}"


def refuse_sleepers(draft: Draft, name: str) -> None:
    """Tell those who wanted it asleep that it is not, and why: the failure, else the reason it is as it is."""
    record = draft.models[name]
    for waiter in record.waiters:
        if waiter.ask is AskKind.SLEEP:
            detail = record.failure.detail if record.failure else f"{name} does not sleep: {record.reason}"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail)


def _fail_check(draft: Draft, name: str) -> None:
    """A sleep that was to check level 2 did not come about: that proves nothing, and is not tried again by itself."""
    record = draft.models[name]
    if record.checking:
        detail = record.failure.detail if record.failure else "it could not be put to sleep"
        draft.change(name, checking=False, check_failed=detail)


def _note_check(draft: Draft, name: str) -> None:
    record = draft.models[name]
    if not record.checking or record.facts is None:
        return
    draft.prove(proof_key(record.facts))
    draft.change(name, checking=False)
    by = "its answer and the checksums of its weights" if record.checksums else "its answer"
    text = f"{name} came back right from level 2 by {by}: it may be chosen from now on"
    draft.note("level2_proven", name, text)


def describe(cause: Cause) -> str:
    """The cause as a person would say it."""
    return {
        CauseKind.RULE: f"rule {cause.who}",
        CauseKind.OPERATOR: f"asked for by {cause.who}",
        CauseKind.REQUEST: f"a request waits ({cause.who})",
        CauseKind.VICTIM: f"makes room for {cause.who}",
        CauseKind.RESERVATION: f"makes room for reservation {cause.who}",
        CauseKind.CHECK: {"level 2": "checks that level 2 works"}.get(cause.who, f"checks {cause.who}"),
        CauseKind.PRIME: "makes later sleeps fast",
        CauseKind.RECOVERY: f"put back after {cause.who}",
    }[cause.kind]


def without_victim(task: Task, name: str) -> Task:
    """The task without a victim that is no longer there."""
    if task.victim != name and name not in task.slept:
        return task
    victim = None if task.victim == name else task.victim
    return replace(task, victim=victim, slept=tuple(n for n in task.slept if n != name))
