"""Cron expressions and time zones: read once, checked at load, asked for moments. Never a clock of its own.

The one module that knows APScheduler, whose triggers are used as pure functions of a moment. Weekdays go by name only:
APScheduler counts Monday as 0 where cron counts Sunday. Both the day of the month and the weekday must match.
"""

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from apscheduler.triggers.cron import CronTrigger
from tzlocal import get_localzone

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_NUMBERS = r"(\*|\d{1,2}(-\d{1,2})?)(/\d{1,2})?"
_DAY_OF_MONTH = rf"{_NUMBERS}|last"
_MONTH = rf"{_NUMBERS}|({'|'.join(_MONTHS)})(-({'|'.join(_MONTHS)}))?"
_WEEKDAY = rf"\*|({'|'.join(WEEKDAYS)})(-({'|'.join(WEEKDAYS)}))?"
_FIELDS = (
    ("minute", _NUMBERS),
    ("hour", _NUMBERS),
    ("day of the month", _DAY_OF_MONTH),
    ("month", _MONTH),
    ("weekday", _WEEKDAY),
)
_CYCLE_YEARS = "2024-2051"
"""28 years: every weekday on every date. What never comes in them never comes."""


class CalendarError(ValueError):
    """The text is no cron expression, weekdays, hours or time zone. Its message says what was wanted."""


def make_trigger(cron: str, timezone: tzinfo) -> CronTrigger:
    """Return the trigger; `get_next_fire_time(previous, now)` is its next moment. Raises CalendarError."""
    return _make_trigger(cron, timezone, None)


def check_cron(cron: str) -> None:
    """Raise CalendarError where the text is no five-field expression, or names a moment that never comes."""
    trigger = _make_trigger(cron, UTC, _CYCLE_YEARS)
    if trigger.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise CalendarError("wanted a moment that comes, found a date that no year has")


def _make_trigger(cron: str, timezone: tzinfo, year: str | None) -> CronTrigger:
    written = cron.lower().split()
    if len(written) != len(_FIELDS):
        names = ", ".join(name for name, _ in _FIELDS)
        raise CalendarError(f"wanted five fields ({names}) such as 55 7 * * mon-fri, found {len(written)}")
    for text, (name, pattern) in zip(written, _FIELDS, strict=True):
        if not all(re.fullmatch(pattern, part, re.ASCII) for part in text.split(",")):
            hint = " (names only: programs disagree about which day is 0)" if name == "weekday" else ""
            example = {"weekday": "mon-fri or *", "month": "*, 1-6 or jan"}.get(name, "*, */5, 7 or 8-18")
            raise CalendarError(f"wanted the {name} as {example}{hint}, found {text[:40]}")
    minute, hour, day, month, weekday = written
    if "*" not in weekday:
        weekday = ",".join(WEEKDAYS[day] for day in sorted(parse_days(weekday)))
    try:
        return CronTrigger(
            year=year, minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=timezone
        )
    except ValueError as error:
        told = str(error).removeprefix("Error validating expression ")
        raise CalendarError(f"wanted a cron expression, found {cron[:40]} ({told})") from None


@lru_cache(maxsize=64)
def parse_timezone(name: str) -> tzinfo:
    """Return the zone of the tz database, or the host's own for "". Raises CalendarError. Reads files."""
    if not name:
        return get_localzone()
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):  # not found, no such kind of name, a folder of zones
        raise CalendarError('wanted a time zone such as "Europe/Berlin" or "UTC"') from None


def timezone_names() -> set[str]:
    return available_timezones()


def parse_days(text: str) -> frozenset[int]:
    """Return the weekdays that "mon-fri" or "sat,sun" names; Monday is 0. Raises CalendarError."""
    days: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in WEEKDAYS or (dash and last not in WEEKDAYS):
            raise CalendarError('wanted weekdays by name such as "mon-fri" or "sat,sun"')
        begin = WEEKDAYS.index(first)
        length = (WEEKDAYS.index(last) - begin) % 7 if dash else 0
        days.update((begin + step) % 7 for step in range(length + 1))
    return frozenset(days)


def parse_between(text: str) -> tuple[int, int]:
    """Return (begin, end) of "08:00-18:00" in minutes after midnight. The end is excluded, and passes 1440 where it
    lies on the next day. Raises CalendarError."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*(?:([01]?\d|2[0-3]):([0-5]\d)|24:00)", text, re.ASCII)
    if not found:
        raise CalendarError('wanted hours such as "08:00-18:00" or "22:00-06:00"')
    begin = int(found[1]) * 60 + int(found[2])
    end = 1440 if found[3] is None else int(found[3]) * 60 + int(found[4])
    if begin == end:
        raise CalendarError("wanted hours that end after they begin (leave it out for the whole day)")
    return begin, end if end > begin else end + 1440
