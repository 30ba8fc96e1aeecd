"""A sleeper `a` that asks for room, and its neighbour."""

from core_worlds import (
    ASLEEP,
    NOW,
    record,
)

from sleepd.core.draft import Draft
from sleepd.core.room import NOBODYS, room_for

GPU = frozenset({"GPU-0"})


def ask(made, *, task_id=None, barred=NOBODYS, force=False):
    return room_for(Draft(made, NOW), "a", task_id=task_id, barred=barred, force=force)


def sleeper(**more):
    return record("a", ASLEEP, **more)


def neighbour(**more):
    return record("b", **more)
