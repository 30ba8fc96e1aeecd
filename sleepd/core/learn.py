"""What an ended step showed: readings that replace older ones, and whether somebody else moved the engine meanwhile."""

from sleepd.core.activity import NOTHING, Owed, ask_lost, share_out
from sleepd.core.budget import close_account
from sleepd.core.commands import LookNow
from sleepd.core.counted import take_off
from sleepd.core.draft import Draft
from sleepd.core.events import Evidence, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.known_answer import TAKEN_RUNS, still_listed
from sleepd.core.life import State
from sleepd.core.model import Known
from sleepd.core.plan import CHECKSUMS, Verb
from sleepd.core.seen import EngineFacts, ModelSeen
from sleepd.core.task import Task


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
            take_facts(draft, name, seen.facts)
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


def take_facts(draft: Draft, name: str, facts: EngineFacts) -> None:
    """What the process told of itself, and which adapters it lists: answers of those that are gone are forgotten."""
    known = draft.models[name].fingerprint
    draft.change(name, facts=facts, fingerprint=known and still_listed(known, facts))


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


def owe_unheard(draft: Draft, task: Task) -> None:
    """Remember what the questions of a task may still move that ends while they are out: they run on, unheard."""
    record, verb = draft.models[task.model], task.plan.steps[task.cursor].verb
    if task.running and verb in CHECKSUMS and record.control is not None:
        checked = replace(record.control.check, ok=record.control.check.ok + 1)
        draft.change(task.model, control=replace(record.control, check=checked), control_before=record.control)
    if not task.running or verb is not Verb.FINGERPRINT or record.facts is None:
        return
    owed = record.owed
    for _ in range(TAKEN_RUNS * (1 + len(record.facts.lora_names))):
        owed = ask_lost(owed, None)
    draft.change(task.model, owed=owed)


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
        if record.untried and users.requests_done > 0:
            draft.change(name, untried=False)
            close_account(draft, name)
    return users.any()


def count_own_wake(draft: Draft, task: Task) -> Task:
    """A wake that was answered with success and whose look had no page: its counter moved by one, by us. The page is
    read right after, and compared."""
    name = task.model
    record, counted = draft.models[name], list(task.uncounted)
    counted.remove(Verb.WAKE)
    task = draft.put_task(replace(task, uncounted=tuple(counted)))
    if record.control is None:
        return task
    wake = replace(record.control.wake, ok=record.control.wake.ok + 1)
    draft.change(name, control=replace(record.control, wake=wake), control_before=record.control)
    draft.command(LookNow(model=name))
    return task


def count_calls(draft: Draft, task: Task, event: StepEnded) -> tuple[Task, bool]:
    """Take off the task's uncounted calls what this look counted; return whether handlers moved by more than that."""
    record, seen = draft.models[task.model], event.evidence.seen
    if not isinstance(seen, Known) or seen.value.control is None or record.control is None:
        return task, False
    if seen.value.facts.incarnation != record.incarnation or seen.value.control == record.control_before:
        return task, False  # another process; or our own wake is not counted yet, and nothing else was
    uncounted, strange = take_off(task.uncounted, record.control, seen.value.control)
    return replace(task, uncounted=uncounted), strange and record.life.state is not State.BROKEN
