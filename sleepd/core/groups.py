"""Groups of models of which only so many are awake at once."""

from sleepd.core.conditions import idle_s
from sleepd.core.draft import Draft
from sleepd.core.life import State
from sleepd.core.model import Group
from sleepd.core.world import ModelRecord, TaskKind

_NOT_AWAKE = frozenset(
    {State.ASLEEP_L1, State.ASLEEP_L2, State.LOST, State.STOPPED, State.FAILED, State.UNKNOWN, State.FOREIGN}
)


def full_group(draft: Draft, name: str) -> tuple[Group, tuple[ModelRecord, ...]] | None:
    """The first group that has no place for this model awake, and the members whose sleep would make one.

    Those on their way to sleep or awake take their place until they got there.
    """
    for group in draft.settings.groups:
        if name not in group.models:
            continue
        others = [r for n, r in draft.models.items() if n in group.models and n != name and _counts(draft, r)]
        if len(others) >= group.max_awake:
            # Who matters least and was idle longest goes first, as everywhere.
            order = sorted(others, key=lambda r: (r.spec.priority, -idle_s(r, draft.mono_s), r.spec.name))
            return group, tuple(order)
    return None


def _counts(draft: Draft, record: ModelRecord) -> bool:
    task = draft.tasks.get(record.spec.name)
    waking = task is not None and task.kind in (TaskKind.WAKE, TaskKind.START, TaskKind.RESTART)
    return record.life.state not in _NOT_AWAKE or waking
