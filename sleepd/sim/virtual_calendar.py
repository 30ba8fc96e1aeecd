"""Local time in virtual time: the ticker's calendar, worked out once for all scenarios that need it."""

from dataclasses import replace
from functools import lru_cache

from sleepd.core.calendar import Calendar
from sleepd.core.daybook import DAY_S
from sleepd.core.rules import LocalTime
from sleepd.core.units import Seconds, WallS
from sleepd.engine.ticker import around

CALENDAR_KEPT_S: Seconds = 600.0
"""So long a calendar is used before the next one is worked out."""


def calendar_around(conditions: frozenset[LocalTime], wall_s: WallS) -> Calendar:
    """Return what the ticker would tell at this moment, or tells at the last multiple of ten minutes before it: most
    scenarios begin at the same moment, and a calendar reaches a day back and as far ahead."""
    return _worked_out(conditions, wall_s - wall_s % CALENDAR_KEPT_S)


@lru_cache(maxsize=512)
def _worked_out(conditions: frozenset[LocalTime], wall_s: WallS) -> Calendar:
    # Scenarios are played by the clock of UTC, wherever they are played.
    return replace(around(conditions, wall_s), offsets=((wall_s - DAY_S, 0.0),))
