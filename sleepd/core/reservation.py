"""GPU bytes kept free for somebody's job: what is known of one reservation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sleepd.core.units import Bytes, MonotonicS, Seconds, WallS

RESERVATIONS_LIMIT = 64
"""Reservations that may stand or wait at once; one more is refused."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """GPU bytes kept free for somebody's job, on all of its GPUs or on none.

    It lets go at `until_s`; None: it is attached to the open stream that the ask `stream` began, or not granted yet.
    """

    id: str
    who: str
    uuids: tuple[str, ...]
    bytes_per_gpu: Bytes
    unmanaged: Mapping[str, Bytes | None] = field(default_factory=dict)
    """What neither we manage nor the job held on each GPU at the grant; None where that could not be told."""
    uid: int = 0
    reason: str = ""
    gpus: tuple[str, ...] = ()
    """The GPUs as they were asked for."""
    pids: tuple[int, ...] = ()
    """The job's process tree when it asked: what that holds already need not be found."""
    managed: tuple[int, ...] = ()
    """Processes of our servers at the grant: after a restart these are known before their servers were looked at."""
    granted: bool = True
    """The bytes were seen free, and are kept since. Before that, nobody else gets them either."""
    granted_as: int = 0
    """Where its grant stands among those of the others: a later one has a higher number."""
    asked_s: MonotonicS = 0.0
    since_wall_s: WallS = 0.0
    """When it was asked for: the oldest gets its room first."""
    ttl_s: Seconds | None = None
    """How long it lasts from its grant on; None: as long as its stream."""
    until_s: MonotonicS | None = None
    until_wall_s: WallS | None = None
    stream: int | None = None
    waiter: int | None = None
    """The caller who waits for its grant."""
    deadline_s: MonotonicS = 0.0
    """When its caller gives up, and with it the reservation, should it not be granted before."""
    aside: tuple[str, ...] = ()
    """Models that were put to sleep for it: they are woken again when it ends."""
    waits_for: str = ""
    """What its grant waits for, as a sentence."""
    problem: str = ""
    """What its caller is told whose time runs out while it waits for that."""
