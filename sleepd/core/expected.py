"""How long no request is to be expected: what it costs to be there for the next one."""

from bisect import bisect_right
from functools import lru_cache
from math import exp, inf
from typing import NamedTuple

from sleepd.core.daybook import DAY_S, SLOT_S, LocalS, whole_days
from sleepd.core.habits import GRAIN_S, Habits, pieces, rate, visits
from sleepd.core.silences import SHORTEST_S, SILENCES_S, length_of
from sleepd.core.units import HOUR_S, Seconds

AHEAD_S: Seconds = 6 * HOUR_S
"""Nothing is expected from further on."""
FEWEST_DAYS, FEWEST_VISITS = 2, 8
"""Fewer days watched, or fewer silences that ended, foretell nothing."""


def expected_idle(habits: Habits, local_s: LocalS) -> Seconds | None:
    """The predicted idle time of a model that is silent at this moment: the least time awake, on average, for each
    request that is then met awake, over every horizon up to six hours. None: too little was observed.

    A request that is certain to come in ten minutes makes it ten minutes; requests at random, once an hour, an hour. 0
    within the first minute of a silence: the same visit may go on. It stands still within five minutes of the clock and
    within one length of silence: see `next_change`.
    """
    if not _is_foretold(habits, local_s):
        return _unforetold(habits, local_s)
    return _least_awake(habits, _last_change_s(habits, local_s))


@lru_cache(maxsize=1024)
def _least_awake(habits: Habits, silent_s: Seconds) -> Seconds:
    return Outlook(habits, silent_s).least_awake(silent_s)


def days_observed(habits: Habits, local_s: LocalS) -> int:
    """How many whole days are known that tell something of today."""
    return len(whole_days(habits.days, int(local_s // DAY_S)))


def next_change(habits: Habits, local_s: LocalS) -> LocalS:
    """When the predicted idle time is another one, should no request come until then."""
    local_s += GRAIN_S
    slot_s = (local_s // SLOT_S + 1) * SLOT_S
    if local_s <= habits.last_s - SHORTEST_S:
        return min(slot_s, habits.last_s - SHORTEST_S)
    following = bisect_right(SILENCES_S, local_s - habits.last_s)
    return min(slot_s, habits.last_s + SILENCES_S[following]) if following < len(SILENCES_S) else slot_s


def _unforetold(habits: Habits, local_s: LocalS) -> Seconds | None:
    """The predicted idle time where no forecast is made: 0 while the same visit may go on."""
    return 0.0 if abs(local_s + GRAIN_S - habits.last_s) < SHORTEST_S else None


def _is_foretold(habits: Habits, local_s: LocalS) -> bool:
    # A last request that lies ahead: the clock was set back, and how long it was silent is not known.
    return local_s + GRAIN_S - habits.last_s >= SHORTEST_S and _is_enough(habits, int(local_s // DAY_S))


@lru_cache(maxsize=1024)
def _is_enough(habits: Habits, day: int) -> bool:
    return len(whole_days(habits.days, day)) >= FEWEST_DAYS and visits(habits) >= FEWEST_VISITS


def _last_change_s(habits: Habits, local_s: LocalS) -> Seconds:
    """How long it was silent when the predicted idle time changed last."""
    local_s += GRAIN_S
    silence = length_of(local_s - habits.last_s)
    return max(local_s // SLOT_S * SLOT_S, habits.last_s + SILENCES_S[silence]) - habits.last_s


class _Stretch(NamedTuple):
    """A stretch of the silence in which requests are equally likely all the time."""

    begin_s: Seconds
    lasts_s: Seconds
    a_second: float
    comes: float
    """How likely one comes within it, should none come before."""
    awake_s: Seconds
    """How long whoever waits for it stays awake, on average."""


def _stretch(begin_s: Seconds, lasts_s: Seconds, a_second: float) -> _Stretch:
    comes = 1.0 - exp(-a_second * lasts_s)
    return _Stretch(begin_s, lasts_s, a_second, comes, comes / a_second if comes > 1e-9 else lasts_s)


class Outlook:
    """`expected_idle` of one silence at one moment after another: what lies ahead of them all is worked out once."""

    def __init__(self, habits: Habits, silent_s: Seconds) -> None:
        self._habits = habits
        self._more = (_stretch(p.begin_s, p.lasts_s, rate(habits, p)) for p in pieces(habits, silent_s, inf))
        self._known: list[_Stretch] = []
        """The stretches from that moment of the silence on, as far as they were needed."""
        self._at, self._least_s = -1, 0.0
        """The stretch that was asked for last, and the least time awake from there on."""

    def at(self, local_s: LocalS) -> Seconds | None:
        """The predicted idle time at this moment, which is no earlier than the one that was asked for last."""
        if not _is_foretold(self._habits, local_s):
            return _unforetold(self._habits, local_s)
        return self.least_awake(local_s + GRAIN_S - self._habits.last_s)

    def least_awake(self, silent_s: Seconds) -> Seconds:
        """The least time awake for each request that is met, from the stretch on in which the silence is then."""
        at = max(0, self._at)
        while self._get(at + 1).begin_s <= silent_s:
            at += 1
        if at != self._at:
            self._at, self._least_s = at, self._least_from(at)
        return self._least_s

    def _get(self, at: int) -> _Stretch:
        while at >= len(self._known):
            self._known.append(next(self._more))
        return self._known[at]

    def _least_from(self, at: int) -> Seconds:
        least, awake_s, met, silent = AHEAD_S * 1e3, 0.0, 0.0, 1.0
        known, until_s, begin_s = self._known, self._get(at).begin_s + AHEAD_S, 0.0
        while begin_s < until_s:
            begin_s, lasts_s, a_second, comes, wait_s = known[at] if at < len(known) else self._get(at)
            if begin_s + lasts_s > until_s:
                _, _, _, comes, wait_s = _stretch(begin_s, max(GRAIN_S, until_s - begin_s), a_second)
            awake_s += silent * wait_s
            met += silent * comes
            silent *= 1.0 - comes
            if met > 0:
                least = min(least, awake_s / met)
            if silent < 0.02 or (awake_s > HOUR_S and awake_s > 3 * least):
                break
            at, begin_s = at + 1, begin_s + lasts_s
        return least


def look_out(habits: Habits, local_s: LocalS) -> Outlook:
    """What lies ahead of this moment."""
    return Outlook(habits, _last_change_s(habits, local_s))
