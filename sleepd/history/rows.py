"""The rows of history. Counts are what is to be *added* to what is on record; everything else stands as it is.

Moments are wall clock, in seconds since the epoch: history outlives boots. A value nobody knows is None.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.units import Bytes, Seconds, WallS

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Interval:
    """A model was in one state. `until_wall_s` None: it still is, as far as is known; equal to `since_wall_s`: it never
    was, and what stands on record goes. `by`: the kind of the cause that put it there, "" where it was found so; `who`:
    whose. `freed_bytes`: GPU bytes it gave back meanwhile, over all its GPUs."""

    model: str
    state: str
    level: int | None
    weights: str
    since_wall_s: WallS
    until_wall_s: WallS | None = None
    by: str = ""
    who: str = ""
    task: int | None = None
    freed_bytes: Bytes | None = None


class Result(StrEnum):
    """How a transition came out."""

    DONE = "done"
    REFUSED = "refused"
    """There was no room, or something else that was wanted was missing."""
    FAILED = "failed"
    """The engine did not do what was asked."""
    ENDED = "ended"
    """Neither: it waits for something, or was not wanted any more."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One task that is over. `served`: requests that had waited for it; `longest_wait_s` of them."""

    task: int
    model: str
    kind: str
    level: int
    by: str
    who: str
    began_wall_s: WallS
    ended_wall_s: WallS
    result: Result
    outcome: str
    victims: tuple[str, ...] = ()
    served: int = 0
    longest_wait_s: Seconds | None = None


@dataclass(slots=True)
class Counts:
    """Requests of one model within a minute or hour. Tokens and `finished` by the server's own counters."""

    requests: int = 0
    finished: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def add(self, more: "Counts") -> None:
        self.requests += more.requests
        self.finished += more.finished
        self.prompt_tokens += more.prompt_tokens
        self.output_tokens += more.output_tokens


@dataclass(slots=True)
class Spent:
    """How one model spent an hour. `given_back`: bytes times seconds; `unmeasured_s`: asleep, and nobody knows of how
    much. `energy_j`: its share of its GPUs' energy while awake."""

    awake_s: float = 0.0
    asleep_s: float = 0.0
    other_s: float = 0.0
    unmeasured_s: float = 0.0
    given_back: float = 0.0
    wakes: int = 0
    failures: int = 0
    refused: int = 0
    energy_j: float | None = None

    def add(self, more: "Spent") -> None:
        self.awake_s += more.awake_s
        self.asleep_s += more.asleep_s
        self.other_s += more.other_s
        self.unmeasured_s += more.unmeasured_s
        self.given_back += more.given_back
        self.wakes += more.wakes
        self.failures += more.failures
        self.refused += more.refused
        if more.energy_j is not None:
            self.energy_j = (self.energy_j or 0.0) + more.energy_j


Key: TypeAlias = tuple[int, str, str]
"""(hour, model, by): `by` is what put the model to sleep, "" where it is not asleep."""


@dataclass(slots=True)
class Batch:
    """What is to be written in one transaction."""

    intervals: list[Interval] = field(default_factory=list)
    transitions: dict[int, Transition] = field(default_factory=dict)
    """By task."""
    minutes: dict[tuple[int, str], Counts] = field(default_factory=dict)
    spent: dict[Key, Spent] = field(default_factory=dict)
    waits: dict[tuple[int, str, str, str, int], int] = field(default_factory=dict)
    """Requests that waited, by (hour, model, by, end, bucket of `bucket_of`)."""
    vram: dict[tuple[int, str, str], Bytes] = field(default_factory=dict)
    """Bytes held by (minute, GPU, model); the model "" stands for all of the GPU that is in use."""
    energy_j: dict[tuple[int, str], float] = field(default_factory=dict)
    """By (hour, GPU)."""
    wall_s: WallS = 0.0
    """When this was known: intervals without an end are known until then."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a new daemon takes over from the history of the last one: each model's last interval."""

    intervals: Mapping[str, Interval] = field(default_factory=dict)


_GROWTH = math.log(1.1)
LEAST_WAIT_S = 0.001


def bucket_of(seconds: Seconds) -> int:
    """Return the bucket of a duration: each is a tenth longer than the one before, from a millisecond on."""
    return max(0, math.ceil(math.log(max(seconds, LEAST_WAIT_S) / LEAST_WAIT_S) / _GROWTH - 1e-9))


def seconds_of(bucket: int) -> Seconds:
    """Return the middle of a bucket: no duration in it is further than five percent away."""
    return float(LEAST_WAIT_S * math.exp((bucket - 0.5) * _GROWTH)) if bucket else LEAST_WAIT_S


def percentile(buckets: Mapping[int, int], share: float) -> Seconds | None:
    """Return the duration that this share of all stays within, None where there is none."""
    total = sum(buckets.values())
    if not total:
        return None
    wanted, seen = max(1, math.ceil(share * total)), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return seconds_of(bucket)
    raise AssertionError("counts add up to their sum")


def minute_of(wall_s: WallS) -> int:
    return int(wall_s // MINUTE_S) * MINUTE_S


def hour_of(wall_s: WallS) -> int:
    return int(wall_s // HOUR_S) * HOUR_S


def day_of(wall_s: WallS) -> int:
    """Return when the day of UTC begins."""
    return int(wall_s // DAY_S) * DAY_S
