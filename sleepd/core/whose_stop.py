"""Whose stop ended a unit that a task of ours finds stopped: told by its start and by when it ended."""

from itertools import pairwise

from sleepd.core.events import StepEnded
from sleepd.core.model import Known
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Seconds, WallS

ORDERED_WITHIN_S: Seconds = 10.0
"""An order leaves as soon as its record is committed, and systemd begins with it at once: a disk may take this long."""


def came_late(task: Task, event: StepEnded) -> bool:
    """Whether somebody else stopped the unit before this task could: then it is not ours to start again. A task that a
    new daemon goes on with may have stopped it itself, but no later start of it than the one it was to end."""
    unit, intent = event.evidence.unit, task.intent
    if not event.evidence.stopped_before or not isinstance(unit, Known) or intent is None:
        return False
    if intent.invocation and unit.value.invocation not in ("", intent.invocation):
        return True
    if task.kind is TaskKind.START:
        return False  # what it starts is stopped
    left_s = unit.value.left_wall_s
    return not task.attempt or (left_s > 0.0 and not _was_ordered(left_s, intent.ordered_wall_s))


def _was_ordered(left_s: WallS, ordered_s: tuple[WallS, ...]) -> bool:
    """Whether a daemon that died may have stopped it then: right after it was to order that, and before the next one
    went on with it. This one, the last, found it stopped and had ordered nothing yet. systemd keeps who asked for a
    stop nowhere: the moment is all there is."""
    return any(at_s - 1.0 <= left_s <= min(at_s + ORDERED_WITHIN_S, next_s) for at_s, next_s in pairwise(ordered_s))
