"""The history database as somebody else than the daemon reads it: beside the daemon, and without writing."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sleepd.adapters.history_queries import MINUTES
from sleepd.adapters.history_sql import MIGRATIONS
from sleepd.adapters.sqlite import in_short, read_version
from sleepd.history.found import HistoryUnreadable, MinuteRow
from sleepd.history.rows import Counts

BUSY_S = 5.0
_ALL = (0, -1, 1 << 62, -1)


def read_minutes(path: Path) -> tuple[MinuteRow, ...]:
    """Return every minute of every model in which requests came or ended, in order. Raises HistoryUnreadable."""
    if not path.is_file():
        raise HistoryUnreadable(f"{path}: wanted sleepd's history database, found none; --history names another")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", BUSY_S, uri=True)) as db:
            version, known = read_version(db), len(MIGRATIONS)
            if not 1 <= version <= known:
                found = f"one of version {version}, which sleepd with version {known} does not read"
                raise HistoryUnreadable(f"{path}: wanted sleepd's history database, found {found}")
            rows = db.execute(MINUTES.format(also=""), _ALL)
            return tuple(MinuteRow(row[0], row[1], Counts(*row[2:6])) for row in rows)
    except sqlite3.Error as error:
        found = in_short(error)
        raise HistoryUnreadable(f"{path}: wanted a history database that can be read, found: {found}") from None
