"""Sleepers that are owed a wake: woken again when there is room."""

from sleepd.core.draft import Draft
from sleepd.core.life import ASLEEP
from sleepd.core.model import Cause, CauseKind
from sleepd.core.task import Task

ON_STOP = "on_stop"
"""Who wants sleepers awake when the daemon ends for good: its setting of that name."""


def owe_wakes(draft: Draft, victims: tuple[str, ...], name: str) -> None:
    """What made room for `name` in vain is woken again when there is room."""
    for victim in victims:
        record = draft.models.get(victim)
        if record is not None and record.life.state in ASLEEP:
            draft.change(victim, owed_wake=Cause(CauseKind.RECOVERY, name))


def restore_victims(draft: Draft, task: Task) -> None:
    """A wake failed for good: those that made room for it are owed their own."""
    owe_wakes(draft, task.slept, task.model)


def owe_all(draft: Draft) -> None:
    """Every sleeper is to be woken where there is room for it: the daemon will not be there to do it."""
    for name, record in list(draft.models.items()):
        if record.life.state in ASLEEP:
            draft.change(name, owed_wake=Cause(CauseKind.OPERATOR, ON_STOP))
