"""When a model is asked for, as it was observed: two forecasts, and which of them foretold better lately.

One goes by local time: which five minutes of which days, and what came against what was expected, by how long it had
been silent and by how busy it was before. The other knows no clock: how soon silences end, by the same two. What is
kept is bounded: four weeks of one bit for each five minutes, and one pair of numbers for each length of silence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from typing import NamedTuple, TypeAlias

from sleepd.core.daybook import DAY_S, DAYS_KEPT, HOUR_SLOTS, SLOT_S, SLOTS, Days, LocalS, beginnings, rates
from sleepd.core.frozen import replace
from sleepd.core.silences import (
    BUSIEST,
    FADES,
    LONGEST_S,
    SHORTEST_S,
    SILENCES_S,
    BySilence,
    fits,
    length_of,
    note_end,
    rates_after,
)
from sleepd.core.units import HOUR_S, Seconds

GRAIN_S: Seconds = 1e-3
"""Local time is a float: a moment so near a bound that it cannot tell belongs beyond it."""
LEAST_RATE = 1e-9
"""Requests a second: fewer are none, and their logarithm says nothing."""
MOST_DUE = 3.0
"""A silence in which very many were due says that the calendar was wrong about that day, not that silences last."""
PRIOR_CAME = 1.0
"""As if so many requests had come as expected, until more was observed."""
TRUST_FADES, MOST_TOLD = 0.98, 3.0
"""What fifty silences back told of which forecast to trust counts a third; and one silence tells no more than this."""

LATEST_S: LocalS = 1e11
"""No clock shows what lies so far ahead, in the year 5138."""

MOST_COMPARED = 1e10
"""No forecast of either kind comes to so many requests in four weeks."""
MOST_TRUST = MOST_TOLD / (1 - TRUST_FADES)
"""No run of silences tells more."""

Tally: TypeAlias = tuple[tuple[float, float], ...]
"""How many requests came, and how many were expected by everything else that is known; faded."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The present silence against what was expected of it, on the days of it that are over: each by what was known as
    it ended, which is before it counted itself. So one turn compares a day and what has passed of another at most."""

    until_s: Seconds = SHORTEST_S
    """How much of the silence this is of; the rest is not compared yet."""
    due: tuple[float, ...] = (0.0,) * len(SILENCES_S)
    """By length of silence: requests that were expected by everything but the length, MOST_DUE at most."""
    told: tuple[float, ...] = (0.0,) * len(SILENCES_S)
    """By length of silence: how much better local time foretold that nothing came than silences did."""
    expected: float = 0.0
    """Requests that were expected by everything but how busy the hour before was, MOST_DUE at most."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What was observed of one model's requests. `days`: (day since 1970, a bit for each slot), those alone on which it
    was watched, each once, in the order in which they were, of whatever the clock said: today is the last."""

    days: Days = ()
    after: Tally = ()
    """By length of silence, as SILENCES_S divides it."""
    following: Tally = ()
    """By how busy the hour before the silence was."""
    last_s: LocalS = 0.0
    """When it was last in use; 0: not known."""
    busy: int = 0
    """How busy the hour before that was, 0 to BUSIEST."""
    by_silence: BySilence = ()
    trust: tuple[float, ...] = ()
    """By length of silence: how much better local time foretold than silences did, as the logarithm of odds; faded."""
    compared: Compared = Compared()

    def __hash__(self) -> int:
        """By what tells nearly all apart: what is worked out of habits is kept beside them, and found by this."""
        return hash(self.last_s)


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
        kept.by_silence if fits(kept.by_silence) else (),
        kept.trust if len(kept.trust) == len(SILENCES_S) and all(abs(t) <= MOST_TRUST for t in kept.trust) else (),
        kept.compared if _is_possible(kept.compared) else Compared(),
    )


def _is_possible(compared: Compared) -> bool:
    shaped = len(compared.due) == len(compared.told) == len(SILENCES_S)
    due = all(0 <= value <= MOST_DUE for value in (*compared.due, compared.expected))
    told = all(abs(value) <= MOST_COMPARED for value in compared.told)
    return shaped and due and told and SHORTEST_S <= compared.until_s <= LONGEST_S


def _fits(tally: Tally, length: int) -> bool:
    return len(tally) in (0, length) and all(0 <= value <= MOST_DUE / (1 - FADES) for pair in tally for value in pair)


def watch(habits: Habits, local_s: LocalS) -> Habits:
    """The habits after it was looked at: a day without requests was observed as well.

    Where the clock was set back behind the last request, the silence counts from now: nobody knows how long it was."""
    if habits.last_s - local_s >= SHORTEST_S:
        habits = replace(habits, last_s=local_s - SHORTEST_S, compared=Compared())
    day = int(local_s // DAY_S)
    if habits.days and habits.days[-1][0] == day:
        return habits
    midnight_s = day * DAY_S - habits.last_s
    if _was_watched(habits, midnight_s) and habits.days[-1][0] == day - 1:
        habits = replace(habits, compared=_compare(habits, midnight_s)[0])
    # Neither days far ahead nor far back are dropped: which clock was wrong, the one of then or of now, is not known.
    others = [d for d in habits.days if d[0] != day][1 - DAYS_KEPT :]
    return replace(habits, days=(*others, (day, dict(habits.days).get(day, 0))))


def attend(habits: Habits, local_s: LocalS) -> Habits:
    """The habits after a request came, or was still running, at this moment."""
    silent_s = local_s - habits.last_s
    habits = watch(habits, local_s)
    if silent_s >= SHORTEST_S and _was_watched(habits, silent_s):
        habits = _learn(habits, silent_s)
    day, slot = divmod(int(local_s // SLOT_S), SLOTS)
    bits = habits.days[-1][1]
    if not bits >> slot & 1:
        habits = replace(habits, days=(*habits.days[:-1], (day, bits | 1 << slot)))
    busy = _busy(habits.days, day, slot) if silent_s >= 0 or not habits.last_s else habits.busy
    return replace(habits, last_s=local_s, busy=busy, compared=Compared())


def _was_watched(habits: Habits, silent_s: Seconds) -> bool:
    """Whether it was watched on every day of this silence before today, and each was compared: else requests may have
    come that nobody saw."""
    known = habits.last_s > 0 and silent_s < LONGEST_S and bool(habits.days)
    return known and (habits.last_s + habits.compared.until_s) // DAY_S >= habits.days[-1][0]


def _busy(days: Days, day: int, slot: int) -> int:
    bits = days[-1][1] << SLOTS if days[-1][0] == day else 0
    if len(days) > 1 and days[-2][0] == day - 1:
        bits |= days[-2][1]
    recent = bits >> (SLOTS + slot - HOUR_SLOTS + 1) & (1 << HOUR_SLOTS) - 1
    return min(BUSIEST, (recent.bit_count() + 1) // 2)


def _compare(habits: Habits, silent_s: Seconds) -> tuple[Compared, float]:
    """The present silence compared up to this length of it, which is today's, and how much likelier a request was then
    by local time than by silences, as a logarithm: of one that came then."""
    due, told = list(habits.compared.due), list(habits.compared.told)
    by_busy, by_length = likelier_following(habits), _by_length(habits)
    expected, likelier = habits.compared.expected, 0.0
    for piece in pieces(habits, habits.compared.until_s, silent_s):
        due[piece.silence] += piece.rate * piece.lasts_s * by_busy
        expected += piece.rate * piece.lasts_s * likelier_after(habits, piece.silence)
        _, likelier_then, by_silence = by_length[piece.silence]
        by_time = max(piece.regular, piece.rate * likelier_then)
        told[piece.silence] += (by_silence - by_time) * piece.lasts_s
        likelier = log(max(by_time, LEAST_RATE) / max(by_silence, LEAST_RATE))
    # Beyond the bound: what lies before it is over, however floats are rounded.
    until_s = round(max(habits.compared.until_s, silent_s + GRAIN_S), 3)
    enough = tuple(round(min(MOST_DUE, value), 6) for value in due)
    told_so_far = tuple(round(value, 6) for value in told)
    return Compared(until_s, enough, told_so_far, round(min(MOST_DUE, expected), 6)), likelier


def _learn(habits: Habits, silent_s: Seconds) -> Habits:
    """Compare a silence that ended with what was expected of it."""
    compared, likelier = _compare(habits, silent_s)
    after = list(habits.after or ((0.0, 0.0),) * len(SILENCES_S))
    following = list(habits.following or ((0.0, 0.0),) * (BUSIEST + 1))
    trust = list(habits.trust or (0.0,) * len(SILENCES_S))
    last = length_of(silent_s)
    for silence in range(last + 1):
        came = silence == last
        after[silence] = _faded(after[silence], float(came), compared.due[silence])
        told = compared.told[silence] + (likelier if came else 0.0)
        trust[silence] = round(trust[silence] * TRUST_FADES + max(-MOST_TOLD, min(MOST_TOLD, told)), 4)
    following[habits.busy] = _faded(following[habits.busy], 1.0, compared.expected)
    return replace(
        habits,
        after=_rounded(after),
        following=_rounded(following),
        by_silence=note_end(habits.by_silence, habits.busy, silent_s),
        trust=tuple(trust),
    )


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


def trust_in_calendar(habits: Habits, silence: int) -> float:
    """How much local time counts for what is expected after a silence of this length, 0 to 1: the odds of having
    foretold how those ended."""
    return 1.0 / (1.0 + exp(-habits.trust[silence])) if habits.trust else 0.5


class Piece(NamedTuple):
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
        silence = length_of(at_s)
        following_s = SILENCES_S[silence + 1] if silence + 1 < len(SILENCES_S) else until_s
        local_s = habits.last_s + at_s
        day, slot = divmod(int(local_s // SLOT_S), SLOTS)
        end_s = min(following_s, at_s + SLOT_S - local_s % SLOT_S, until_s)
        end_s = max(end_s, at_s + GRAIN_S)
        if day != known:
            known, of_day, regular = day, rates(habits.days, day), beginnings(habits.days, day)
        yield Piece(at_s, end_s - at_s, silence, of_day[slot], regular[slot] if at_s >= HOUR_S else 0.0)
        at_s = end_s


def rate(habits: Habits, piece: Piece) -> float:
    """Requests a second to expect in this stretch of the present silence: what is regular, else by both forecasts, each
    as far as it is trusted."""
    trust, likelier, by_silence = _by_length(habits)[piece.silence]
    by_calendar = max(piece.regular, piece.rate * likelier)
    return max(piece.regular, trust * by_calendar + (1.0 - trust) * by_silence)


@lru_cache(maxsize=1024)
def _by_length(habits: Habits) -> tuple[tuple[float, float, float], ...]:
    """By length of silence: how far local time is trusted, by how much likelier a request is than by the calendar, and
    how many a second end such a silence whatever the clock shows."""
    by_busy, by_silence = likelier_following(habits), rates_after(habits.by_silence, habits.busy)
    lengths = range(len(SILENCES_S))
    return tuple((trust_in_calendar(habits, n), by_busy * likelier_after(habits, n), by_silence[n]) for n in lengths)
