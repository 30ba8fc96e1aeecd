"""What is asked of the timeouts: few waits, short waits, or little GPU memory."""

from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.units import Seconds
from sleepd.replay.account import HOUR_S, Account
from sleepd.tuning.curves import Point

P95 = 0.95


class Aim(StrEnum):
    WAITED = "waited"
    """At most this share of requests waits for a wake, or is turned away."""
    P95 = "p95"
    """Of a hundred requests, 95 wait no longer than this."""
    GIB_HOURS = "gib_hours"
    """Awake models hold at most so many GiB-hours of GPU memory."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a play, or a forecast of one, came to: `late_share` of requests waited longer than is allowed or were turned
    away."""

    late_share: float
    gib_h: float


@dataclass(frozen=True, slots=True)
class Target:
    """`limit`: a share, seconds or GiB-hours, as the aim has it."""

    aim: Aim
    limit: float

    @property
    def allowed_s(self) -> Seconds:
        """A wait that nobody minds."""
        return self.limit if self.aim is Aim.P95 else 0.0

    @property
    def ceiling(self) -> float:
        """What `value` may be at most."""
        return 1.0 - P95 if self.aim is Aim.P95 else self.limit

    def value(self, measure: Measure) -> float:
        return measure.gib_h if self.aim is Aim.GIB_HOURS else measure.late_share

    def is_met(self, measure: Measure) -> bool:
        # What is printed with six digits is met where those are.
        return self.value(measure) <= self.ceiling * (1 + 1e-9) + 1e-12

    def is_better(self, one: Measure, other: Measure) -> bool:
        """Whether `one` is what was asked for rather than `other`: met, then cheap or quick, whichever was left open;
        unmet, then as near as can be."""
        if self.is_met(one) is not self.is_met(other):
            return self.is_met(one)
        costs_first = (self.aim is Aim.GIB_HOURS) is not self.is_met(one)
        keys = [(m.gib_h, m.late_share) if costs_first else (m.late_share, m.gib_h) for m in (one, other)]
        return keys[0] < keys[1]


def measure_account(account: Account, allowed_s: Seconds) -> Measure:
    """What a play came to."""
    models = account.models.values()
    refused = sum(model.refused for model in models)
    late = sum(1 for model in models for wait_s in model.waits_s if wait_s > allowed_s)
    all_ = sum(model.served for model in models) + refused
    return Measure((late + refused) / all_ if all_ else 0.0, sum(model.gpu_gib_s for model in models) / HOUR_S)


def measure_point(point: Point, requests: int) -> Measure:
    """What the gaps alone say of a point."""
    return Measure(point.late / requests if requests else 0.0, point.gib_h)
