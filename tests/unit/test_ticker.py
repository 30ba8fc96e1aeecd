"""Local time as the rules mean it, in real zones: skipped and doubled hours, midnights, weekdays, many moments."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from sleepd.core.calendar import Calendar, last_moment, within
from sleepd.core.events import CalendarExtended
from sleepd.core.model import Now, Settings
from sleepd.core.rules import KEEP_AWAKE, WAKE, CronDue, During, Rule
from sleepd.engine.ticker import MOMENTS_LIMIT, Ticker, work_out

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
EVERY_DAY = frozenset(range(7))


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def in_utc(moment_s):
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M")


def calendar_of(condition, at):
    then = WAKE if isinstance(condition, CronDue) else KEEP_AWAKE
    return work_out([Rule("x", frozenset({"a"}), (condition,), then)], utc(at))


def moments(cron, zone, at, count=3):
    """The next moments from `at` (UTC) on, in UTC."""
    condition = CronDue(cron, zone, 600.0)
    found = [m for m in calendar_of(condition, at).moments[condition] if m >= utc(at)]
    return [in_utc(m) for m in found[:count]]


def spans(days, begin, end, zone, at):
    """The spans that end after `at` (UTC), in UTC."""
    condition = During(days, begin, end, zone)
    found = calendar_of(condition, at).spans[condition]
    return [(in_utc(a), in_utc(b)) for a, b in found if b > utc(at)]


# --- "A skipped local time fires at the next valid minute, a doubled one once." ---------------------------------------


@pytest.mark.parametrize(
    ("cron", "zone", "at", "found"),
    [
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["2026-03-29 01:00", "2026-03-30 00:30", "2026-03-31 00:30"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", ["2026-03-08 07:00", "2026-03-09 06:30", "2026-03-10 06:30"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["2026-10-03 15:30", "2026-10-04 15:15", "2026-10-05 15:15"]),
        ("*/20 2 * * *", BERLIN, "2026-03-28T12:00", ["2026-03-29 01:00", "2026-03-30 00:00", "2026-03-30 00:20"]),
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["2026-10-25 00:30", "2026-10-26 01:30", "2026-10-27 01:30"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", ["2026-11-01 05:30", "2026-11-02 06:30", "2026-11-03 06:30"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["2026-04-04 14:45", "2026-04-05 15:15", "2026-04-06 15:15"]),
        ("0 * * * *", BERLIN, "2026-10-24T23:30", ["2026-10-25 00:00", "2026-10-25 02:00", "2026-10-25 03:00"]),
    ],
    ids=[
        "Berlin skips 02:30",
        "New York skips 02:30",
        "Lord Howe skips 02:15, half an hour",
        "several skipped times are one",
        "Berlin shows 02:30 twice",
        "New York shows 01:30 twice",
        "Lord Howe shows 01:45 twice",
        "hourly through a doubled hour",
    ],
)
def test_changes_of_the_clocks(cron, zone, at, found):
    assert moments(cron, zone, at) == found


# --- "Weekdays by name only. `between` excludes its end; past midnight it belongs to the day it began." ---------------


@pytest.mark.parametrize(
    ("days", "begin", "end", "zone", "at", "found"),
    [
        ({4}, 1320, 1800, BERLIN, "2026-06-05T00:00", [("2026-06-05 20:00", "2026-06-06 04:00")]),
        ({0, 1}, 480, 1080, BERLIN, "2026-06-01T00:00", [("2026-06-01 06:00", "2026-06-01 16:00")]),
        ({5, 6}, 0, 1440, NEW_YORK, "2026-06-05T12:00", [("2026-06-06 04:00", "2026-06-08 04:00")]),
        ({6}, 60, 240, BERLIN, "2026-03-28T12:00", [("2026-03-29 00:00", "2026-03-29 02:00")]),
        ({6}, 150, 300, BERLIN, "2026-03-28T12:00", [("2026-03-29 01:00", "2026-03-29 03:00")]),
        ({6}, 60, 240, BERLIN, "2026-10-24T12:00", [("2026-10-24 23:00", "2026-10-25 03:00")]),
        ({6}, 60, 120, LORD_HOWE, "2026-04-04T06:00", [("2026-04-04 14:00", "2026-04-04 15:30")]),
    ],
    ids=[
        "friday night into saturday",
        "office hours",
        "a weekend is one span",
        "an hour shorter in spring",
        "begins in the skipped hour",
        "an hour longer in autumn",
        "half an hour longer on Lord Howe",
    ],
)
def test_hours(days, begin, end, zone, at, found):
    assert spans(frozenset(days), begin, end, zone, at)[:1] == found


@pytest.mark.parametrize(
    ("at", "inside", "changes"),
    [
        ("2026-06-05T19:59:59", False, "2026-06-05 20:00"),
        ("2026-06-05T20:00", True, "2026-06-06 04:00"),
        ("2026-06-06T03:59:59", True, "2026-06-06 04:00"),
        ("2026-06-06T04:00", False, "2026-06-12 20:00"),
    ],
)
def test_the_end_is_excluded_and_each_end_is_a_deadline(at, inside, changes):
    friday_night = During(frozenset({4}), 1320, 1800, BERLIN)
    found = within(calendar_of(friday_night, at), friday_night, utc(at))
    assert (found[0], in_utc(found[1])) == (inside, changes)


def test_every_day_all_day_never_ends_at_midnight():
    always = During(EVERY_DAY, 0, 1440, BERLIN)
    made = calendar_of(always, "2026-06-05T12:00")
    assert len(made.spans[always]) == 1
    assert within(made, always, utc("2026-06-05T12:00")) == (True, None), "no end is known of"


# --- how far it reaches ------------------------------------------------------------------------------


def test_eight_days_ahead_and_within_behind():
    cron = CronDue("0 12 * * *", "UTC", 7200.0)
    made = calendar_of(cron, "2026-06-05T12:30")
    assert in_utc(made.until_wall_s) == "2026-06-13 12:30"
    assert [in_utc(m) for m in made.moments[cron]][-1] == "2026-06-13 12:00"
    assert in_utc(last_moment(made, cron, utc("2026-06-05T12:30"))[0]) == "2026-06-05 12:00"
    assert last_moment(made, cron, utc("2026-06-14T00:00")) is None, "nothing is known of later moments"


def test_a_cron_of_every_minute_reaches_less_far_and_says_so():
    cron = CronDue("* * * * *", "UTC", 600.0)
    made = calendar_of(cron, "2026-06-05T12:30")
    ahead = [m for m in made.moments[cron] if m > utc("2026-06-05T12:30")]
    assert len(ahead) == MOMENTS_LIMIT
    assert made.until_wall_s == ahead[-1]


def test_without_rules_on_local_time_the_calendar_is_empty():
    assert work_out([], 1.7e9).spans == {}
    assert within(Calendar(), During(EVERY_DAY, 0, 1440, "UTC"), 1.7e9) is None


async def test_the_ticker_works_out_anew_when_rules_change_and_clocks_jump():
    rule = Rule("x", frozenset(), (CronDue("0 12 * * *", "UTC", 600.0),), WAKE)
    clock = SimpleNamespace(wall_s=utc("2026-06-05T12:30"), waits=0)
    told: list[CalendarExtended] = []
    world = SimpleNamespace(settings=Settings({}, (rule,)))
    seen: list[int] = []

    async def sleep(seconds):
        seen.append(len(told))
        clock.waits += 1
        if clock.waits == 2:
            world.settings = Settings({}, (rule, rule))
        elif clock.waits == 3:
            clock.wall_s -= 7 * 86_400.0
        elif clock.waits == 4:
            clock.wall_s += 12 * 86_400.0
        elif clock.waits == 5:
            raise asyncio.CancelledError

    made = SimpleNamespace(now=lambda: Now(0.0, clock.wall_s), sleep=sleep)
    sink = SimpleNamespace(world=world, submit=told.append)
    with pytest.raises(asyncio.CancelledError):
        await Ticker(sink, made).run()
    assert seen == [1, 1, 2, 3, 4]
