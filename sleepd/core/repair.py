"""What follows a failed or unanswered step, by the release's recipe: again, put back, resume, or give up."""

from sleepd.core.budget import jitter
from sleepd.core.dialect import Remedy, has_ranks, recipe_of
from sleepd.core.draft import Draft
from sleepd.core.drain import PENDING_PAUSE_S
from sleepd.core.ends import fell_asleep, give_up
from sleepd.core.events import Evidence, StepEnd, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.half_way import holds_as_asleep
from sleepd.core.life import Fact, State, Weights
from sleepd.core.model import Known
from sleepd.core.orders import least_freed, pids_of, uuids_of
from sleepd.core.plan import SLEEPS, WAKES, Plan, Verb, in_stages, plan_resume, redirect, step_of
from sleepd.core.record import ModelRecord
from sleepd.core.remedy import failure_code, nothing_moved, remedies_for
from sleepd.core.task import HOST_LOCK, Phase, Task, TaskKind
from sleepd.core.tasks import carry_on, step_on

CACHE_IS_HELD = 409
"""The adapter's word for a 200 with `"success": false` from /reset_prefix_cache."""

_RETRY_FACT = {
    Verb.WAKE: Fact.RETRY_WAKE_CHOSEN,
    Verb.WAKE_WEIGHTS: Fact.RETRY_WEIGHTS_CHOSEN,
    Verb.RELOAD: Fact.RETRY_RELOAD_CHOSEN,
    Verb.WAKE_KV: Fact.RETRY_KV_CHOSEN,
    Verb.RESET_PREFIX: Fact.RETRY_KV_CHOSEN,
}
HALF_WAY = frozenset({State.FALLING_ASLEEP, State.WAKING, State.WAKING_WEIGHTS, State.RELOADING, State.PARTIALLY_AWAKE})
_RESLEEP = {1: Verb.RESLEEP_L1, 2: Verb.RESLEEP_L2}


def repair(draft: Draft, task: Task, event: StepEnded, *, unmoved: bool | None = None) -> None:
    """A call was refused, or succeeded without its effect: state it, then do what the recipe allows.

    `unmoved`: whether its bytes are as they were before the call, where somebody else than the step measured that.
    """
    name, verb, evidence = task.model, task.plan.steps[task.cursor].verb, event.evidence
    record = draft.models[name]
    if verb is Verb.RESET_PREFIX and record.life.state is State.PROVING:
        _repair_last_reset(draft, task, event)
        return
    if verb is Verb.RESET_PREFIX and task.kind is TaskKind.PROVE and evidence.status == CACHE_IS_HELD:
        # The engine is awake and in direct use: nothing failed, the first gap between requests will do.
        draft.change(name, reason="its prefix cache is to be emptied before it serves, and requests hold it")
        # Whoever uses it keeps nobody else's backup waiting.
        claims = task.claims - {HOST_LOCK}
        draft.put_task(replace(task, resume_s=draft.mono_s + PENDING_PAUSE_S, claims=claims))
        return
    told = evidence.detail or "200, but its effect was not observed"
    detail = f"'{verb}' failed: {told}" + (f" (status {evidence.status})" if evidence.status else "")
    draft.fail(name, failure_code(verb, event.end), detail, verb)
    if record.life.state is not State.BROKEN:
        draft.state(name, Fact.REFUSED)
    if verb in SLEEPS:
        _repair_sleep(draft, task, verb, event, unmoved)
    else:
        _repair_wake(draft, task, verb, event)


def _repair_last_reset(draft: Draft, task: Task, event: StepEnded) -> None:
    """The prefix cache of an engine with all its memory back was not emptied. Where the sleep itself emptied it, that
    is belt and braces and a note is enough; up to 0.10.0 it did not, and what is cached there is gone."""
    name, record = task.model, draft.models[task.model]
    assert record.facts is not None
    if not recipe_of(record.facts.release).reset_prefix_after_wake:
        draft.note("prefix_cache", name, f"{name} kept its prefix cache: {event.evidence.detail}")
        step_on(draft, task)
    elif task.refusals < draft.settings.retries:
        _pause(draft, task)
    else:
        draft.state(name, Fact.GAVE_UP)
        told = f"its prefix cache could not be emptied after waking ({event.evidence.detail or event.end})"
        give_up(draft, task, "prefix_cache", f"{told}, and this release answers from what it held before: restart it")


def _pause(draft: Draft, task: Task) -> None:
    """Let the task rest before it tries once more, longer each time."""
    refusals, rest_s = task.refusals + 1, 2.0**task.refusals * jitter(draft.now.entropy)
    resume_s = draft.mono_s + rest_s
    draft.put_task(replace(task, attempt=task.attempt + 1, refusals=refusals, resume_s=resume_s))


def _still(draft: Draft, record: ModelRecord, evidence: Evidence) -> bool:
    return nothing_moved(evidence, uuids_of(draft, record), pids_of(record), least_freed(draft, record))


def _repair_sleep(draft: Draft, task: Task, verb: Verb, event: StepEnded, unmoved: bool | None) -> None:
    name = task.model
    record = draft.models[name]
    assert record.facts is not None
    first = verb in (Verb.SLEEP_L1, Verb.SLEEP_L2)
    # Ranks that did not all carry out the same calls are out of step, whatever their bytes say.
    facts = record.facts
    in_step = event.end is StepEnd.UNPROVEN or not has_ranks(facts)
    if first and in_step and (_still(draft, record, event.evidence) if unmoved is None else unmoved):
        seen = event.evidence.seen
        claims_sleep = isinstance(seen, Known) and seen.value.is_sleeping is True
        if event.end is StepEnd.UNPROVEN and claims_sleep:
            draft.change(name, frees_nothing=True)
            hint = "start the server with --enable-sleep-mode"
            draft.fail(name, "frees_nothing", f"it slept and freed nothing: {hint}", verb)
        record = draft.state(name, Fact.RESUME_CHOSEN)
        steps = plan_resume(probe=record.life.weights is not Weights.LOADED)
        _redirect(draft, task, Phase.UNDO, *steps)
        return
    if first and Remedy.RESLEEP in remedies_for(verb, facts, task.level):
        draft.state(name, Fact.RETRY_SLEEP_CHOSEN)
        _redirect(draft, task, task.phase, step_of(Verb.RESLEEP_L1))
        return
    needs_restart(draft, task)


def _repair_wake(draft: Draft, task: Task, verb: Verb, event: StepEnded) -> None:
    name = task.model
    record = draft.models[name]
    assert record.facts is not None
    allowed = remedies_for(verb, record.facts, task.level)
    seen = event.evidence.seen
    asleep = isinstance(seen, Known) and seen.value.is_sleeping is True
    if verb in (Verb.WAKE, Verb.WAKE_KV) and isinstance(seen, Known) and seen.value.is_sleeping is False:
        # It runs: to send a wake again or to put its memory back would pull it from under whatever it computes.
        needs_restart(draft, task)
        return
    # Polls leave process lists out, so what it held before may not be known: what it was learned to hold asleep is. And
    # where the last try moved nothing, an earlier one may have.
    still = holds_as_asleep(record, event.evidence.gpus_after, pids_of(record)) or (
        not task.refusals and _still(draft, record, event.evidence)
    )
    untouched = asleep and verb is Verb.WAKE and still
    ignored = untouched and event.end is StepEnd.UNPROVEN and task.refusals == 0
    if task.refusals < _tries(allowed, draft.settings.retries) or (ignored and draft.settings.retries):
        _pause(draft, task)
        return
    put_back(draft, task, untouched=untouched and allowed[0] is not Remedy.RESTART)


def _tries(allowed: tuple[Remedy, ...], retries: int) -> int:
    """How often the failed call may be sent again."""
    if Remedy.RETRY_ONCE in allowed:
        return min(1, retries)
    return retries if Remedy.RETRY in allowed or Remedy.IN_STAGES in allowed else 0


def retry(draft: Draft, task: Task) -> None:
    """Leave the broken state for the one that failed, and send the failed call again: in stages where that is safer.

    A wake that failed once serves only after its answer was compared: engines that roll a failed wake back may have
    dropped what they had restored already, and say 200 to the next one (vLLM forks after pull request 34600).
    """
    verb = task.plan.steps[task.cursor].verb
    record = draft.models[task.model]
    assert record.facts is not None
    if verb is Verb.WAKE and task.level == 1 and Remedy.IN_STAGES in remedies_for(verb, record.facts, 1):
        plan = in_stages(task.plan, task.cursor)
        task, verb = replace(task, plan=plan, cursor=task.cursor + 1), Verb.WAKE_WEIGHTS
    compares = any(step.verb in (Verb.PROBE, Verb.FINGERPRINT) for step in task.plan.steps)
    if verb in WAKES and not compares and record.fingerprint is not None:
        task = replace(task, plan=Plan((*task.plan.steps, step_of(Verb.PROBE))))
    draft.state(task.model, _RETRY_FACT[verb])
    carry_on(draft, task)


def was_ignored(record: ModelRecord, task: Task) -> bool:
    """Whether the wake that is to be repeated had no effect: what failed is repeated only where the recipe says so."""
    assert record.facts is not None
    verb = task.plan.steps[task.cursor].verb
    repeats = _tries(remedies_for(verb, record.facts, task.level), retries=1)
    return verb is Verb.WAKE and task.refusals > 0 and not repeats


def put_back(draft: Draft, task: Task, *, untouched: bool) -> None:
    """Undo a wake that did not work out where the recipe can, else give the engine up."""
    name = task.model
    record = draft.models[name]
    if untouched and task.level == 1 and record.life.weights is Weights.OFFLOADED:
        # The server says it sleeps and no byte moved: it is as it was before.
        draft.state(name, Fact.UNDO_CHOSEN)
        draft.state(name, Fact.L1_CONFIRMED)
        fell_asleep(draft, task)
        return
    undo = _undo_of(record, task)
    if undo is not None:
        draft.state(name, Fact.UNDO_CHOSEN)
        _redirect(draft, task, Phase.UNDO, step_of(undo))
        return
    needs_restart(draft, task)


def can_put_back(record: ModelRecord, task: Task) -> bool:
    """Whether the recipe of the release can undo the wake at the step it is at."""
    return _undo_of(record, task) is not None


def _undo_of(record: ModelRecord, task: Task) -> Verb | None:
    assert record.facts is not None
    allowed = remedies_for(task.plan.steps[task.cursor].verb, record.facts, task.level)
    if task.phase is not Phase.DO or task.kind is not TaskKind.WAKE:
        return None
    if Remedy.WORKER_SLEEP in allowed:
        return Verb.WORKER_SLEEP_L1
    return _RESLEEP[task.level] if Remedy.RESLEEP in allowed and task.level else None


def _redirect(draft: Draft, task: Task, phase: Phase, *steps: object) -> None:
    plan = redirect(task.plan, task.cursor + 1, *steps)  # type: ignore[arg-type]
    carry_on(draft, replace(task, plan=plan, cursor=task.cursor + 1, phase=phase, attempt=0, refusals=0))


def needs_restart(draft: Draft, task: Task) -> None:
    """Only a new process helps: its unit is restarted where that is ours to do, else the operator is told."""
    draft.state(task.model, Fact.GAVE_UP)
    failure = draft.models[task.model].failure
    detail = failure.detail if failure else "the engine cannot be repaired"
    give_up(draft, task, failure.code if failure else "broken", f"{detail}; restart the server")
