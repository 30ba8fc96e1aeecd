"""Wakes ahead of demand: whether a request came, and how long a day models were awake for none."""

from sleepd.core.draft import Draft
from sleepd.core.foresight import local_day, spent_today_s
from sleepd.core.frozen import replace
from sleepd.core.life import State
from sleepd.core.model import CauseKind
from sleepd.core.record import Ahead, ModelRecord
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Seconds, format_duration
from sleepd.core.world import World

WAKE_AHEAD = "wake_ahead"
HIT, MISS, LATE = "hit", "miss", "late"
OUTCOMES = (HIT, MISS, LATE)
"""A request came while it was awake; none did before it slept again or was gone; it came while it was being woken."""

_AWAKE_YET = (State.AWAKE, State.DRAINING, State.FALLING_ASLEEP, State.SLEEP_PENDING, State.UNKNOWN)
"""States in which it may still meet its request; unknown is what it is after a restart of the daemon."""


def note_wake_ahead(draft: Draft, before: World, record: ModelRecord, *, came: bool) -> None:
    """Tell what became of a wake ahead, once it is known, and count what it took."""
    name, state, ahead, now_s = record.spec.name, record.life.state, record.ahead, draft.mono_s
    was, task = before.models[name].life.state, before.tasks.get(name)
    if state is State.AWAKE and was is not State.AWAKE and task is not None and _is_ahead(draft, task):
        if came or any(w.cause.kind is CauseKind.REQUEST for w in record.waiters):
            _tell(draft, name, LATE, f"a request came while {name} was being woken ahead", now_s - task.started_s)
        else:
            draft.change(name, ahead=replace(ahead or Ahead(None), since_s=now_s, rule=task.cause.who))
    elif ahead is not None and ahead.since_s is not None and (came or state not in _AWAKE_YET):
        lasted_s, world = now_s - ahead.since_s, draft.world()
        lasted = format_duration(round(lasted_s, 1))
        told = f"{name} was woken {lasted} before a request" if came else f"no request came in {lasted} for {name}"
        _tell(draft, name, HIT if came else MISS, told if came else f"{told}, which was woken ahead", lasted_s)
        spent_s = round(spent_today_s(record, world, draft.now), 3)
        draft.change(name, ahead=Ahead(None, local_day(world, draft.now), spent_s))


def _is_ahead(draft: Draft, task: Task) -> bool:
    if task.kind is not TaskKind.WAKE or task.cause.kind is not CauseKind.RULE:
        return False
    return any(r.name == task.cause.who and r.foresees for r in draft.settings.rules_of.get(task.model, ()))


def _tell(draft: Draft, name: str, outcome: str, text: str, lasted_s: Seconds) -> None:
    draft.note(WAKE_AHEAD, name, text, {"outcome": outcome, "seconds": round(lasted_s, 3)})
