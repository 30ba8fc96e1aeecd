"""Sleeps that wait for requests which reached the engine directly: waited for, and cut short where somebody may ask it.

`/sleep?mode=wait` cannot be cancelled, and waking an engine meanwhile is fatal (vllm/v1/engine/core.py: idle callbacks
stay queued). The one way on is the same sleep with `mode=abort`, which ends the requests it waits for; both calls then
come to their end (recorded from 0.32). That is done by force, or where a waiting request asks for the room, and only
after `[recovery] late_drain`.
"""

from sleepd.core.commands import LeaveStep, LookNow
from sleepd.core.draft import Draft
from sleepd.core.ends import give_up
from sleepd.core.events import StepEnded
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, State
from sleepd.core.model import CauseKind, Known
from sleepd.core.orders import step_timeout, uuids_of
from sleepd.core.plan import Verb
from sleepd.core.record import AskKind, wakes_asked
from sleepd.core.refusals import refuse_sleepers
from sleepd.core.room import wakes_waiting
from sleepd.core.task import HOST_LOCK, Phase, Task, TaskKind
from sleepd.core.tasks import carry_on
from sleepd.core.units import MonotonicS, Seconds, format_duration

PENDING_PAUSE_S = 2.0
PAUSED_BY_OTHERS_S = 60.0
"""A drain ends at the first idle moment; an engine idle and still paused this long after is not draining."""


def hurry_sleeps(draft: Draft) -> None:
    """Stop waiting for the answer of a sleep that direct requests hold up for too long while somebody wants it done.

    Whether they do is seen on the metrics page, which answers while the engine is busy: a long first backup is no
    drain, and is waited for.
    """
    for name, task in list(draft.tasks.items()):
        record = draft.models[name]
        if not _waits_for_answer(task) or record.life.state is not State.FALLING_ASLEEP:
            continue
        late_s = _late_at_s(draft, task)
        if draft.mono_s < late_s or not _is_wanted(draft, task):
            continue
        if isinstance(record.seen, Known) and record.seen.asked_at_s >= late_s and record.seen.value.running:
            draft.command(LeaveStep(name, task.id, task.cursor))
        elif task.resume_s is None or task.resume_s <= draft.mono_s:
            draft.command(LookNow(model=name))
            draft.put_task(replace(task, resume_s=draft.mono_s + PENDING_PAUSE_S))


def hurry_moments(task: Task, late_drain_s: float) -> list[MonotonicS]:
    """When a sleep whose answer is awaited is to be looked at again."""
    return [task.sent_s + late_drain_s] if _waits_for_answer(task) else []


def _waits_for_answer(task: Task) -> bool:
    verb = task.plan.steps[task.cursor].verb if task.cursor < len(task.plan.steps) else None
    return task.running and task.phase is Phase.DO and verb in (Verb.SLEEP_L1, Verb.SLEEP_L2)


def _late_at_s(draft: Draft, task: Task) -> MonotonicS:
    return task.sent_s + draft.settings.late_drain_s


def _is_wanted(draft: Draft, task: Task) -> bool:
    """Whether force or a waiting request asks for the room that this sleep makes."""
    record = draft.models[task.model]
    if task.forced or any(w.ask is AskKind.SLEEP and w.force for w in record.waiters):
        return True
    if task.kind is not TaskKind.SLEEP:
        return False
    if task.cause.kind is CauseKind.VICTIM:
        target = draft.models.get(task.cause.who)
        if target is not None and wakes_asked(target):
            return True
    uuids = set(uuids_of(draft, record))
    return any(any(w.attended for w in r.waiters) and uuids & set(uuids_of(draft, r)) for r in wakes_waiting(draft))


def wait_for_drain(draft: Draft, task: Task, event: StepEnded) -> None:
    """Paused and nothing given back: its sleep waits for direct requests; a pause that outlives all requests is
    somebody else's."""
    name, seen = task.model, event.evidence.seen
    record = draft.models[name]
    assert isinstance(seen, Known)
    if seen.value.activity != task.drained:
        task = replace(task, drained=seen.value.activity, drained_s=draft.mono_s)
    quiet = seen.value.running == 0 and seen.value.waiting == 0
    stuck_s = step_timeout(record, task.plan.steps[task.cursor].verb, draft.settings)
    stands = draft.mono_s - max(task.drained_s, task.sent_s) > stuck_s
    if quiet and draft.mono_s - task.sent_s > PAUSED_BY_OTHERS_S:
        draft.end_task(task, "somebody else paused it")
        draft.state(name, Fact.CONTRADICTED)
        draft.change(name, belief=None, checking=False, reason="paused, and not by us: looking anew")
        draft.command(LookNow(model=name))
        refuse_sleepers(draft, name)
    elif not quiet and draft.mono_s >= _late_at_s(draft, task) and _is_wanted(draft, task):
        _cut(draft, task)
    elif stands and seen.value.running == 0:
        # Requests that merely wait hold up no sleep: what runs is all that a drain waits for.
        draft.state(name, Fact.GAVE_UP)
        told = f"its sleep waits, though nothing has run nor been counted for {format_duration(stuck_s)}"
        give_up(draft, task, "never_drained", f"{told}: restart the server")
    else:
        _tell_wait(draft, name, stuck_s if stands else None)
        # The host is not kept from others meanwhile; its own GPUs are, as it may fall asleep at any moment.
        claims = task.claims - {HOST_LOCK}
        resume_s = draft.mono_s + PENDING_PAUSE_S
        draft.put_task(replace(task, phase=Phase.FENCE, attempt=0, resume_s=resume_s, claims=claims))


def _tell_wait(draft: Draft, name: str, stood_s: Seconds | None) -> None:
    """Say what its sleep waits for. `stood_s`: so long no counter moved, though its core answers and a request runs.
    One long prefill counts nothing before its first token: it is slow as far as anybody knows, and may be ended by who
    is in a hurry. A core that hangs answers no fence either, and is found by that."""
    waits = "its sleep waits for requests that reach it directly"
    if stood_s is not None:
        stood = f"no counter of theirs has moved for {format_duration(stood_s)}, though it answers"
        waits = f"{waits}; {stood}: sleepctl sleep --force {name} ends them"
        if draft.models[name].reason != waits:
            draft.note("held_up", name, f"{name}: {waits}")
    draft.change(name, reason=waits)


def _cut(draft: Draft, task: Task) -> None:
    name = task.model
    draft.state(name, Fact.CUT_CHOSEN)
    waited = format_duration(draft.mono_s - task.sent_s)
    detail = f"direct requests hold up the sleep of {name} for {waited}: it is cut short, and they are ended"
    draft.note("cut", name, detail, {"task": task.id})
    draft.change(name, reason=detail)
    carry_on(draft, replace(task, phase=Phase.CUT, attempt=0))


def cut_ended(draft: Draft, task: Task) -> None:
    """Whatever was answered to a cut, what became of the sleep is found out by a fence."""
    carry_on(draft, replace(task, phase=Phase.FENCE, attempt=0))
