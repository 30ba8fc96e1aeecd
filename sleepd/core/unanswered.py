"""What follows a call whose answer never came: fences find out what it did; a server that stays silent is given up."""

from sleepd.core.dialect import recipe_of
from sleepd.core.draft import Draft
from sleepd.core.drain import PENDING_PAUSE_S, wait_for_drain
from sleepd.core.ends import give_up
from sleepd.core.events import StepEnd, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, Life, State, Weights
from sleepd.core.measured import learn_lost_sleep
from sleepd.core.memory import find_gpu
from sleepd.core.model import Known, Missing, Reading, Settings
from sleepd.core.orders import least_freed, pids_of, step_timeout
from sleepd.core.owed_wakes import restore_victims
from sleepd.core.plan import REPAIRS, SLEEPS, Verb
from sleepd.core.record import Belief, ModelRecord
from sleepd.core.refusals import refuse_all, refuse_sleepers
from sleepd.core.remedy import Verdict, found_since, judge
from sleepd.core.repair import HALF_WAY, needs_restart, repair
from sleepd.core.seen import GpusSeen, SleepGauge
from sleepd.core.sightings import LOST_AFTER_POLLS
from sleepd.core.strangers import yield_to_stranger
from sleepd.core.task import UNIT_TASKS, Intent, Phase, Task, TaskKind
from sleepd.core.tasks import step_on
from sleepd.core.units import MonotonicS

FENCE_RUNS = 5
"""Fences in a row that may stay unanswered before an engine counts as wedged."""
BLIND_S = 600.0
"""How long a call is waited for whose effect on GPU memory cannot be read: NVML that is gone may not come back."""


def settle_unanswered(draft: Draft, task: Task, event: StepEnded) -> None:
    """A fence ended: decide what the unanswered call did, and go on from there."""
    name, verb = task.model, task.plan.steps[task.cursor].verb
    record = draft.models[name]
    if event.end is not StepEnd.DONE:
        _fence_again(draft, task, event)
        return
    seen = event.evidence.seen
    assert isinstance(seen, Known)
    if seen.value.facts.incarnation != record.incarnation or task.intent is None:
        # Another process: the next look voids the task.
        draft.put_task(replace(task, resume_s=draft.mono_s + 1.0))
        return
    waited_s = draft.mono_s - task.sent_s
    if verb in SLEEPS and not _shows_gpus_of(event.evidence.gpus_after, task.intent) and waited_s < BLIND_S:
        # Whether memory was given back cannot be seen now; it can later. Where it stays so, its counted call decides.
        draft.put_task(replace(task, resume_s=draft.mono_s + PENDING_PAUSE_S))
        return
    pids = seen.value.pids or pids_of(record)
    found = found_since(verb, task.intent, event.evidence, pids)
    least = least_freed(draft, record)
    held = recipe_of(seen.value.facts.release).held_when_partial
    verdict = judge(verb, found, least, held_when_partial=held) if found else Verdict.UNCLEAR
    draft.note("found_out", name, f"'{verb}' of {name}: {verdict}", {"task": task.id})
    task = replace(task, phase=Phase.DO if task.kind is not TaskKind.SLEEP or verb in SLEEPS else Phase.UNDO)
    if verdict is Verdict.DONE and verb is Verb.SLEEP_L1 and seen.value.gauge is SleepGauge.DISCARDED:
        # Ours never reached it; the one that is counted was somebody else's, and deeper: no backup brings it back.
        yield_to_stranger(draft, task, None)
    elif verb in SLEEPS:
        unmoved = bool(pids) and found is not None and found.freed is not None and abs(found.freed) < least
        _settle_sleep(draft, task, verdict, event, unmoved)
    else:
        _settle_wake(draft, task, verdict, event)


def _shows_gpus_of(gpus: Reading[GpusSeen] | None, intent: Intent) -> bool:
    """Whether the reading tells of every GPU that its memory was seen on before the call."""
    return isinstance(gpus, Known) and all(find_gpu(gpus.value, uuid) for uuid in intent.used_by_gpu)


def _fence_again(draft: Draft, task: Task, event: StepEnded) -> None:
    if task.attempt + 1 < FENCE_RUNS:
        draft.put_task(replace(task, attempt=task.attempt + 1, resume_s=draft.mono_s + 2.0**task.attempt))
        return
    _wedged(draft, task, event.evidence.detail)


def silent_until_s(settings: Settings, record: ModelRecord, task: Task) -> MonotonicS | None:
    """When a task that waits for its moment is given up, as its server answers no look any more; None: it answers."""
    if (
        task.kind in UNIT_TASKS
        or task.running
        or not isinstance(record.seen, Missing)
        or record.failed_polls < LOST_AFTER_POLLS
    ):
        return None
    return record.seen.since_s + step_timeout(record, task.plan.steps[task.cursor].verb, settings)


def leave_silent(draft: Draft, task: Task) -> None:
    """End the task of a server that answered no look for as long as a call may take: its GPUs are others' again."""
    name = task.model
    record = draft.models[name]
    assert isinstance(record.seen, Missing)
    found = f"{record.seen.reason}: {record.seen.detail}".rstrip(": ")
    if record.life.state not in (State.AWAKE, State.DRAINING, State.ASLEEP_L1, State.ASLEEP_L2):
        _wedged(draft, task, found)
        return
    # Nothing was sent that could have changed it: it is as it was, and wakes and sleeps wait until it answers.
    draft.end_task(task, f"the server does not answer ({found})")
    if record.life.state is State.DRAINING:
        draft.state(name, Fact.DRAIN_EXPIRED)
    draft.change(name, checking=False)
    refuse_all(draft, name, "engine_failed", f"{name} does not answer ({found})")
    restore_victims(draft, task)


def _wedged(draft: Draft, task: Task, found: str) -> None:
    name = task.model
    if draft.models[name].life.state in HALF_WAY:
        draft.state(name, Fact.REFUSED)
    draft.state(name, Fact.GAVE_UP)
    give_up(draft, task, "wedged", f"the engine does not answer ({found}): restart the server")


def _settle_sleep(draft: Draft, task: Task, verdict: Verdict, event: StepEnded, unmoved: bool) -> None:
    name, verb = task.model, task.plan.steps[task.cursor].verb
    state = draft.models[name].life.state
    if verdict is Verdict.DONE:
        done = task.plan.steps[task.cursor].done
        assert done is not None
        learn_lost_sleep(draft, task, event.evidence)
        draft.state(name, done)
        step_on(draft, replace(task, attempt=0))
    elif verdict is Verdict.PENDING:
        if state is State.FALLING_ASLEEP:
            draft.state(name, Fact.UNANSWERED)
        wait_for_drain(draft, task, event)
    elif verdict is Verdict.NOT_SENT and verb in REPAIRS:
        draft.state(name, Fact.REFUSED)
        if task.attempt < draft.settings.retries:
            draft.state(name, Fact.RETRY_SLEEP_CHOSEN)
            go_on_unsent(draft, replace(task, attempt=task.attempt + 1))
        else:
            needs_restart(draft, task)
    elif verdict is Verdict.NOT_SENT:
        record = draft.models[name]
        belief = Belief(Life(State.AWAKE, Weights.LOADED), record.incarnation, record.control)
        draft.state(name, Fact.CONTRADICTED)
        draft.change(name, belief=belief, checking=False, reason="the call to sleep was never carried out")
        draft.end_task(task, "never carried out")
        refuse_sleepers(draft, name)
    else:
        if verdict is Verdict.UNCLEAR:
            draft.state(name, Fact.CONTRADICTED)
            draft.state(name, Fact.FOUND_MIDWAY)
        detail = event.evidence.detail or f"its answer was lost, and it turned out {verdict}"
        refused = replace(event, end=StepEnd.REFUSED, evidence=replace(event.evidence, detail=detail))
        repair(draft, task, refused, unmoved=unmoved and verdict is Verdict.FAILED)


def go_on_unsent(draft: Draft, task: Task) -> None:
    """The call never reached the engine, so nothing will count it either: it goes on in this turn, where it may."""
    draft.put_task(replace(task, uncounted=(), resume_s=None))


def _settle_wake(draft: Draft, task: Task, verdict: Verdict, event: StepEnded) -> None:
    name = task.model
    if verdict is Verdict.DONE:
        done = task.plan.steps[task.cursor].done
        if done is not None:
            draft.state(name, done)
        step_on(draft, replace(task, attempt=0))
    elif verdict is Verdict.NOT_SENT and task.attempt < draft.settings.retries:
        go_on_unsent(draft, replace(task, attempt=task.attempt + 1))
    else:
        detail = event.evidence.detail or f"its answer was lost, and it turned out {verdict}"
        evidence = replace(event.evidence, detail=detail, gpus_before=None)
        repair(draft, task, replace(event, end=StepEnd.REFUSED, evidence=evidence))
