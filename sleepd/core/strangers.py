"""Hands on an engine that are not ours: noticed by its control counters, believed, told, and left alone for a while."""

from sleepd.core.commands import LookNow
from sleepd.core.counted import only_checked, take_off
from sleepd.core.draft import Draft
from sleepd.core.known_answer import UPDATED
from sleepd.core.life import Fact, State
from sleepd.core.model import Missing, MissingReason
from sleepd.core.plan import OBSERVES
from sleepd.core.record import ModelRecord
from sleepd.core.refusals import refuse_sleepers
from sleepd.core.seen import CallCount, ControlCounts, ModelSeen
from sleepd.core.task import Task
from sleepd.core.units import format_duration


def asks_only(record: ModelRecord, task: Task) -> bool:
    """Whether the task has done nothing to the engine yet: it asks for the known answer, or whether it is idle."""
    return record.life.state in (State.AWAKE, State.DRAINING) and task.plan.steps[task.cursor].verb in OBSERVES


def watch_asked(draft: Draft, task: Task, seen: ModelSeen) -> None:
    """Notice hands that are not ours while a task of ours only asks."""
    record = draft.models[task.model]
    if not asks_only(record, task) or seen.control is None or record.control is None:
        return
    _, strange = take_off(task.uncounted, record.control, seen.control)
    if strange and seen.control != record.control_before:
        yield_to_stranger(draft, task, seen.control)


def yield_to_stranger(draft: Draft, task: Task, counted: ControlCounts | None) -> None:
    """Somebody else called the engine while our step ran: nothing this task believed holds, so look anew.
    `counted`: what the page shows, where that is how it was noticed."""
    name = task.model
    record = draft.models[name]
    if record.life.state is State.AWAKE:
        # Only asked a question: what the stranger did is taken in as between tasks.
        draft.end_task(task, "somebody else interfered")
        if counted is not None and record.control is not None:
            meet_counted(draft, name, record.control, counted)
        else:
            meet_stranger(draft, name, "somebody else slept or woke it")
        return
    draft.note("foreign", name, f"somebody else slept or woke {name} during our {task.kind}", {"task": task.id})
    draft.end_task(task, "somebody else interfered")
    draft.state(name, Fact.CONTRADICTED)
    draft.change(name, checking=False, reason="somebody else slept or woke it: looking anew")
    draft.command(LookNow(model=name))
    refuse_sleepers(draft, name)


def what_they_did(before: ControlCounts, after: ControlCounts) -> str:
    """What the counters that moved tell, as the start of a sentence."""
    did = (
        (before.sleep != after.sleep, "put it to sleep"),
        (before.wake != after.wake, "woke it"),
        (before.rpc != after.rpc, "called its workers"),
        (before.pause != after.pause, "paused or resumed it"),
        (before.update != after.update, "gave it other weights"),
        (before.check != after.check, "asked for checksums of its weights, or zeroed them"),
    )
    return "somebody else " + " and ".join(what for moved, what in did if moved)


def meet_counted(draft: Draft, name: str, before: ControlCounts, after: ControlCounts) -> None:
    """Between tasks, somebody else called the engine. Who only asked for checksums drives nothing: then nobody is held
    off, but what its weights hold is settled before it serves again."""
    draft.change(name, control=after)
    what = what_they_did(before, after)
    if draft.models[name].life.state is State.FOREIGN or not only_checked(before, after):
        meet_stranger(draft, name, what)
        return
    draft.note("foreign", name, f"{what}: {name} is looked at anew")
    draft.state(name, Fact.CONTRADICTED)
    draft.change(name, belief=None, unverified=False, reason=f"{what}: looking anew")
    draft.command(LookNow(model=name))


def meet_stranger(draft: Draft, name: str, what: str) -> None:
    """Leave a model alone that somebody else drives; whatever they do meanwhile, the time counts from its end."""
    record = draft.models[name]
    if record.life.state is not State.FOREIGN:
        draft.state(name, Fact.FOREIGN_CHANGE)
    if record.control is not None and record.control.update != CallCount():
        # Its weights are not those of the checkpoint any more, and right as they are.
        draft.change(name, fingerprint=None, not_provable=UPDATED)
    hold_down(draft, name, what)


def hold_down(draft: Draft, name: str, what: str) -> None:
    hold_s = draft.settings.foreign_hold_down_s
    told = f"{what}: hands off for {format_duration(hold_s)}"
    if draft.models[name].reason != told:
        draft.note("foreign", name, f"{what}: {name} is left alone for {format_duration(hold_s)}")
    draft.change(
        name,
        hold_down_until_s=draft.mono_s + hold_s,
        checking=False,
        owed_wake=None,
        unverified=False,
        untried=False,
        reason=told,
    )


def let_go(draft: Draft, name: str) -> None:
    """End a hold-down that ran out: the model is looked at anew."""
    record = draft.models[name]
    if record.life.state is State.FOREIGN and draft.mono_s >= record.hold_down_until_s:
        draft.state(name, Fact.LET_GO)
        draft.change(name, seen=Missing(MissingReason.NOT_YET), belief=None, settled_s=draft.mono_s)
