"""What was not read yet since the daemon, or a server, was started: waited for, and no reason to refuse anybody.

A look that fails is a look too: after LOST_AFTER_POLLS of them what is missing is missing, and nobody waits for it.
"""

from collections.abc import Iterable

from sleepd.core.draft import Draft
from sleepd.core.life import State
from sleepd.core.memory import placement
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpusSeen
from sleepd.core.sightings import LOST_AFTER_POLLS
from sleepd.core.units import Seconds

FIRST_LOOKS_S: Seconds = 30.0
"""Who wants a model awake waits this long at most for what is not read yet of others."""


def is_to_be_placed(record: ModelRecord, gpus: GpusSeen) -> bool:
    """Whether the next list of processes tells on which GPUs the server lies, and nothing else does."""
    can_be_listed = isinstance(record.seen, Known) and bool(record.seen.value.pids)
    return can_be_listed and not record.spec.gpus and record.listed_s < record.since_s and not _lies(record, gpus)


def unread_beside(draft: Draft, name: str, missing: Iterable[str]) -> str:
    """The first reading, named, that may still show how `name` gets what is missing on these GPUs; empty where there is
    none to come."""
    if isinstance(draft.host, Missing) and draft.host.reason is MissingReason.NOT_YET:
        return "a first reading of host RAM"
    gpus = draft.gpus.value if isinstance(draft.gpus, Known) else ()
    wanted = frozenset(missing)
    for other in draft.models.values():
        if other.spec.name == name or other.spec.name in draft.tasks:
            continue
        place = _lies(other, gpus)
        if (is_unread(other) or is_to_be_placed(other, gpus)) and not (place and wanted.isdisjoint(place)):
            return f"a first look at {other.spec.name}"
    return ""


def is_unread(record: ModelRecord) -> bool:
    """Whether nobody knows yet what the server is doing, and the next looks tell."""
    return record.life.state is State.UNKNOWN and record.failed_polls < LOST_AFTER_POLLS and record.failing is None


def _lies(record: ModelRecord, gpus: GpusSeen) -> tuple[str, ...]:
    return tuple(placement(record.spec, record.placed_on, gpus))
