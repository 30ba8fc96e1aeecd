"""What callers ask of the daemon, as events: each `waiter` gets exactly one answer."""

from dataclasses import dataclass
from typing import TypeAlias

from sleepd.core.model import CauseKind
from sleepd.core.units import Bytes, Seconds

WISH_S: Seconds = 3600.0
"""How long a wish lasts that a door makes for all who wait there: longer than any of them may, as each has a deadline
of its own at the door."""
ASK_AGAIN_S: Seconds = 0.05
"""A door at which somebody still waits when its wish is answered makes another one after so long."""
GOES_ON_S: Seconds = 60.0
"""What was begun for callers goes on for so long at least after they were answered: told to come back, or only that it
is begun. Their place in the line is kept for longer (places.py)."""
AT_ONCE_S: Seconds = 1.0
"""The least that a caller is told to wait before it comes back: who is told so comes back at once."""


@dataclass(frozen=True, slots=True)
class WakeAsked:
    """Someone wants the model awake. `wait` False: the answer says only that it was accepted."""

    waiter: int
    model: str
    who: str
    timeout_s: Seconds
    wait: bool = True
    force: bool = False
    cause: CauseKind = CauseKind.OPERATOR
    """REQUEST: the gateway holds requests for it; `who` is whose the first is."""


@dataclass(frozen=True, slots=True)
class SleepAsked:
    """Someone wants the model asleep. `via_wake`: a sleeper that is to sleep deeper may be woken for it first."""

    waiter: int
    model: str
    who: str
    level: int
    timeout_s: Seconds
    drain_s: Seconds = 0.0
    wait: bool = True
    force: bool = False
    via_wake: bool = False


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Someone wants the model's unit stopped; only a person starts it again."""

    waiter: int
    model: str
    who: str
    timeout_s: Seconds
    wait: bool = True


@dataclass(frozen=True, slots=True)
class StartAsked:
    """Someone wants the model's unit started; answered once it serves."""

    waiter: int
    model: str
    who: str
    timeout_s: Seconds
    wait: bool = True


@dataclass(frozen=True, slots=True)
class ResetAsked:
    """An operator takes a failed model back into service: it is looked at anew."""

    waiter: int
    model: str
    who: str


@dataclass(frozen=True, slots=True)
class HoldAsked:
    """Someone needs the model awake from now on: nothing but force puts it to sleep. It is not woken by this alone.

    `ttl_s` None: it lasts as long as the caller's stream, and `stream` names that stream by this ask's waiter. The same
    `id` of the same `uid` renews, and may name another model. `admin` may take over the hold of another uid.
    """

    waiter: int
    id: str
    model: str
    uid: int
    who: str
    ttl_s: Seconds | None
    reason: str = ""
    admin: bool = False


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """Someone lets go of a hold: its own, or as an admin anybody's."""

    waiter: int
    id: str
    uid: int
    admin: bool = False


@dataclass(frozen=True, slots=True)
class HoldDetached:
    """The stream opened by the ask `stream` ended: its hold lasts a moment longer, lest a broken line let go of it.

    A hold renewed by another stream since then is not touched.
    """

    id: str
    stream: int


@dataclass(frozen=True, slots=True)
class ReservationAsked:
    """Someone needs bytes on GPUs for a job of its own: models step aside until they are free, and stay aside.

    `ttl_s` as in HoldAsked, counted from the grant. The answer comes with the grant, `timeout_s` later at most; with
    `wait` False at once. The same `id` of the same `uid` renews. `pids`: the job's processes, as far as it runs yet.
    """

    waiter: int
    id: str
    gpus: tuple[str, ...]
    bytes_per_gpu: Bytes
    uid: int
    who: str
    ttl_s: Seconds | None
    timeout_s: Seconds
    reason: str = ""
    wait: bool = True
    pids: tuple[int, ...] = ()
    admin: bool = False


@dataclass(frozen=True, slots=True)
class ReservationEnded:
    """Someone gives a reservation's room back: its own, or as an admin anybody's."""

    waiter: int
    id: str
    uid: int
    admin: bool = False


@dataclass(frozen=True, slots=True)
class ReservationDetached:
    """The stream opened by the ask `stream` ended: its reservation lasts a moment longer. See HoldDetached."""

    id: str
    stream: int


@dataclass(frozen=True, slots=True)
class PinAsked:
    """Pin the model, so that it is never put to sleep except by force, or unpin it; lasts over restarts."""

    waiter: int
    model: str
    who: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class CallerGone:
    """The caller left; its wish goes with it unless another shares it. `model` is empty for a reservation's caller."""

    waiter: int
    model: str


@dataclass(frozen=True, slots=True)
class AttendanceChanged:
    """Nobody waits behind the wish `waiter` any more, as the last was told to come back, or somebody does again."""

    waiter: int
    model: str
    attended: bool


ModelAsk: TypeAlias = WakeAsked | SleepAsked | StopAsked | StartAsked | ResetAsked | HoldAsked | PinAsked
"""What is asked of one model."""
Ask: TypeAlias = ModelAsk | HoldEnded | ReservationAsked | ReservationEnded
"""Everything that gets one answer."""
