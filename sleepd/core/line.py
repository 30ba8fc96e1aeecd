"""The line in front of a GPU: sleepers that wait to be woken, and stopped ones that wait to be started."""

from collections.abc import Mapping

from sleepd.core.budget import cooling_s
from sleepd.core.draft import Draft
from sleepd.core.life import State
from sleepd.core.record import ModelRecord, is_start_wanted, wakes_asked
from sleepd.core.restarts import unit_refusal
from sleepd.core.room import NOBODYS, Go, MakeRoom, WaitFor, room_for, wakes_waiting
from sleepd.core.sharing import barred_from_s, lowest_priority, turn_due_s


def in_line(draft: Draft) -> list[ModelRecord]:
    """Everybody who waits for room and has no task, in the order of their turns; what we owe comes last."""
    sleepers = wakes_waiting(draft)
    stopped = [r for r in draft.models.values() if _waits_to_start(draft, r)]
    if not stopped:
        return sleepers
    lowest = lowest_priority(draft.settings)
    return sorted([*sleepers, *stopped], key=lambda r: (turn_due_s(r, lowest), r.spec.name))


def kept_for_start(draft: Draft, record: ModelRecord) -> Mapping[str, str]:
    """What whoever comes later in the line leaves to a stopped model, by claim: where it can be started in this turn
    (core/starts.py), or has waited for long."""
    name = record.spec.name
    room = room_for(draft, name, task_id=None, force=False)
    waited = barred_from_s(record) <= draft.mono_s
    if isinstance(room, Go | MakeRoom) or (isinstance(room, WaitFor) and waited):
        return dict.fromkeys(room.claims, name)
    return NOBODYS


def _waits_to_start(draft: Draft, record: ModelRecord) -> bool:
    if not record.waiters:
        return False
    name = record.spec.name
    wanted = record.life.state is State.STOPPED and is_start_wanted(record) and wakes_asked(record)
    if not wanted or name in draft.tasks or unit_refusal(record):
        return False
    return record.start_wanted is not None or cooling_s(record, draft.mono_s) <= 0
