"""What an ended step showed: readings that replace older ones, and whether somebody else moved the engine meanwhile."""

from sleepd.core.activity import NOTHING, Owed, ask_lost, share_out
from sleepd.core.draft import Draft
from sleepd.core.events import Evidence, LookNow, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.life import State
from sleepd.core.model import Known, ModelSeen
from sleepd.core.plan import OBSERVES, SLEEPS, WAKES, Verb
from sleepd.core.world import Phase, Task


def take_readings(draft: Draft, name: str, evidence: Evidence) -> bool:
    """Let what a step observed replace older readings, and move the baselines past our own calls.

    Return whether somebody else's requests moved the counters since the look before.
    """
    fields: dict[str, object] = {"settled_s": draft.mono_s}
    used = False
    owe(draft, name, evidence)
    if isinstance(evidence.seen, Known):
        seen = evidence.seen.value
        record = draft.models[name]
        # Looks inside a step skip the pids; a server's processes do not change within its incarnation.
        if not seen.pids and isinstance(record.seen, Known):
            seen = replace(seen, pids=record.seen.value.pids)
        if seen.unit_memory is not None:
            fields["unit_read_s"] = evidence.seen.asked_at_s
        elif isinstance(record.seen, Known):
            seen = replace(seen, unit_memory=record.seen.value.unit_memory)
        if seen.facts.incarnation == record.incarnation:
            shown = seen
            if seen.control is None and seen.running is None and isinstance(record.seen, Known):
                # A look that asked for no page: what the one before told of requests is the newest there is.
                shown = replace(record.seen.value, is_sleeping=seen.is_sleeping)
            fields |= {"seen": replace(evidence.seen, value=shown), "failed_polls": 0}
            lags = seen.control == record.control_before
            fields |= {"control": record.control if lags else seen.control or record.control}
            used = count_use(draft, name, seen)
            owed = draft.models[name].owed
            if evidence.answers and not owed.certain.any():
                # The engine answers in order, and the page has caught up: what an earlier question did is in it.
                draft.change(name, owed=Owed())
            fields["settled_s"] = evidence.seen.asked_at_s
    draft.change(name, **fields)
    after = evidence.gpus_after
    if isinstance(after, Known) and (not isinstance(draft.gpus, Known) or after.asked_at_s >= draft.gpus.asked_at_s):
        draft.gpus = after
    if evidence.host_after is not None and isinstance(evidence.host_after, Known):
        draft.host = evidence.host_after
    return used


def owe(draft: Draft, name: str, evidence: Evidence) -> None:
    """Remember by how much our own questions moved the counters, or may have."""
    record = draft.models[name]
    owed = record.owed
    if evidence.spent.any():
        owed = replace(owed, certain=owed.certain + evidence.spent)
    if evidence.lost:
        known = record.fingerprint
        owed = ask_lost(owed, known.prompt_tokens if known else None)
    draft.change(name, owed=owed)


def count_use(draft: Draft, name: str, seen: ModelSeen) -> bool:
    """Take in a look's request counters; return whether users moved them, which is activity."""
    record = draft.models[name]
    if seen.activity is None or seen.activity == record.activity:
        return False
    if record.activity is None:
        draft.change(name, activity=seen.activity)
        return False
    users, owed = share_out(seen.activity - record.activity, record.owed)
    draft.change(name, activity=seen.activity, owed=owed)
    if users.any():
        counted_anew = min(users.prompt_tokens, users.generation_tokens, users.requests_done) < 0
        draft.change(name, last_active_s=draft.mono_s, used=record.used + (NOTHING if counted_anew else users))
    return users.any()


def count_own_wake(draft: Draft, name: str) -> None:
    """A wake that was answered with success and whose look had no page: its counter moved by one, by us. The page is
    read right after, and compared."""
    record = draft.models[name]
    if record.control is None:
        return
    wake = replace(record.control.wake, ok=record.control.wake.ok + 1)
    draft.change(name, control=replace(record.control, wake=wake), control_before=record.control)
    draft.command(LookNow(model=name))


def somebody_else(draft: Draft, task: Task, event: StepEnded) -> bool:
    """Whether control handlers moved by more than our own call since the last look before the step."""
    record, seen = draft.models[task.model], event.evidence.seen
    if record.life.state is State.BROKEN or not isinstance(seen, Known) or seen.value.control is None:
        return False
    if record.control is None or seen.value.facts.incarnation != record.incarnation:
        return False
    if seen.value.control == record.control_before:
        return False  # our own wake is not counted yet, and nothing else was
    verb = task.plan.steps[task.cursor].verb
    # A call whose answer was lost may or may not be counted; each resend adds one.
    own = 0 if verb in OBSERVES and task.phase is not Phase.FENCE else 1 + task.attempt
    for was, now, ours in (
        (record.control.sleep, seen.value.control.sleep, verb in SLEEPS - {Verb.WORKER_SLEEP_L1}),
        (record.control.wake, seen.value.control.wake, verb in WAKES),
        (record.control.rpc, seen.value.control.rpc, verb in (Verb.RELOAD, Verb.WORKER_SLEEP_L1)),
        (record.control.pause, seen.value.control.pause, False),
        (record.control.update, seen.value.control.update, False),
    ):
        moved = now.ok + now.failed - was.ok - was.failed
        if moved < 0 or moved > (own if ours else 0):
            return True
    return False
