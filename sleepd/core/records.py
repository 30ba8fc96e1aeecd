"""What a turn writes down before any of its commands leaves, and what a restarted daemon finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sleepd.core.footprint import Footprint
from sleepd.core.habits import Habits
from sleepd.core.life import Life
from sleepd.core.model import Cause, Failure
from sleepd.core.record import Stopped
from sleepd.core.reservation import Reservation
from sleepd.core.seen import ControlCounts, Fingerprint
from sleepd.core.task import Task
from sleepd.core.units import Seconds, WallS


@dataclass(frozen=True, slots=True)
class HoldSaved:
    """A hold over a restart of the daemon. `until_wall_s` None: its stream broke with the daemon."""

    id: str
    uid: int
    who: str
    reason: str
    since_wall_s: WallS
    ttl_s: Seconds | None
    until_wall_s: WallS | None


@dataclass(frozen=True, slots=True)
class AccountSaved:
    """What foresight might cost a model as of a moment, when it had been silent for `silent_s`."""

    credit_s: Seconds
    silent_s: Seconds
    at_wall_s: WallS
    awake: bool


@dataclass(frozen=True, slots=True)
class AheadSaved:
    """What its wakes ahead took of a day's budget; `since_wall_s` None: it is not awake for one."""

    since_wall_s: WallS | None
    day: int
    spent_s: Seconds
    rule: str


@dataclass(frozen=True, slots=True)
class ModelSaved:
    """What outlives the daemon of one model. Moments are wall clock: monotonic time ends with the boot."""

    name: str
    life: Life
    incarnation: str | None
    control: ControlCounts | None
    since_wall_s: WallS
    last_active_wall_s: WallS
    fingerprint: Fingerprint | None
    footprint: Footprint
    failure: Failure | None
    check_failed: str
    checking: bool
    frees_nothing: bool
    owed_wake: Cause | None = None
    unverified: bool = False
    untried: bool = False
    holds: tuple[HoldSaved, ...] = ()
    pin: bool | None = None
    attempts: int = 0
    cooldown_until_wall_s: WallS = 0.0
    prior: Footprint = Footprint()
    prime_failed: bool = False
    restart_wanted: str = ""
    checksums: str = ""
    stopped: Stopped | None = None
    restart_due: str = ""
    restarts_wall_s: tuple[WallS, ...] = ()
    restarts_spent: bool = False
    served_as: str = ""
    told_to_stop: str = ""
    hold_down_until_wall_s: WallS = 0.0
    habits: Habits = Habits()
    account: AccountSaved | None = None
    ahead: AheadSaved | None = None


@dataclass(frozen=True, slots=True)
class TaskSaved:
    task: Task


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task came to its end; it leaves the table of running tasks and joins the journal.

    `done`: it achieved what it was begun for. `took_s` ago, counted from `wall_s`, it began.
    """

    task: Task
    outcome: str
    wall_s: WallS
    took_s: Seconds = 0.0
    done: bool = False


@dataclass(frozen=True, slots=True)
class RuleSaved:
    """What a rule did to a model: when it began something, and which wish of it came true already."""

    rule: str
    model: str
    acts_wall_s: tuple[WallS, ...] = ()
    achieved: bool = False
    dealt_with_wall_s: WallS | None = None


@dataclass(frozen=True, slots=True)
class ReservationSaved:
    """A reservation over a restart of the daemon, granted or not, and with it who was put aside for it."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class ReservationDropped:
    """A reservation that is over."""

    id: str


@dataclass(frozen=True, slots=True)
class EngineProven:
    """An engine's level 2 cycle was checked and passed."""

    key: str
    wall_s: WallS


Record: TypeAlias = (
    ModelSaved | RuleSaved | TaskSaved | TaskEnded | EngineProven | ReservationSaved | ReservationDropped
)


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything a restarted daemon knows: what `Store.load` returns."""

    models: Mapping[str, ModelSaved] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()
    next_task: int = 1
    ended: tuple[TaskEnded, ...] = ()
    """The last tasks that came to their end, the newest last."""
    rules: Mapping[tuple[str, str], RuleSaved] = field(default_factory=dict)
    """By rule and model."""
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
