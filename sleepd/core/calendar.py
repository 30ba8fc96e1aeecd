"""Local time as the core knows it: spans and moments in UTC, worked out in advance by the engine's ticker."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from sleepd.core.rules import CronDue, During
from sleepd.core.units import Seconds, WallS

GRAIN_S = 1e-6
"""Wall time is a float of this grain: a moment this near has come."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """What local time says from `from_wall_s` until `until_wall_s`; nothing is known of moments outside."""

    from_wall_s: WallS = 0.0
    until_wall_s: WallS = 0.0
    spans: Mapping[During, tuple[tuple[WallS, WallS], ...]] = field(default_factory=dict)
    """Disjoint and sorted; the end of a span is not in it."""
    moments: Mapping[CronDue, tuple[WallS, ...]] = field(default_factory=dict)
    """Sorted, each once."""
    offsets: tuple[tuple[WallS, Seconds], ...] = ()
    """From when on the clocks of the host's zone are ahead of UTC by how much; sorted."""

    def knows(self, wall_s: WallS) -> bool:
        return self.from_wall_s <= wall_s < self.until_wall_s


def within(calendar: Calendar, condition: During, wall_s: WallS) -> tuple[bool, WallS | None] | None:
    """Whether the moment lies in a span, and when that changes (None: not as far as is known); None where not known."""
    spans = calendar.spans.get(condition)
    if spans is None or not calendar.knows(wall_s):
        return None
    at = bisect_right(spans, (wall_s + GRAIN_S, float("inf"))) - 1
    if at >= 0 and wall_s + GRAIN_S < spans[at][1]:
        return True, spans[at][1] if spans[at][1] < calendar.until_wall_s else None
    return False, spans[at + 1][0] if at + 1 < len(spans) else None


def last_moment(calendar: Calendar, condition: CronDue, wall_s: WallS) -> tuple[WallS | None, WallS | None] | None:
    """The last moment that came and the next one to come; None where the calendar does not know."""
    moments = calendar.moments.get(condition)
    if moments is None or not calendar.knows(wall_s):
        return None
    at = bisect_right(moments, wall_s + GRAIN_S)
    return (moments[at - 1] if at else None), (moments[at] if at < len(moments) else None)


def offset_at(calendar: Calendar, wall_s: WallS) -> Seconds | None:
    """By how much the clocks of the host's zone are ahead of UTC; None where the calendar does not know."""
    if not calendar.offsets or not calendar.knows(wall_s):
        return None
    at = bisect_right(calendar.offsets, (wall_s + GRAIN_S, float("inf"))) - 1
    return calendar.offsets[max(0, at)][1]


def offset_until(calendar: Calendar, wall_s: WallS) -> WallS:
    """Until when that holds, at least."""
    following = bisect_right(calendar.offsets, (wall_s + GRAIN_S, float("inf")))
    return min([calendar.until_wall_s, *(begin_s for begin_s, _ in calendar.offsets[following : following + 1])])
