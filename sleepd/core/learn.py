"""What an ended step showed: readings that replace older ones, and whether somebody else moved the engine meanwhile."""

from dataclasses import replace

from sleepd.core.draft import Draft
from sleepd.core.events import Evidence, StepEnded
from sleepd.core.life import State
from sleepd.core.model import Known
from sleepd.core.plan import OBSERVES, SLEEPS, WAKES, Verb
from sleepd.core.world import Phase, Task


def take_readings(draft: Draft, name: str, evidence: Evidence) -> None:
    """Let what a step observed replace older readings, and move the baselines past our own calls."""
    fields: dict[str, object] = {"settled_s": draft.mono_s}
    if isinstance(evidence.seen, Known):
        seen = evidence.seen.value
        record = draft.models[name]
        # Looks inside a step skip the pids; a server's processes do not change within its incarnation.
        if not seen.pids and isinstance(record.seen, Known):
            seen = replace(seen, pids=record.seen.value.pids)
        if seen.unit_memory is None and isinstance(record.seen, Known):
            seen = replace(seen, unit_memory=record.seen.value.unit_memory)
        if seen.facts.incarnation == record.incarnation:
            fields |= {"seen": replace(evidence.seen, value=seen), "failed_polls": 0}
            fields |= {"control": seen.control or record.control, "activity": seen.activity or record.activity}
            fields["settled_s"] = evidence.seen.asked_at_s
    draft.change(name, **fields)
    after = evidence.gpus_after
    if isinstance(after, Known) and (not isinstance(draft.gpus, Known) or after.asked_at_s >= draft.gpus.asked_at_s):
        draft.gpus = after
    if evidence.host_after is not None and isinstance(evidence.host_after, Known):
        draft.host = evidence.host_after


def somebody_else(draft: Draft, task: Task, event: StepEnded) -> bool:
    """Whether control handlers moved by more than our own call since the last look before the step."""
    record, seen = draft.models[task.model], event.evidence.seen
    if record.life.state is State.BROKEN or not isinstance(seen, Known) or seen.value.control is None:
        return False
    if record.control is None or seen.value.facts.incarnation != record.incarnation:
        return False
    verb = task.plan.steps[task.cursor].verb
    # A call whose answer was lost may or may not be counted; each resend adds one.
    own = 0 if verb in OBSERVES and task.phase is not Phase.FENCE else 1 + task.attempt
    for was, now, ours in (
        (record.control.sleep, seen.value.control.sleep, verb in SLEEPS - {Verb.WORKER_SLEEP_L1}),
        (record.control.wake, seen.value.control.wake, verb in WAKES),
        (record.control.rpc, seen.value.control.rpc, verb in (Verb.RELOAD, Verb.WORKER_SLEEP_L1)),
    ):
        moved = now.ok + now.failed - was.ok - was.failed
        if moved < 0 or moved > (own if ours else 0):
            return True
    return False
