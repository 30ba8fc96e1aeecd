"""When a model is asked for, as it was observed: in which five minutes of which days, and after how long a silence.

Days and hours are local: a moment here is wall time moved by the zone's offset of that moment, so that a change of the
clocks moves nothing that people do by the clock. What is kept is bounded: four weeks of one bit for each five minutes,
and what came against what was expected, by how long it had been silent and by how busy it was before.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import log
from struct import unpack
from typing import TypeAlias

from sleepd.core.frozen import replace
from sleepd.core.units import HOUR_S, Seconds

LocalS: TypeAlias = float
"""Wall time moved by the offset of the zone: what the clock on the wall shows, in seconds since 1970."""

DAY_S: Seconds = 24 * HOUR_S
SLOT_S: Seconds = 300.0
SLOTS = int(DAY_S / SLOT_S)
HOUR_SLOTS = int(HOUR_S / SLOT_S)
GRAIN_S: Seconds = 1e-3
"""Local time is a float: a moment so near a bound that it cannot tell belongs beyond it."""
DAYS_KEPT = 28
SILENCES_S: tuple[Seconds, ...] = (
    *(60, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 2700),
    *(3600, 5400, 7200, 10800, 14400, 21600, 43200, 86400),
)  # fmt: skip
"""Where one length of silence ends and the next begins: what follows is learned for each."""
SHORTEST_S: Seconds = SILENCES_S[0]
"""A shorter silence is the same visit: it says nothing of when the next one comes."""
BUSIEST = 6
"""How busy an hour was counts up to here, in steps of two slots in which requests came."""
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
FADES = 1 - 1 / 300
MOST_DUE = 3.0
"""A silence in which very many were due says that the calendar was wrong about that day, not that silences last."""
PRIOR_CAME = 1.0
"""As if so many requests had come as expected, until more was observed."""

LATEST_S: LocalS = 1e11
"""No clock shows what lies so far ahead, in the year 5138."""

Tally: TypeAlias = tuple[tuple[float, float], ...]
"""How many requests came, and how many were expected by everything else that is known; faded."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What was observed of one model's requests. `days`: (day since 1970, a bit for each slot), those alone on which it
    was watched, each once, in the order in which they were, of whatever the clock said: today is the last."""

    days: tuple[tuple[int, int], ...] = ()
    after: Tally = ()
    """By length of silence, as SILENCES_S divides it."""
    following: Tally = ()
    """By how busy the hour before the silence was."""
    last_s: LocalS = 0.0
    """When it was last in use; 0: not known."""
    busy: int = 0
    """How busy the hour before that was, 0 to BUSIEST."""


def restore(kept: Habits) -> Habits:
    """What can be used of habits from a database: another release may have counted by other lengths of silence, or
    kept more days. What does not fit is learned anew."""
    days = {day: bits for day, bits in kept.days if 0 <= bits < 1 << SLOTS}
    return Habits(
        tuple(days.items())[-DAYS_KEPT:],
        kept.after if _fits(kept.after, len(SILENCES_S)) else (),
        kept.following if _fits(kept.following, BUSIEST + 1) else (),
        kept.last_s if abs(kept.last_s) < LATEST_S else 0.0,
        min(max(kept.busy, 0), BUSIEST),
    )


def _fits(tally: Tally, length: int) -> bool:
    return len(tally) in (0, length) and all(0 <= value <= MOST_DUE / (1 - FADES) for pair in tally for value in pair)


def watch(habits: Habits, local_s: LocalS) -> Habits:
    """The habits after it was looked at: a day without requests was observed as well.

    Where the clock was set back behind the last request, the silence counts from now: nobody knows how long it was."""
    if habits.last_s - local_s >= SHORTEST_S:
        habits = replace(habits, last_s=local_s - SHORTEST_S)
    day = int(local_s // DAY_S)
    if habits.days and habits.days[-1][0] == day:
        return habits
    # Neither days far ahead nor far back are dropped: which clock was wrong, the one of then or of now, is not known.
    others = [d for d in habits.days if d[0] != day][1 - DAYS_KEPT :]
    return replace(habits, days=(*others, (day, dict(habits.days).get(day, 0))))


def attend(habits: Habits, local_s: LocalS) -> Habits:
    """The habits after a request came, or was still running, at this moment."""
    silent_s = local_s - habits.last_s
    habits = watch(habits, local_s)
    if habits.last_s > 0 and silent_s >= SHORTEST_S and _was_watched(habits, silent_s):
        habits = _learn(habits, silent_s)
    day, slot = divmod(int(local_s // SLOT_S), SLOTS)
    bits = habits.days[-1][1]
    if not bits >> slot & 1:
        habits = replace(habits, days=(*habits.days[:-1], (day, bits | 1 << slot)))
    busy = _busy(habits.days, day, slot) if silent_s >= 0 or not habits.last_s else habits.busy
    return replace(habits, last_s=local_s, busy=busy)


def _was_watched(habits: Habits, silent_s: Seconds) -> bool:
    """Whether it was watched on every day of this silence: else requests may have come that nobody saw."""
    first, last = int(habits.last_s // DAY_S), int((habits.last_s + silent_s) // DAY_S)
    return last - first < DAYS_KEPT and {day for day, _ in habits.days}.issuperset(range(first, last + 1))


def _busy(days: tuple[tuple[int, int], ...], day: int, slot: int) -> int:
    bits = days[-1][1] << SLOTS if days[-1][0] == day else 0
    if len(days) > 1 and days[-2][0] == day - 1:
        bits |= days[-2][1]
    recent = bits >> (SLOTS + slot - HOUR_SLOTS + 1) & (1 << HOUR_SLOTS) - 1
    return min(BUSIEST, (recent.bit_count() + 1) // 2)


def _learn(habits: Habits, silent_s: Seconds) -> Habits:
    """Compare a silence that ended with what was expected of it."""
    after = list(habits.after or ((0.0, 0.0),) * len(SILENCES_S))
    following = list(habits.following or ((0.0, 0.0),) * (BUSIEST + 1))
    by_busy, expected = likelier_following(habits), 0.0
    due = [0.0] * len(SILENCES_S)
    for piece in pieces(habits, SHORTEST_S, silent_s):
        due[piece.silence] += piece.rate * piece.lasts_s * by_busy
        expected += piece.rate * piece.lasts_s * likelier_after(habits, piece.silence)
    last = bisect_right(SILENCES_S, silent_s) - 1
    for silence in range(last + 1):
        after[silence] = _faded(after[silence], float(silence == last), due[silence])
    following[habits.busy] = _faded(following[habits.busy], 1.0, expected)
    return replace(habits, after=_rounded(after), following=_rounded(following))


def _faded(tally: tuple[float, float], came: float, due: float) -> tuple[float, float]:
    return tally[0] * FADES + came, tally[1] * FADES + min(due, MOST_DUE)


def _rounded(tally: list[tuple[float, float]]) -> Tally:
    return tuple((round(came, 4), round(due, 6)) for came, due in tally)


def _ratio(tally: tuple[float, float], prior: float) -> float:
    return (tally[0] + prior) / (tally[1] + prior)


def visits(habits: Habits) -> float:
    """How many silences ended, the older ones counted less."""
    return sum(came for came, _ in habits.after)


def likelier_after(habits: Habits, silence: int) -> float:
    """By how much a request is likelier than on average, after a silence of this length."""
    return _ratio(habits.after[silence], PRIOR_CAME) if habits.after else 1.0


def likelier_following(habits: Habits) -> float:
    """By how much a request is likelier than on average, after an hour as busy as the last one was."""
    return _ratio(habits.following[habits.busy], 2 * PRIOR_CAME) if habits.following else 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a silence within one slot and one length of silence. `rate`: requests a second by the calendar;
    `regular`: by what begins on most days at this time, after an hour of silence."""

    begin_s: Seconds
    lasts_s: Seconds
    silence: int
    rate: float
    regular: float


def pieces(habits: Habits, from_s: Seconds, until_s: Seconds) -> Iterator[Piece]:
    """Every stretch of the present silence between these moments of it."""
    at_s, known = from_s, -1
    of_day: tuple[float, ...] = ()
    regular: tuple[float, ...] = ()
    while at_s < until_s:
        silence = bisect_right(SILENCES_S, at_s) - 1
        following_s = SILENCES_S[silence + 1] if silence + 1 < len(SILENCES_S) else until_s
        local_s = habits.last_s + at_s
        day, slot = divmod(int(local_s // SLOT_S), SLOTS)
        end_s = min(following_s, at_s + SLOT_S - local_s % SLOT_S, until_s)
        end_s = max(end_s, at_s + GRAIN_S)
        if day != known:
            known, of_day, regular = day, rates(habits.days, day), beginnings(habits.days, day)
        yield Piece(at_s, end_s - at_s, silence, of_day[slot], regular[slot] if at_s >= HOUR_S else 0.0)
        at_s = end_s


# --- the calendar ------------------------------------------------------------------------------------------------


def is_working_day(day: int) -> bool:
    """Whether it is one of Monday to Friday; the first of January 1970 was a Thursday."""
    return (day + 3) % 7 < 5


def rates(days: tuple[tuple[int, int], ...], day: int) -> tuple[float, ...]:
    """Requests a second to expect in each slot of the day, by the days before today."""
    return _rates(whole_days(days, day), day)


@lru_cache(maxsize=1024)
def _rates(days: tuple[tuple[int, int], ...], day: int) -> tuple[float, ...]:
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


def beginnings(days: tuple[tuple[int, int], ...], day: int) -> tuple[float, ...]:
    """Requests a second to expect in each slot of the day from what begins then, after an hour of silence, on most of
    the days like it."""
    return _beginnings(whole_days(days, day), day)


def like_days(observed: Iterable[int], day: int) -> list[int]:
    """The last of the observed days that are like this one: working days, or days of weekends."""
    return [d for d in sorted(observed) if is_working_day(d) == is_working_day(day)][-LIKE_DAYS:]


def whole_days(days: tuple[tuple[int, int], ...], day: int) -> tuple[tuple[int, int], ...]:
    """The days that tell something of this one, sorted. Today, the last that was observed, is not over: nothing is
    expected by it of itself, nor of tomorrow. What lies more than four weeks away, or is yet to come, tells nothing: a
    clock was wrong, or the daemon was away for long."""
    if not days:
        return days
    today = days[-1][0]
    over = days[:-1] if today <= day else days
    return tuple(sorted(d for d in over if d[0] <= today and abs(day - d[0]) <= DAYS_KEPT))


@lru_cache(maxsize=1024)
def _beginnings(days: tuple[tuple[int, int], ...], day: int) -> tuple[float, ...]:
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
