"""How long no request is to be expected: what it costs to be there for the next one."""

from bisect import bisect_right
from functools import lru_cache
from math import exp

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
    silent_s = local_s - habits.last_s
    if abs(silent_s) < SHORTEST_S:
        return 0.0
    # A last request that lies ahead: the clock was set back, and how long it was silent is not known.
    if silent_s < 0 or days_observed(habits, local_s) < FEWEST_DAYS or visits(habits) < FEWEST_VISITS:
        return None
    return _least_awake(habits, _last_change(habits, local_s + GRAIN_S) - habits.last_s)


def days_observed(habits: Habits, local_s: LocalS) -> int:
    """How many whole days are known that tell something of today."""
    return len(whole_days(habits.days, int(local_s // DAY_S)))


def next_change(habits: Habits, local_s: LocalS) -> LocalS:
    """When the predicted idle time is another one, should no request come until then."""
    local_s += GRAIN_S
    slot_s = (local_s // SLOT_S + 1) * SLOT_S
    following = bisect_right(SILENCES_S, local_s - habits.last_s)
    return min(slot_s, habits.last_s + SILENCES_S[following]) if following < len(SILENCES_S) else slot_s


def _last_change(habits: Habits, local_s: LocalS) -> LocalS:
    silence = length_of(local_s - habits.last_s)
    return max(local_s // SLOT_S * SLOT_S, habits.last_s + SILENCES_S[silence])


@lru_cache(maxsize=1024)
def _least_awake(habits: Habits, silent_s: Seconds) -> Seconds:
    least, awake_s, met, silent = AHEAD_S * 1e3, 0.0, 0.0, 1.0
    for piece in pieces(habits, silent_s, silent_s + AHEAD_S):
        a_second = rate(habits, piece)
        comes = 1.0 - exp(-a_second * piece.lasts_s)
        awake_s += silent * (comes / a_second if comes > 1e-9 else piece.lasts_s)
        met += silent * comes
        silent *= 1.0 - comes
        if met > 0:
            least = min(least, awake_s / met)
        if silent < 0.02 or (awake_s > HOUR_S and awake_s > 3 * least):
            break
    return least
