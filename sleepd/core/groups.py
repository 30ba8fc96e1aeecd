"""Groups of models of which only so many are awake at once."""

from sleepd.core.draft import Draft
from sleepd.core.life import State
from sleepd.core.model import Group
from sleepd.core.task import Task, TaskKind

PLACE = "place in group "
"""What a place is called among the resources that may be missing; UUIDs have no spaces."""
_NOT_AWAKE = frozenset(
    {State.ASLEEP_L1, State.ASLEEP_L2, State.LOST, State.STOPPED, State.FAILED, State.UNKNOWN, State.FOREIGN}
)


def full_groups(draft: Draft, name: str) -> tuple[tuple[Group, int], ...]:
    """The groups that have no place for this model awake, and how many of each must sleep first.

    Those on their way to sleep or awake take their place until they got there.
    """
    full = []
    for group in draft.settings.groups:
        if name not in group.models:
            continue
        around = (n for n in group.models if n != name and n in draft.models)
        others = sum(takes_place(draft.tasks.get(n), draft.models[n].life.state) for n in around)
        if others >= group.max_awake:
            full.append((group, others + 1 - group.max_awake))
    return tuple(full)


def takes_place(task: Task | None, state: State) -> bool:
    """Whether a model takes a place in its groups: it is awake, or on its way there or from there."""
    waking = task is not None and task.kind in (TaskKind.WAKE, TaskKind.START, TaskKind.RESTART)
    return state not in _NOT_AWAKE or waking
