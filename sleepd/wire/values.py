"""How single values look on the wire."""

from datetime import UTC, datetime

from sleepd.core.units import Seconds, WallS


def format_time(wall_s: WallS) -> str:
    """Return the moment as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rounded(seconds: Seconds | None) -> float | None:
    """Return whole milliseconds, in seconds; None stays None."""
    return None if seconds is None else round(seconds, 3)
