"""How soon a request comes after a silence of each length and an hour as busy, whatever the clock shows."""

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from math import exp, sqrt
from typing import TypeAlias

from sleepd.core.daybook import DAY_S, DAYS_KEPT
from sleepd.core.units import Seconds

SILENCES_S: tuple[Seconds, ...] = (
    *(60, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 2700),
    *(3600, 5400, 7200, 10800, 14400, 21600, 43200, 86400),
)  # fmt: skip
"""Where one length of silence ends and the next begins: what follows is learned for each."""
SHORTEST_S: Seconds = SILENCES_S[0]
"""A shorter silence is the same visit: it says nothing of when the next one comes."""
LONGEST_S: Seconds = DAYS_KEPT * DAY_S
"""None is known to be longer: days before were not watched, as far as is known."""
BUSIEST = 6
"""How busy an hour was counts up to here, in steps of two slots in which requests came."""
FADES = 1 - 1 / 300
PRIOR_ENDED = 2.0
"""As if so many silences had ended too as they do after any hour; and of those, as they do for most things."""
ENDS_SOON = 0.3
"""How many requests to expect in the time that a silence lasted so far, of a model of which nothing was observed. Its
length is heavy-tailed: whatever it lasted, one in five ends before it has lasted as long again."""

Ended: TypeAlias = tuple[float, Seconds]
"""How many silences ended within one length, and how long it was silent within it in all; faded."""
BySilence: TypeAlias = tuple[tuple[Ended, ...], ...]
"""By how busy the hour before the silence was, and by its length. Empty: nothing was observed."""

_NONE: tuple[Ended, ...] = ((0.0, 0.0),) * len(SILENCES_S)
_MIDDLES_S = tuple(
    sqrt(begin_s * end_s) for begin_s, end_s in zip(SILENCES_S, (*SILENCES_S[1:], 2 * SILENCES_S[-1]), strict=True)
)


def length_of(silent_s: Seconds) -> int:
    """Which of SILENCES_S a silence has reached; the first where it is shorter."""
    return max(0, bisect_right(SILENCES_S, silent_s) - 1)


def note_end(observed: BySilence, busy: int, silent_s: Seconds) -> BySilence:
    """What was observed, with one more silence that ended after so long, an hour as busy before it."""
    rows = list(observed or ((),) * (BUSIEST + 1))
    row = list(rows[busy] or _NONE)
    for at, (begin_s, (ended, lasted_s)) in enumerate(zip(SILENCES_S, row, strict=True)):
        if begin_s > silent_s:
            break
        end_s = SILENCES_S[at + 1] if at + 1 < len(SILENCES_S) else silent_s
        within_s = max(0.0, min(silent_s, end_s) - begin_s)
        is_last = silent_s < end_s or at + 1 == len(SILENCES_S)
        row[at] = (round(ended * FADES + is_last, 3), round(lasted_s * FADES + within_s, 1))
    rows[busy] = tuple(row)
    return tuple(rows)


@lru_cache(maxsize=1024)
def rates_after(observed: BySilence, busy: int) -> tuple[float, ...]:
    """Requests a second to expect within each length of silence, an hour as busy before it.

    What was seen after hours as busy, from what was seen after all of them, from what holds for most things: each
    stands until there is more of the one before."""
    rates = []
    for at, middle_s in enumerate(_MIDDLES_S):
        ended, lasted_s = _total(row[at] for row in observed if row)
        of_all = (ended + PRIOR_ENDED) / (lasted_s + PRIOR_ENDED * middle_s / ENDS_SOON)
        own = observed[busy][at] if observed and observed[busy] else (0.0, 0.0)
        rates.append((own[0] + PRIOR_ENDED) / (own[1] + PRIOR_ENDED / of_all))
    return tuple(rates)


def fits(observed: BySilence) -> bool:
    """Whether it is of this shape, with numbers that can have come about."""
    lengths = {len(row) for row in observed}
    most = 1 / (1 - FADES)
    return (
        len(observed) in (0, BUSIEST + 1)
        and lengths <= {0, len(SILENCES_S)}
        and all(0 <= ended <= most and 0 <= lasted_s <= most * LONGEST_S for row in observed for ended, lasted_s in row)
    )


def chance_within(observed: BySilence, busy: int, silent_s: Seconds, within_s: Seconds) -> float:
    """How likely, 0 to 1, a silence that lasted for so long ends within this time, an hour as busy before it."""
    due, at_s, end_s = 0.0, silent_s, silent_s + within_s
    for a_second, until_s in zip(rates_after(observed, busy), (*SILENCES_S[1:], end_s), strict=True):
        lasts_s = max(0.0, min(until_s, end_s) - at_s)
        due, at_s = due + a_second * lasts_s, at_s + lasts_s
    return 1.0 - exp(-due)


def _total(pairs: Iterable[Ended]) -> Ended:
    ended, lasted_s = 0.0, 0.0
    for pair in pairs:
        ended, lasted_s = ended + pair[0], lasted_s + pair[1]
    return ended, lasted_s
