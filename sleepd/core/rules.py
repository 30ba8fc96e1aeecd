"""Rules as data: conditions, thresholds, actions. What they mean in a given world is policy.py's business."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.units import Bytes, Seconds


@dataclass(frozen=True, slots=True)
class Threshold:
    """Bytes, or a share of a total; exactly one of them is set."""

    bytes_: Bytes | None = None
    share: float | None = None

    def of(self, total_bytes: Bytes) -> Bytes:
        return self.bytes_ if self.bytes_ is not None else round((self.share or 0.0) * total_bytes)


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` requests in `per_s` seconds: what "2/min" says."""

    count: float
    per_s: Seconds


@dataclass(frozen=True, slots=True)
class IdleFor:
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class AsleepFor:
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class AwakeFor:
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class RequestsBelow:
    """Holds while fewer requests than `enter` came within the window, and once it held, until `leave` is passed."""

    enter: Rate
    leave: Rate
    window_s: Seconds


@dataclass(frozen=True, slots=True)
class HostAvailableBelow:
    """Holds below `enter`, and once it held, until available RAM is above `leave`."""

    enter: Threshold
    leave: Threshold


@dataclass(frozen=True, slots=True)
class HostPressureAbove:
    """PSI *some* avg10 of memory, shares 0..1: holds above `enter`, and once it held, until it is below `leave`."""

    enter: float
    leave: float


@dataclass(frozen=True, slots=True)
class UnitMemoryAbove:
    """Memory of the model's unit; shares are of the tightest limit above it. Lets go below `leave`."""

    enter: Threshold
    leave: Threshold


@dataclass(frozen=True, slots=True)
class GpuFreeBelow:
    """Free bytes of any GPU of the model, shares of that GPU. Lets go where all are above `leave`."""

    enter: Threshold
    leave: Threshold


@dataclass(frozen=True, slots=True)
class LevelIs:
    """The model sleeps at this level; 0 is awake."""

    level: int


EVERY_DAY = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class During:
    """Local time lies in [begin, end) minutes after midnight of a day in `days` (Monday is 0).

    `end_min` may pass 1440: what lies behind midnight belongs to the day it began. `timezone` "" is the host's.
    """

    days: frozenset[int]
    begin_min: int
    end_min: int
    timezone: str


@dataclass(frozen=True, slots=True)
class CronDue:
    """A moment of the five-field `cron` came within the last `within_s`. `timezone` "" is the host's."""

    cron: str
    timezone: str
    within_s: Seconds


@dataclass(frozen=True, slots=True)
class PredictedIdle:
    """No request is expected for this long; in a rule that wakes or keeps awake: one is expected within it."""

    seconds: Seconds


MemoryCondition: TypeAlias = HostAvailableBelow | HostPressureAbove | UnitMemoryAbove | GpuFreeBelow
ThresholdCondition: TypeAlias = MemoryCondition | RequestsBelow
LastingCondition: TypeAlias = IdleFor | AsleepFor | AwakeFor
LocalTime: TypeAlias = During | CronDue
Observed: TypeAlias = LastingCondition | ThresholdCondition | LevelIs | LocalTime
Condition: TypeAlias = Observed | PredictedIdle


class ActionKind(StrEnum):
    SLEEP = "sleep"
    STOP = "stop"
    WAKE = "wake"
    KEEP_AWAKE = "keep awake"


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule wants; `level` 1 or 2 for SLEEP, else 0."""

    kind: ActionKind
    level: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.level}" if self.level else str(self.kind)


SLEEP_1, SLEEP_2 = Action(ActionKind.SLEEP, 1), Action(ActionKind.SLEEP, 2)
STOP, WAKE, KEEP_AWAKE = Action(ActionKind.STOP), Action(ActionKind.WAKE), Action(ActionKind.KEEP_AWAKE)


class RuleClass(StrEnum):
    """The place in the precedence: any memory threshold makes a rule pressure, any other sleep or stop is idle."""

    PRESSURE = "pressure"
    KEEP_AWAKE = "keep_awake"
    IDLE = "idle"
    WAKE = "wake"


@dataclass(frozen=True, slots=True)
class Rule:
    """All `conditions` must hold for `for_s`; then `action` is wanted of the models in `applies_to`.

    A model with conditions of its own has a rule of its own under the same name: (name, model) is unique.
    """

    name: str
    applies_to: frozenset[str]
    conditions: tuple[Condition, ...]
    action: Action
    for_s: Seconds = 0.0
    cooldown_s: Seconds = 0.0
    enabled: bool = True
    budget_s: Seconds | None = None
    """How long a day its wakes may keep one model awake without a request; None: no limit."""
    kind: RuleClass = field(init=False, repr=False, compare=False)
    lasting: tuple[LastingCondition, ...] = field(init=False, repr=False, compare=False)
    thresholds: tuple[tuple[int, MemoryCondition], ...] = field(init=False, repr=False, compare=False)
    """Its memory conditions, each with its place among all."""
    rates: tuple[tuple[int, RequestsBelow], ...] = field(init=False, repr=False, compare=False)
    foresees: bool = field(init=False, repr=False, compare=False)
    """Whether it goes by what is expected of a model."""
    cron: CronDue | None = field(init=False, repr=False, compare=False)
    """The first, where it has several."""

    def __post_init__(self) -> None:
        """Sort the conditions by what can change them: every look at a model asks for that."""
        numbered = tuple(enumerate(self.conditions))
        derived: dict[str, object] = {
            "lasting": tuple(c for c in self.conditions if isinstance(c, LastingCondition)),
            "thresholds": tuple((i, c) for i, c in numbered if isinstance(c, MemoryCondition)),
            "rates": tuple((i, c) for i, c in numbered if isinstance(c, RequestsBelow)),
            "foresees": any(isinstance(c, PredictedIdle) for c in self.conditions),
            "cron": next((c for c in self.conditions if isinstance(c, CronDue)), None),
        }
        derived["kind"] = _kind_of(self.action.kind, on_memory=bool(derived["thresholds"]))
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def is_pressure(self) -> bool:
        return self.kind is RuleClass.PRESSURE


AHEAD = (ActionKind.WAKE, ActionKind.KEEP_AWAKE)
"""Rules of these kinds that foresee ask whether a request is expected soon; all others, whether none is for long."""


def foreseeing(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Those of the rules that go by what is expected of a model, and are in force."""
    return tuple(r for r in rules if r.enabled and r.foresees)


def shortest_nap_s(rules: Sequence[Rule]) -> Seconds:
    """The shortest idle time, predicted or passed, after which one of a model's rules puts it to sleep. Where none does
    so after a time, the longest that those which foresee ask for stands in. 0: none foresees anything."""
    foresee = foreseeing(rules)
    naps = [r for r in rules if r.enabled and r.action.kind not in AHEAD] or foresee
    waits_s = [c.seconds for r in naps for c in r.conditions if isinstance(c, PredictedIdle | IdleFor)]
    if foresee and waits_s:
        return min(waits_s)
    return max((c.seconds for r in foresee for c in r.conditions if isinstance(c, PredictedIdle)), default=0.0)


def _kind_of(action: ActionKind, *, on_memory: bool) -> RuleClass:
    if on_memory:
        return RuleClass.PRESSURE
    if action is ActionKind.WAKE:
        return RuleClass.WAKE
    return RuleClass.KEEP_AWAKE if action is ActionKind.KEEP_AWAKE else RuleClass.IDLE
