"""Weekdays, hours, cron expressions and time zones as they are written."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.calendars import (
    WEEKDAYS,
    CalendarError,
    check_cron,
    make_trigger,
    parse_between,
    parse_days,
    parse_timezone,
)

BOUNDED = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sat,sun", {5, 6}),
        ("Mon, wed - thu", {0, 2, 3}),
        ("fri-mon", {4, 5, 6, 0}),
        ("sun", {6}),
    ],
)
def test_days_by_name(text: str, wanted: set[int]) -> None:
    assert parse_days(text) == wanted


@pytest.mark.parametrize("text", ["", "1-5", "mon-", "-fri", "monday", "mon;tue", "mon,,tue", "*"])
def test_no_days(text: str) -> None:
    with pytest.raises(CalendarError, match="wanted weekdays by name"):
        parse_days(text)


@BOUNDED
@given(st.sets(st.integers(0, 6), min_size=1))
def test_days_are_read_back(days: set[int]) -> None:
    assert parse_days(",".join(WEEKDAYS[day] for day in days)) == days


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("08:00-18:00", (480, 1080)),
        ("8:05 - 9:00", (485, 540)),
        ("22:00-06:00", (1320, 1800)),
        ("00:00-24:00", (0, 1440)),
        ("23:59-00:00", (1439, 1440)),
    ],
)
def test_hours(text: str, wanted: tuple[int, int]) -> None:
    assert parse_between(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "8-18", "24:00-01:00", "08:60-09:00", "08:00", "08:00-18:00-20:00", "07:00-07:00"]
)
def test_no_hours(text: str) -> None:
    with pytest.raises(CalendarError, match="wanted hours"):
        parse_between(text)


@pytest.mark.parametrize(
    "text",
    ["55 7 * * mon-fri", "*/5 * * * *", "0 0 29 feb *", "0 8-18/2 1,15 jan-mar sat", "0 0 last * *", "0 7 * * SUN-MON"],
)
def test_cron_expressions_that_come(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "wanted five fields"),
        ("0 7 * *", "wanted five fields"),
        ("0 7 * * * *", "wanted five fields"),
        ("@daily", "wanted five fields"),
        ("0 7 * * 1-5", "names only"),
        ("0 7 * * */2", "names only"),
        ("60 7 * * *", "higher than the maximum value"),
        ("x 7 * * *", "wanted the minute"),
        ("0 7 0 * *", "lower than the minimum value"),
        ("0 7 * foo *", "wanted the month"),
        ("0 7 * jan/2 *", "wanted the month"),
        ("0 0 31 apr,jun *", "no year has"),
        ("0 0 1-5/9 * *", "step value"),
    ],
)
def test_cron_expressions_that_do_not(text: str, told: str) -> None:
    with pytest.raises(CalendarError, match=told):
        check_cron(text)


@BOUNDED
@given(st.text(alphabet="0159*/-, monfriJL?#@", max_size=18))
def test_any_text_is_a_cron_expression_or_a_clean_error(text: str) -> None:
    try:
        check_cron(text)
    except CalendarError:
        return
    assert make_trigger(text, UTC).get_next_fire_time(None, datetime(2026, 1, 1, tzinfo=UTC)) is not None


def test_weekday_ranges_that_pass_the_end_of_the_week() -> None:
    trigger = make_trigger("0 7 * * sun-mon", UTC)
    first = trigger.get_next_fire_time(None, datetime(2026, 11, 24, tzinfo=UTC))  # a Tuesday
    assert first == datetime(2026, 11, 29, 7, tzinfo=UTC)
    assert trigger.get_next_fire_time(first, first) == datetime(2026, 11, 30, 7, tzinfo=UTC)


@pytest.mark.parametrize("name", ["Mars/Base", "Europe", "../etc/passwd", "/etc/passwd", "a\0b", "UTC ", "x" * 300])
def test_no_time_zone(name: str) -> None:
    with pytest.raises(CalendarError, match="wanted a time zone"):
        parse_timezone(name)


def test_time_zones() -> None:
    assert parse_timezone("Europe/Berlin").utcoffset(datetime(2026, 7, 1)) is not None  # noqa: DTZ001
    assert parse_timezone("") is not None
