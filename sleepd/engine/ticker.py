"""Local time for the core: works out ahead, in UTC, when the hours and the moments of the rules are.

The tick itself is the loop's: nothing here fires anything. Time zones and cron expressions are pure functions of a
moment, so a clock that jumps or a zone that changes its hours only means that the calendar is worked out anew.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from sleepd.calendars import make_trigger, parse_timezone
from sleepd.core.calendar import Calendar
from sleepd.core.events import CalendarExtended, Event
from sleepd.core.rules import CronDue, During, LocalTime, Rule
from sleepd.core.units import Seconds, WallS
from sleepd.core.world import World
from sleepd.ports import Clock

AHEAD_S: Seconds = 8 * 86400.0
BEHIND_S: Seconds = 86400.0
"""A moment counts for a while after it came, and a clock may be set back."""
MOMENTS_LIMIT = 1500
"""A cron that comes every minute is worked out for a day, not for eight."""
CHECK_EVERY_S: Seconds = 1.0
HALF_HOUR_S: Seconds = 1800.0
_MINUTE = timedelta(minutes=1)


class Sink(Protocol):
    """Where the calendar goes, and the world whose rules it is for."""

    @property
    def world(self) -> World: ...

    def submit(self, event: Event) -> None: ...


class Ticker:
    """Keeps the world's calendar ahead of its clock."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink, self._clock = sink, clock
        self._rules: tuple[Rule, ...] = ()
        self._made = Calendar()

    async def run(self) -> None:
        """Work the calendar out anew when the rules change, the clock jumps, or half of it is behind; never returns."""
        while True:
            rules, wall_s = self._sink.world.settings.rules, self._clock.now().wall_s
            half_s = (self._made.from_wall_s + BEHIND_S + self._made.until_wall_s) / 2
            if rules is not self._rules or not self._made.from_wall_s + BEHIND_S / 2 <= wall_s < half_s:
                # Hundreds of moments may take a while: the loop goes on turning meanwhile.
                self._made = await asyncio.to_thread(work_out, rules, wall_s)
                self._rules = rules
                self._sink.submit(CalendarExtended(self._made))
            await self._clock.sleep(CHECK_EVERY_S)


def work_out(rules: Iterable[Rule], wall_s: WallS) -> Calendar:
    """Return the calendar of these rules around the moment: a day back and the longest `within`, eight days ahead."""
    return around({c for rule in rules for c in rule.conditions if isinstance(c, LocalTime)}, wall_s)


def around(conditions: Collection[LocalTime], wall_s: WallS) -> Calendar:
    """Return the calendar of these hours and crons around the moment."""
    crons = sorted((c for c in conditions if isinstance(c, CronDue)), key=lambda c: (c.cron, c.timezone, c.within_s))
    from_s = wall_s - BEHIND_S - max((c.within_s for c in crons), default=0.0)
    until_s = wall_s + AHEAD_S
    moments: dict[CronDue, tuple[WallS, ...]] = {}
    for cron in crons:
        moments[cron], until_s = _moments(cron, from_s, until_s, wall_s)
    spans = {c: _spans(c, from_s, until_s) for c in conditions if isinstance(c, During)}
    return Calendar(wall_s - BEHIND_S, until_s, spans, moments, _offsets(wall_s - BEHIND_S, until_s))


def _offsets(from_s: WallS, until_s: WallS) -> tuple[tuple[WallS, Seconds], ...]:
    """From when on the clocks of the host's zone are ahead of UTC by how much; clocks change on a half hour."""
    zone = parse_timezone("")
    found: list[tuple[WallS, Seconds]] = []
    at_s = from_s // HALF_HOUR_S * HALF_HOUR_S
    while at_s < until_s:
        offset = datetime.fromtimestamp(at_s, zone).utcoffset()
        ahead_s = offset.total_seconds() if offset is not None else 0.0
        if not found or found[-1][1] != ahead_s:
            found.append((at_s, ahead_s))
        at_s += HALF_HOUR_S
    return tuple(found)


def to_utc(local: datetime, zone: tzinfo) -> datetime:
    """Return when the clocks of the zone show this: the first time where they show it twice; where they skip it, the
    first minute that they do show after it."""
    while True:
        found = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if found.astimezone(zone).replace(tzinfo=None, fold=0) == local:
            return found
        local += _MINUTE


def _moments(condition: CronDue, from_s: WallS, until_s: WallS, now_s: WallS) -> tuple[tuple[WallS, ...], WallS]:
    """The moments of the cron, and until when they are known: earlier than asked for where there are very many."""
    zone = parse_timezone(condition.timezone)
    found: set[WallS] = set()
    ahead = 0
    for local in _local_moments(condition.cron, datetime.fromtimestamp(from_s, zone).replace(tzinfo=None)):
        at_s = to_utc(local, zone).timestamp()
        if at_s >= until_s:
            break
        found.add(at_s)
        ahead += at_s > now_s
        if ahead >= MOMENTS_LIMIT:
            return tuple(sorted(found)), at_s
    return tuple(sorted(found)), until_s


def _local_moments(cron: str, local: datetime) -> Iterator[datetime]:
    """The moments by the clock on the wall, from a day before `local` on, as if clocks were never changed."""
    # In UTC no hour is skipped or doubled, so the trigger tells plain local times; what a change of the clocks does to
    # them is the zone's business.
    trigger = make_trigger(cron, UTC)
    start = (local - timedelta(days=1)).replace(tzinfo=UTC)
    moment = trigger.get_next_fire_time(None, start)
    while moment is not None:
        yield moment.replace(tzinfo=None)
        moment = trigger.get_next_fire_time(moment, moment + timedelta(microseconds=1))


def _spans(condition: During, from_s: WallS, until_s: WallS) -> tuple[tuple[WallS, WallS], ...]:
    """The spans of the days whose hours touch [from_s, until_s), merged where they touch each other."""
    zone = parse_timezone(condition.timezone)
    day = datetime.fromtimestamp(from_s, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    day -= timedelta(days=3)
    last = datetime.fromtimestamp(until_s, zone).replace(tzinfo=None)
    spans: list[tuple[WallS, WallS]] = []
    while day <= last:
        if day.weekday() in condition.days:
            begin_s = to_utc(day + timedelta(minutes=condition.begin_min), zone).timestamp()
            end_s = to_utc(day + timedelta(minutes=condition.end_min), zone).timestamp()
            if spans and begin_s <= spans[-1][1]:
                begin_s = spans.pop()[0]
            if begin_s < end_s:
                spans.append((begin_s, end_s))
        day += timedelta(days=1)
    return tuple(spans)
