"""How tasks end, and what an end means for the model, its waiters and those that made room for it."""

from sleepd.core.budget import close_account, count_failure
from sleepd.core.commands import AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.known_answer import NEVER_TAKEN
from sleepd.core.learn import owe_unheard
from sleepd.core.life import Fact, State, Weights, wakes_from
from sleepd.core.measured import learn_duration
from sleepd.core.model import Cause, CauseKind, Verify
from sleepd.core.owed_wakes import ON_STOP, owe_wakes, restore_victims
from sleepd.core.plan import Verb
from sleepd.core.record import AskKind, LastWake, ModelRecord
from sleepd.core.refusals import refuse_all, refuse_sleepers, refuse_users
from sleepd.core.restarts import owe_restart
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Seconds
from sleepd.core.wording import describe
from sleepd.core.world import proof_key

NO_ROOM = "no_room"
"""The failure of a wake that was put back as somebody took its memory meanwhile: no fault of the engine's."""
WANTED_PAUSE_S = 1.0
"""After a sleep that came to nothing because its model is used or wanted, nobody tries again before this."""
PROVE_LATER_S = 2.0
"""How long after it was found in use directly a model that is to be proven is looked at again."""
RULE_PAUSE_S = 60.0
"""A wake that a rule wanted and that failed is not tried again by the rule before this."""


def give_up(draft: Draft, task: Task, code: str, detail: str) -> None:
    """End a task whose model is not to be used: everybody is told, and victims are owed their wake."""
    name = task.model
    draft.end_task(task, f"failed: {detail}")
    if task.kind in (TaskKind.SLEEP, TaskKind.WAKE):
        draft.change(name, attempts=draft.models[name].attempts + 1)
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


def prove_later(draft: Draft, task: Task, why: str) -> None:
    """End a task whose model somebody uses directly before it is proven: its gate stays shut, and its GPUs and the host
    are not kept from others until that ends."""
    name = task.model
    draft.end_task(task, f"later: {why}")
    if task.kind is TaskKind.SLEEP:
        _fail_sleep(draft, task)
    reason = "its weights are to be proven as soon as nobody uses it directly"
    draft.change(name, not_before_s=draft.mono_s + PROVE_LATER_S, checking=False, reason=reason)


def take_back_drain(draft: Draft, name: str, why: str) -> None:
    """Let a model that only drains serve on: nothing was sent yet, its gate simply opens again."""
    task = draft.tasks.get(name)
    if task is not None and draft.models[name].life.state is State.DRAINING:
        owe_unheard(draft, task)
        draft.end_task(task, why)
        draft.state(name, Fact.WAKE_CHOSEN)
        # Whoever wants it gets in before anybody else's wish ends its turn.
        draft.change(
            name,
            checking=False,
            not_before_s=max(draft.models[name].not_before_s, draft.mono_s + WANTED_PAUSE_S),
            reason=f"awake: {why}",
        )


def fell_asleep(draft: Draft, task: Task) -> None:
    """End of a sleep, or of a wake that was put back: who waits is told, who made room in vain is owed its wake."""
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
    # Whether it comes back is still to be shown; nobody has to wait with that.
    draft.change(name, failure=None, cooldown_until_s=0.0, reason=f"asleep: {describe(task.cause)}")
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
    level = wakes_from(draft.models[name].life.state)
    for waiter in draft.models[name].waiters:
        if waiter.ask is AskKind.SLEEP and waiter.level > level and waiter.via_wake:
            continue  # it is woken for this first
        if waiter.ask is AskKind.SLEEP and waiter.level > level:
            detail = f"{name} is asleep at level {level} now, {waiter.level} is deeper"
            hint = "wake it first; on stock vLLM a deeper sleep of a sleeper does nothing"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="needs_wake", detail=detail, hint=hint)
        elif waiter.ask is AskKind.SLEEP:
            draft.answer(name, waiter, AnswerKind.DONE, task_id=task.id, level=level)


def woke(draft: Draft, task: Task) -> None:
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
        draft.change(name, unverified=record.spec.verify is not Verify.OFF and not asked, untried=not asked)
        began_s = task.started_s if task.called_s is None else task.called_s
        learn_duration(draft, draft.models[name], f"wake{task.level}", draft.mono_s - began_s)
    if task.kind is TaskKind.SLEEP:
        _fail_sleep(draft, task)
    else:
        draft.change(name, failure=None, cooldown_until_s=0.0)
    if task.kind is TaskKind.WAKE:
        close_account(draft, name)
        if task.level == 2:
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


def _fail_sleep(draft: Draft, task: Task) -> None:
    """A sleep was taken back as the engine refused it: who waits for it is told, and it is left alone for a while."""
    count_failure(draft, task.model)
    refuse_sleepers(draft, task.model)
    _fail_check(draft, task.model)
    if task.cause.kind is CauseKind.PRIME:
        draft.change(task.model, prime_failed=True)


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
