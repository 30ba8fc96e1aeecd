"""Bytes and seconds: parsing what operators write, printing what they read.

`parse_x(format_x(v)) == v` holds for every value the formatters can express exactly (a property test).
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:  # sleepctl prints sizes and times too, and starts in a moment: typing costs it two milliseconds
    from typing import TypeAlias

Bytes: TypeAlias = int
Seconds: TypeAlias = float
MonotonicS: TypeAlias = float
"""Seconds on the daemon's monotonic clock; comparable only within one daemon process."""
WallS: TypeAlias = float
"""Seconds since the Unix epoch."""

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
HOUR_S: Seconds = 3600.0

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)")
_SIZE_FACTOR = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION_FACTOR = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|min|h|d)")
_RATE_PER_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

SIZE_LIMIT: Bytes = 1 << 63
"""What SQLite, NVML and the kernel count in; nothing larger is meant seriously."""
DURATION_LIMIT_S: Seconds = 36500 * 86400.0


class UnitError(ValueError):
    """The text is no size, duration or share. Its message says what was wanted and what was found."""


def parse_size(text: str) -> Bytes:
    """Return the bytes that text such as "24GiB" or "512MiB" means.

    Raises UnitError. Decimal units (GB) are refused, as they are mostly a mistake for binary ones.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UnitError(f'wanted a size such as "24GiB" or "512MiB", found {text!r}')
    from decimal import Decimal  # here, because who only prints sizes need not wait for it

    value = round(Decimal(found[1]) * _SIZE_FACTOR[found[2]])
    if value >= SIZE_LIMIT:
        raise UnitError(f"wanted a size below {format_size(SIZE_LIMIT)}, found {text!r}")
    return value


def parse_duration(text: str) -> Seconds:
    """Return the seconds that text such as "90s", "5m" or "1h30m" means. Raises UnitError."""
    stripped = text.strip()
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(stripped):
        if part.start() != end:
            break
        total += float(part[1]) * _DURATION_FACTOR[part[2]]
        end = part.end()
    if not stripped or end != len(stripped):
        raise UnitError(f'wanted a duration such as "90s", "5m" or "1h30m", found {text!r}')
    if total > DURATION_LIMIT_S:
        raise UnitError(f"wanted a duration of at most {format_duration(DURATION_LIMIT_S)}, found {text!r}")
    return total


def parse_share(text: str) -> float:
    """Return the share between 0 and 1 that text such as "10%" means. Raises UnitError."""
    found = _SHARE.fullmatch(text.strip())
    if not found or float(found[1]) > 100:
        raise UnitError(f'wanted a share such as "10%" (0% to 100%), found {text!r}')
    return float(found[1]) / 100


def parse_rate(text: str) -> tuple[float, Seconds]:
    """Return (count, seconds) of text such as "2/min" or "1/h". Raises UnitError."""
    found = _RATE.fullmatch(text.strip())
    if not found:
        raise UnitError(f'wanted a rate such as "2/min" or "1/h", found {text!r}')
    return float(found[1]), _RATE_PER_S[found[2]]


def format_share(value: float) -> str:
    """Return a share for people: "10%", "12.5%"."""
    return f"{value * 100:.4g}%"


def format_size(value: Bytes) -> str:
    """Return a size for people: the largest unit that keeps it at or above 1, one decimal where it is not whole."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(value) >= factor:
            number = f"{value / factor:.1f}"
            return f"{number.removesuffix('.0')}{unit}"
    return f"{value}B"


def format_duration(value: Seconds) -> str:
    """Return a duration for people, in at most two units, rounded to the smaller one: "0.3s", "45s", "4m10s"."""
    if value < 10 and value != int(value):
        return f"{value:.1f}s" if value >= 0.05 else f"{value * 1000:.0f}ms"
    whole = round(value)
    for big, big_s, small, small_s in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= big_s:
            count, rest = divmod(round(whole / small_s), big_s // small_s)
            return f"{count}{big}{rest}{small}" if rest else f"{count}{big}"
    return f"{whole}s"


def format_wall(wall_s: WallS) -> str:
    """Return the moment in UTC, such as "2026-01-31 08:00:05Z".

    By the civil calendar's own arithmetic (Hinnant, "civil_from_days"): a year from March on ends
    with its leap day.
    """
    days, second = divmod(int(wall_s // 1), 86_400)
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    date = (year + era * 400 + (month > 9), month + 3 - 12 * (month > 9), day - (153 * month + 2) // 5 + 1)
    clock = (second // 3600, second % 3600 // 60, second % 60)
    return "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z".format(*date, *clock)
