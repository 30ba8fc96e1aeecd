"""How a step ended, and what follows: the next step, a repair, or the end of the task."""

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.drain import cut_ended
from sleepd.core.ends import WANTED_PAUSE_S, give_up, prove_later
from sleepd.core.events import StepEnd, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.host_room import backup_need, backup_refusal
from sleepd.core.late_looks import is_late
from sleepd.core.learn import count_calls, count_own_wake, take_readings
from sleepd.core.life import Fact, State
from sleepd.core.measured import learn_failed_backup, learn_reload, learn_sleep, learn_step, learn_wake
from sleepd.core.memory import placement
from sleepd.core.model import Cause, CauseKind, Known, Reading
from sleepd.core.onward import with_rest
from sleepd.core.plan import OBSERVES, SLEEPS, WAKES, Verb
from sleepd.core.proof import (
    PROBE_RUNS,
    ask_again,
    compare_answer,
    compare_checksums,
    has_reloaded,
    is_in_use,
    not_verified,
    take_answer,
)
from sleepd.core.record import AskKind, ModelRecord
from sleepd.core.refusals import backup_refused, refuse_wishes
from sleepd.core.repair import repair
from sleepd.core.seen import GpusSeen
from sleepd.core.strangers import yield_to_stranger
from sleepd.core.task import Phase, Task, TaskKind
from sleepd.core.tasks import carry_on, step_on
from sleepd.core.unanswered import go_on_unsent, settle_unanswered
from sleepd.core.unit_tasks import end_unit_step, is_on_unit

OVERTAKEN_PAUSE_S = 10.0
"""After a drain was overtaken by requests no rule tries again for this long: whoever is using it goes on using it."""
_GATE_IS_NEXT = frozenset({State.WAKING, State.PARTIALLY_AWAKE, State.PROVING})
QUIET_AGAIN_S = 0.1
"""A request that ended before the last look is no reason to refuse a person: a second look tells whether more come."""


def end_step(draft: Draft, event: StepEnded) -> None:
    """Take in how a step ended and go on: next step, repair, or the end of the task."""
    task = draft.tasks.get(event.model)
    if task is None or task.id != event.task_id or task.cursor != event.cursor or not task.running:
        return
    if is_on_unit(task):
        end_unit_step(draft, draft.put_task(replace(task, running=False)), event)
        return
    task, interfered = count_calls(draft, replace(task, running=False), event)
    task = draft.put_task(task)
    if interfered:
        _yield(draft, task, event)
        return
    others_used = take_readings(draft, event.model, event.evidence)
    if _woke_unseen(task, event):
        task = count_own_wake(draft, task)
    if _would_open_late(draft, task, event):
        _look_again(draft, task)
    elif task.phase is Phase.CUT:
        cut_ended(draft, task)
    elif task.phase is Phase.FENCE:
        settle_unanswered(draft, task, event)
    elif event.end is StepEnd.DONE:
        _succeed(draft, task, event, others_used=others_used)
    else:
        _not_done(draft, task, event, others_used=others_used)


def _yield(draft: Draft, task: Task, event: StepEnded) -> None:
    """Leave the engine to whoever called it meanwhile, with what the step's look showed taken in."""
    seen, before = event.evidence.seen, draft.models[task.model]
    take_readings(draft, event.model, event.evidence)
    if before.life.state is State.AWAKE:
        draft.change(task.model, control=before.control)  # what moved is told
    yield_to_stranger(draft, task, seen.value.control if isinstance(seen, Known) else None)


def _would_open_late(draft: Draft, task: Task, event: StepEnded) -> bool:
    """Whether this end opens the gate by what waited too long for its turn: polls spare a server under a step."""
    verb, seen = task.plan.steps[task.cursor].verb, event.evidence.seen
    if task.cursor + 1 < len(task.plan.steps) or draft.models[task.model].life.state not in _GATE_IS_NEXT:
        return False
    if verb is not Verb.RESET_PREFIX and event.end not in (StepEnd.DONE, StepEnd.NOT_PROVABLE):
        return False
    seen_s = seen.at_s if isinstance(seen, Known) else event.evidence.answered_s
    return is_late(draft, seen_s, task.looked_again)


def _look_again(draft: Draft, task: Task) -> None:
    """Ask a question, or for an empty cache, once more; a wake is not sent again: what it did is found out."""
    again = task.phase is Phase.FENCE or task.plan.steps[task.cursor].verb not in WAKES
    draft.note("looked_again", task.model, f"{task.model} is looked at again: what its {task.kind} showed grew old")
    task = replace(task, looked_again=task.looked_again + 1)
    carry_on(draft, task if again else replace(task, phase=Phase.FENCE))


def _woke_unseen(task: Task, event: StepEnded) -> bool:
    """Whether a wake was proven by a look without counters: that it was counted is known, not seen."""
    seen = event.evidence.seen
    if event.end is not StepEnd.DONE or task.plan.steps[task.cursor].verb is not Verb.WAKE or task.phase is Phase.FENCE:
        return False
    return isinstance(seen, Known) and seen.value.control is None


def _not_done(draft: Draft, task: Task, event: StepEnded, *, others_used: bool) -> None:
    verb = task.plan.steps[task.cursor].verb
    if verb in OBSERVES:
        _not_observed(draft, task, event, others_used=others_used)
    elif event.end is StepEnd.NOT_SENT:
        go_on_unsent(draft, task)
    elif event.end in (StepEnd.UNANSWERED, StepEnd.BROKEN_OFF) or _unseen(draft.models[task.model], event):
        if verb in SLEEPS and draft.models[task.model].life.state is State.FALLING_ASLEEP:
            draft.state(task.model, Fact.UNANSWERED)
        detail = f"no answer to '{verb}' ({event.evidence.detail}); finding out what it did"
        draft.note("unanswered", task.model, detail, {"task": task.id, "step": verb.value})
        draft.change(task.model, reason=detail)
        carry_on(draft, replace(task, phase=Phase.FENCE))
    else:
        if verb in (Verb.SLEEP_L1, Verb.RESLEEP_L1):
            gpus = draft.gpus.value if isinstance(draft.gpus, Known) else None
            learn_failed_backup(draft, task, event.evidence, backup_need(draft.models[task.model], gpus))
        repair(draft, task, event)


def _unseen(record: ModelRecord, event: StepEnded) -> bool:
    """Whether only a missing reading kept a call from being proven: that contradicts nothing, it is found out later."""
    seen, before, after = event.evidence.seen, event.evidence.gpus_before, event.evidence.gpus_after
    asleep = isinstance(seen, Known) and seen.value.is_sleeping is True
    shown = all(_shows_its_gpus(record, gpus) for gpus in (before, after))
    missing = not isinstance(seen, Known) or (asleep and not shown)
    return event.end is StepEnd.UNPROVEN and missing


def _shows_its_gpus(record: ModelRecord, gpus: Reading[GpusSeen] | None) -> bool:
    """Whether the reading tells of all of its GPUs: one that fails is left out of it."""
    return isinstance(gpus, Known) and bool(placement(record.spec, record.placed_on, gpus.value))


def _not_observed(draft: Draft, task: Task, event: StepEnded, *, others_used: bool) -> None:
    """A step that only looks did not see what it wanted: busy, not provable, or no answer."""
    name, verb = task.model, task.plan.steps[task.cursor].verb
    if verb is Verb.FINGERPRINT and event.end is StepEnd.NOT_PROVABLE:
        draft.change(name, not_provable=f"no known answer can be taken ({event.evidence.detail or event.end})")
    if task.kind is TaskKind.PROVE and draft.models[name].life.state is State.AWAKE:
        not_verified(draft, task, event)
    elif draft.models[name].life.state is State.DRAINING:
        if verb is Verb.FINGERPRINT and event.end is StepEnd.NOT_PROVABLE and task.level < 2:
            step_on(draft, task)
            return
        if event.end is StepEnd.NOT_PROVABLE:
            draft.change(name, check_failed=f"no known answer could be taken: {event.evidence.detail}")
        _overtake(draft, task, event)
    elif verb is Verb.CONFIRM_IDLE:
        prove_later(draft, task, event.evidence.detail or event.end.value)
    else:
        _not_proven(draft, task, event, others_used=others_used)


def _not_proven(draft: Draft, task: Task, event: StepEnded, *, others_used: bool) -> None:
    """A question to an engine whose gate is shut got no answer: the gate stays shut."""
    name, verb = task.model, task.plan.steps[task.cursor].verb
    left = ask_again(draft, task, event, PROBE_RUNS)
    if left is None:
        return
    task = draft.put_task(left)
    if verb is Verb.FINGERPRINT and event.end is StepEnd.NOT_PROVABLE and has_reloaded(task):
        # There is nothing to compare with, now or ever (a model that does not generate, say): reading its weights anew
        # by a recipe that is safe for this engine is all that can be done, and it was done.
        detail = f"{name} has no answer to be known by ({event.evidence.detail}); its weights were read anew"
        draft.note("not_provable", name, detail)
        draft.state(name, Fact.ANSWER_RIGHT)
        step_on(draft, task)
    elif is_in_use(event, others_used=others_used):
        prove_later(draft, task, "it has others to answer first, that use it directly")
    else:
        draft.state(name, Fact.GAVE_UP)
        give_up(draft, task, "not_provable", f"no known answer could be taken: {event.evidence.detail or event.end}")


def _overtake(draft: Draft, task: Task, event: StepEnded) -> None:
    name = task.model
    record = draft.models[name]
    draining = [w for w in record.waiters if w.ask is AskKind.SLEEP and w.drain_until_s > draft.mono_s]
    if event.end is StepEnd.BUSY and draining and not any(w.ask is AskKind.WAKE for w in record.waiters):
        again_s = min(min(w.drain_until_s for w in draining), draft.mono_s + 0.5)
        draft.put_task(replace(task, resume_s=again_s))
        return
    if (
        task.cause.kind in (CauseKind.OPERATOR, CauseKind.VICTIM, CauseKind.RESERVATION)
        and task.attempt == 0
        and _is_quiet(event)
    ):
        draft.put_task(replace(task, attempt=1, resume_s=draft.mono_s + QUIET_AGAIN_S))
        return
    draft.state(name, Fact.OVERTAKEN)
    if event.evidence.lost:
        draft.change(name, broke_off_s=draft.mono_s)
    detail = event.evidence.detail or event.end.value
    draft.end_task(task, f"stays awake: {detail}")
    draft.change(
        name,
        last_active_s=draft.mono_s if event.end is StepEnd.BUSY else record.last_active_s,
        not_before_s=draft.mono_s + (OVERTAKEN_PAUSE_S if _is_ours(task.cause) else WANTED_PAUSE_S),
        checking=False,
        reason=f"stays awake: {detail}",
    )
    for waiter in record.waiters:
        if waiter.ask in (AskKind.SLEEP, AskKind.STOP):
            hint = "wait until its requests end, or give drain_s"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="busy", detail=f"{name} is in use", hint=hint)


def _keep_awake(draft: Draft, task: Task, refused: Answer) -> None:
    """Nothing was sent, and there is no host RAM for its backup any more: it serves on."""
    name = task.model
    reason = f"stays awake: {backup_refusal(draft.world(), draft.models[name])}"
    draft.state(name, Fact.OVERTAKEN)
    draft.end_task(task, reason)
    not_before_s = draft.mono_s + (OVERTAKEN_PAUSE_S if _is_ours(task.cause) else WANTED_PAUSE_S)
    draft.change(name, not_before_s=not_before_s, checking=False, reason=reason)
    # A deeper sleep, which somebody asked for meanwhile, needs no backup.
    wishes = [w for w in draft.models[name].waiters if w.ask is AskKind.SLEEP and w.level == task.level]
    refuse_wishes(draft, name, wishes, refused)


def _is_ours(cause: Cause) -> bool:
    """Whether nobody waits for the sleep: then there is time until whoever uses the model has finished."""
    return cause.kind in (CauseKind.RULE, CauseKind.CHECK, CauseKind.PRIME)


def _is_quiet(event: StepEnded) -> bool:
    """Whether nothing runs or waits any more, though counters moved since the look before."""
    seen = event.evidence.seen
    return event.end is StepEnd.BUSY and isinstance(seen, Known) and seen.value.running == seen.value.waiting == 0


def _succeed(draft: Draft, task: Task, event: StepEnded, *, others_used: bool) -> None:
    verb, evidence = task.plan.steps[task.cursor].verb, event.evidence
    done = task.plan.steps[task.cursor].done
    drains = draft.models[task.model].life.state is State.DRAINING
    learn_step(draft, task, verb, evidence)
    if verb is Verb.FINGERPRINT:
        if others_used and drains:
            _overtake(draft, task, replace(event, end=StepEnd.BUSY))
        else:
            take_answer(draft, task, evidence)
        return
    if verb is Verb.PROBE:
        compare_answer(draft, task, evidence.answers)
        return
    if verb is Verb.COMPARE_CHECKSUMS:
        compare_checksums(draft, task, evidence.checksums)
        return
    if verb is Verb.TAKE_CHECKSUMS:
        draft.change(task.model, checksums=evidence.checksums)
    if verb is Verb.CONFIRM_IDLE and drains and event.in_flight:
        busy = replace(evidence, detail=f"{event.in_flight} requests inside its gate")
        _overtake(draft, task, replace(event, end=StepEnd.BUSY, evidence=busy))
        return
    if verb is Verb.CONFIRM_IDLE and drains and task.kind is TaskKind.SLEEP and task.level == 1:
        # It was let in before its gate was shut, and drained for as long as it took.
        refused = backup_refused(draft, draft.models[task.model])
        if refused is not None:
            _keep_awake(draft, task, refused)
            return
    if verb in SLEEPS:
        learn_sleep(draft, task, verb, evidence)
    elif verb in (Verb.WAKE, Verb.WAKE_KV):
        learn_wake(draft, task, evidence)
    elif verb is Verb.RELOAD:
        learn_reload(draft, task, evidence)
    if verb in (Verb.WAKE_WEIGHTS, Verb.RELOAD):
        task = with_rest(draft, task, evidence.gpus_after)
    if done is not None:
        draft.state(task.model, done)
    step_on(draft, replace(task, attempt=0))
