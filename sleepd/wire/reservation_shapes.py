"""What the socket API answers about reservations, as types: see shapes.py."""

from sleepd.wire.shapes import Problem, Shape, Time


class ReservedGpu(Shape):
    """One GPU of a reservation."""

    uuid: str
    """as NVML names it; as asked for while no reading names it"""
    index: int | None
    """nvidia-smi's number"""
    left_bytes: int | None
    """what the job has not taken yet: nobody else gets it"""
    missing_bytes: int | None
    """what is not free yet of it; 0 once it is granted"""


class Reservation(Shape):
    """GPU bytes kept free for somebody's job, on all of its GPUs or on none."""

    id: str
    """chosen by the client"""
    uid: int
    """whose it is: the user's number"""
    who: str
    """and name"""
    reason: str
    """as given"""
    gpus: list[ReservedGpu]
    """where"""
    bytes_per_gpu: int
    """how much on each of them"""
    granted: bool
    """whether the bytes were seen free and are the job's; before that room is made"""
    waits_for: str | None
    """what the grant waits for, as part of a sentence"""
    aside: list[str]
    """models that were put to sleep for it: they are woken again when it ends"""
    since: Time
    """when it was asked for"""
    ttl_s: float | None
    """as given, from the grant on; null with a stream"""
    until: Time | None
    """when it ends by itself; null while its stream is open, and before the grant"""
    attached: bool
    """whether its stream is open"""


class ReservationBeat(Shape):
    """A line of a reservation's stream: the daemon and the reservation are there."""

    beat: Time
    """now"""


class ReservationEnd(Shape):
    """The last line of a reservation's stream: it is over, or was never granted, and need not be asked for again."""

    ended: str
    """why"""
    problem: Problem | None
    """the refusal, where it was never granted"""


class Reservations(Shape):
    """Every reservation."""

    reservations: list[Reservation]
    """the oldest first"""
