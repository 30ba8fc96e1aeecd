"""The history database: SQLite on a thread of its own, WAL with synchronous=NORMAL, one batch one transaction.

What was written survives the daemon; after a power loss the last moments may be missing, which is nothing that anybody
acts on. A full disk loses rows, a file that is damaged is set aside: neither is the daemon's end.
Source: sqlite.org/pragma.html#pragma_synchronous, #pragma_auto_vacuum, #pragma_incremental_vacuum.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sleepd.adapters.history_sql import FORGET_NAMES, MIGRATIONS, RETENTION, SCHEMA, Writer, read_kept
from sleepd.adapters.sqlite import in_short, is_damaged, migrate, read_version, transaction
from sleepd.adapters.threads import WorkThread
from sleepd.core.units import Seconds, WallS
from sleepd.history.found import HistoryUnreadable
from sleepd.history.rows import Batch, Kept

CLOSE_S = 5.0
BUSY_S = 2.0
CHUNK_ROWS = 5_000
"""Rows that one step of the retention deletes, so that no query waits for long."""
VACUUM_PAGES = 500

T = TypeVar("T")


class HistoryDatabase:
    """One file. Every failure is HistoryUnreadable with the file's name; a damaged file was set aside by then."""

    def __init__(self, path: Path, wall: Callable[[], WallS] = time.time) -> None:
        self._path, self._wall = path, wall
        self._thread = WorkThread("history")
        self._db: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._refused = ""
        self.set_aside = ""
        """What became of a damaged file, as a sentence; empty where there was none."""

    async def open(self) -> Kept:
        """Open the file, bring it up to date, close what a killed daemon left open. Raises HistoryUnreadable."""
        return await self._run(self._open)

    async def write(self, batch: Batch) -> None:
        """Add the batch to what is on record, or lose it and raise HistoryUnreadable."""
        await self._run(lambda: self._guard(lambda db: self._write(db, batch)))

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer to a question that only reads. Raises HistoryUnreadable."""
        return await self._run(lambda: self._guard(question))

    async def forget(self, keep_s: Seconds) -> int:
        """Delete what ended more than `keep_s` ago, a step of it; return how many rows went. 0: nothing is left."""
        return await self._run(lambda: self._guard(lambda db: self._forget(db, self._wall() - keep_s)))

    async def forget_names(self) -> int:
        """Delete names that nothing on record goes by, which reads all of it; return how many went."""
        return await self._run(lambda: self._guard(self._forget_names))

    async def close(self) -> None:
        """Close the file after the work that is under way. A disk that hangs is left behind after `CLOSE_S`."""
        with contextlib.suppress(TimeoutError, HistoryUnreadable):
            async with asyncio.timeout(CLOSE_S):
                await self._run(self._close)
        self._thread.end()

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._thread.do(work)

    # in the thread

    def _open(self) -> Kept:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                self._set_aside(error)
                return self._connect()
        except (sqlite3.Error, OSError) as error:
            self._refused = f"{self._path}: wanted a writable history database, found: {in_short(error)}"
            raise HistoryUnreadable(f"{self._refused}; check the disk and permissions of [daemon] state_dir") from error

    def _connect(self) -> Kept:
        """Open the file whole, or not at all: the next one who needs it tries again."""
        self._refused = ""
        try:
            return self._prepare()
        except BaseException:
            self._close()
            raise

    def _prepare(self) -> Kept:
        db = self._db = sqlite3.connect(self._path, BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # counts for a new file only
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        self._migrate(db)
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        self._writer = Writer(db)
        with transaction(db):
            return read_kept(db)

    def _migrate(self, db: sqlite3.Connection) -> None:
        found = read_version(db)
        if found > SCHEMA:
            self._refused = (
                f"{self._path}: wanted a history of version {SCHEMA} or older, found version {found}, written by a"
                " newer sleepd; start that one, or move the file away to begin a new history"
            )
            raise HistoryUnreadable(self._refused)
        migrate(db, MIGRATIONS)

    def _set_aside(self, error: Exception) -> None:
        """Move the damaged file out of the way; it is nobody's but its reader's any more."""
        self._close()
        aside = self._path.with_name(f"{self._path.name}.damaged-{int(self._wall())}")
        self._path.replace(aside)
        for tail in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(self._path.name + tail).unlink()
        self.set_aside = (
            f"{self._path} is damaged ({in_short(error)}): it was set aside as {aside.name}, a new one begins"
        )

    def _guard(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work; where the file turns out to be damaged it is set aside, and where it was full it is told."""
        if self._refused:
            raise HistoryUnreadable(self._refused)
        try:
            if self._db is None:
                self._connect()
            assert self._db is not None
            return work(self._db)
        except (sqlite3.Error, OSError) as error:
            if is_damaged(error):
                with contextlib.suppress(sqlite3.Error, OSError):
                    self._set_aside(error)
                    self._connect()
            raise HistoryUnreadable(f"{self._path}: {in_short(error)}") from error

    def _write(self, db: sqlite3.Connection, batch: Batch) -> None:
        assert self._writer is not None
        try:
            with transaction(db):
                self._writer.write(batch)
        except BaseException as error:
            self._writer = Writer(db)  # names that were given numbers have none any more
            if isinstance(error, OverflowError | ValueError):  # a value that no column holds
                raise sqlite3.DataError(in_short(error)) from error
            raise

    def _forget(self, db: sqlite3.Connection, before_wall_s: WallS) -> int:
        gone = 0
        for statement in RETENTION:
            with transaction(db):
                gone += db.execute(statement, {"before": before_wall_s, "rows": CHUNK_ROWS}).rowcount
        if gone:
            # A step frees one page, and execute() takes no second one of a statement without columns.
            db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        return gone

    def _forget_names(self, db: sqlite3.Connection) -> int:
        with transaction(db):
            gone = db.execute(FORGET_NAMES).rowcount
        self._writer = Writer(db)  # what it knows the numbers of may be gone
        return gone

    def _close(self) -> None:
        self._writer = None
        if self._db is not None:
            self._db.close()
            self._db = None
