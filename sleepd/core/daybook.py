"""In which five minutes of which days a model was asked for, and what that makes likely at each time of another day.

Days and hours are local: a moment here is wall time moved by the zone's offset of that moment, so that a change of the
clocks moves nothing that people do by the clock.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from math import log
from struct import unpack
from typing import TypeAlias

from sleepd.core.units import HOUR_S, Seconds

LocalS: TypeAlias = float
"""Wall time moved by the offset of the zone: what the clock on the wall shows, in seconds since 1970."""

Days: TypeAlias = tuple[tuple[int, int], ...]
"""(Day since 1970, a bit for each slot in which a request came), each day once."""

DAY_S: Seconds = 24 * HOUR_S
SLOT_S: Seconds = 300.0
SLOTS = int(DAY_S / SLOT_S)
HOUR_SLOTS = int(HOUR_S / SLOT_S)
DAYS_KEPT = 28
LIKE_DAYS = 5
"""What begins at a time of day is told by so many of the last days that are like it."""
HALF_LIFE_D = 14.0
"""A day that lies so far back tells half as much."""
OTHER_KIND, SAME_WEEKDAY = 0.2, 2.0
"""How much a working day tells of a weekend's, and by how much more a Monday tells of a Monday."""
BESIDE_PARTS = 4
"""A request tells so many times as much of its own slot as of those beside it: people and jobs are early and late."""
PRIOR_DAYS = 4.0
"""As if so many days had been observed too on which each slot was like the average of all, or where an hour before and
after it is quieter, like that."""
LANE_UNIT = 1 << 18
"""Weights are counted in these fractions; the sum over all days stays below 32 bits."""
LEAST_DAYS, LEAST_SHARE = 0.25, 0.002
"""As if each hour had been like the average of all for a quarter of a day."""
MOST_SURE = 0.98


def is_working_day(day: int) -> bool:
    """Whether it is one of Monday to Friday; the first of January 1970 was a Thursday."""
    return (day + 3) % 7 < 5


def rates(days: Days, day: int) -> tuple[float, ...]:
    """Requests a second to expect in each slot of the day, by the days before today."""
    return _rates(whole_days(days, day), day)


@lru_cache(maxsize=1024)
def _rates(days: Days, day: int) -> tuple[float, ...]:
    """A day tells the more of another the fewer lie between, and the more alike they are. Where nothing was observed,
    so little is expected that nothing follows from it."""
    weights, weighed, shares = 0.0, 0, 0.0
    for observed, bits in days:
        weight = 0.5 ** ((day - observed) / HALF_LIFE_D)
        weight *= 1.0 if is_working_day(observed) == is_working_day(day) else OTHER_KIND
        weight *= SAME_WEEKDAY if (day - observed) % 7 == 0 else 1.0
        weights += weight
        shares += weight * bits.bit_count() / SLOTS
        weighed += _told_by(bits) * round(weight * LANE_UNIT)
    unit = BESIDE_PARTS * LANE_UNIT
    hits = [lane / unit for lane in unpack(f"<{SLOTS}I", weighed.to_bytes(4 * SLOTS, "little"))]
    mean = (shares + LEAST_SHARE * LEAST_DAYS) / (weights + LEAST_DAYS)
    around = [(hour + LEAST_DAYS * mean) / (weights + LEAST_DAYS) for hour in _means(hits)]
    sure = [
        (hit + PRIOR_DAYS * min(mean, like)) / (weights + PRIOR_DAYS) for hit, like in zip(hits, around, strict=True)
    ]
    return tuple([-log(1 - min(MOST_SURE, p)) / SLOT_S for p in sure])


def beginnings(days: Days, day: int) -> tuple[float, ...]:
    """Requests a second to expect in each slot of the day from what begins then, after an hour of silence, on most of
    the days like it."""
    return _beginnings(whole_days(days, day), day)


def like_days(observed: Iterable[int], day: int) -> list[int]:
    """The last of the observed days that are like this one: working days, or days of weekends."""
    return [d for d in sorted(observed) if is_working_day(d) == is_working_day(day)][-LIKE_DAYS:]


def whole_days(days: Days, day: int) -> Days:
    """The days that tell something of this one, sorted. Today, the last that was observed, is not over: nothing is
    expected by it of itself, nor of tomorrow. What lies more than four weeks away, or is yet to come, tells nothing: a
    clock was wrong, or the daemon was away for long."""
    if not days:
        return days
    today = days[-1][0]
    over = days[:-1] if today <= day else days
    return tuple(sorted(d for d in over if d[0] <= today and abs(day - d[0]) <= DAYS_KEPT))


@lru_cache(maxsize=1024)
def _beginnings(days: Days, day: int) -> tuple[float, ...]:
    bits_of = dict(days)
    alike = like_days(bits_of, day)
    begun = [0] * SLOTS
    for observed in alike:
        bits = bits_of[observed]
        before = bits << SLOTS | bits_of.get(observed - 1, 0)
        for slot in _set_bits(bits):
            if not before >> (SLOTS + slot - HOUR_SLOTS) & (1 << HOUR_SLOTS) - 1:
                begun[slot] += 1
    least = max(3, len(alike) // 2 + 1)
    return tuple(-log(1 - count / (len(alike) + 1)) / SLOT_S if count >= least else 0.0 for count in begun)


@lru_cache(maxsize=2048)
def _told_by(bits: int) -> int:
    """What a day tells of each slot, in 32 bits of its own: so the weights of all slots are added in one go. A loop
    over the bits takes milliseconds for each model, and all of them are reckoned anew after midnight."""
    beside = (bits << 1 | bits >> 1) & ~bits & (1 << SLOTS) - 1
    return BESIDE_PARTS * _in_lanes(bits) + _in_lanes(beside)


def _in_lanes(bits: int) -> int:
    return int(format(bits, "b").replace("0", "0" * 8).replace("1", "0" * 7 + "1"), 16)


def _means(hits: list[float]) -> list[float]:
    """The mean of the hour before, after and in each slot, around the clock."""
    sums = [0.0, *accumulate((*hits[-HOUR_SLOTS:], *hits, *hits[:HOUR_SLOTS]))]
    width = 2 * HOUR_SLOTS + 1
    return [(sums[at + width] - sums[at]) / width for at in range(SLOTS)]


def _set_bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
