"""The state database: intents, results, beliefs. SQLite on a thread of its own, one batch one transaction.

WAL with synchronous=FULL: what was committed survives power loss, because a step may only be sent after its record.
Source: sqlite.org/pragma.html#pragma_synchronous.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sleepd.adapters.sqlite import in_short, is_full, migrate, read_version, transaction
from sleepd.adapters.threads import WorkThread
from sleepd.core.records import (
    EngineProven,
    ModelSaved,
    Record,
    ReservationDropped,
    ReservationSaved,
    RuleSaved,
    Saved,
    TaskEnded,
    TaskSaved,
)
from sleepd.core.reservation import Reservation
from sleepd.core.task import Task
from sleepd.core.world import TASKS_KEPT
from sleepd.ports import StoreFailed

DATABASE = "state.db"
"""Its name in [daemon] state_dir."""
JOURNAL_ROWS = 50_000
CLOSE_S = 5.0
BALLAST_BYTES = 4 << 20
"""Freed when the disk is full, so that sleepers can still be woken on record."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE models (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT",
        "CREATE TABLE tasks (id INTEGER PRIMARY KEY, model TEXT NOT NULL, body TEXT NOT NULL) STRICT",
        "CREATE TABLE journal (n INTEGER PRIMARY KEY, wall_s REAL NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL)"
        " STRICT",
        "CREATE TABLE proven (key TEXT PRIMARY KEY, wall_s REAL NOT NULL) STRICT",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    ),
    (
        "CREATE TABLE rules (rule TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (rule, model))"
        " STRICT",
    ),
    ("CREATE TABLE reservations (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT",),
)
"""One tuple of statements per schema version, never changed once released."""

SCHEMA = len(_MIGRATIONS)

_MODEL = TypeAdapter(ModelSaved)
_RULE = TypeAdapter(RuleSaved)
_RESERVATION = TypeAdapter(Reservation)
_TASK = TypeAdapter(Task)
_ENDED = TypeAdapter(TaskEnded)


class SqliteStore:
    """One file. `load` before anything else; every failure is StoreFailed with the file's name and what to do."""

    def __init__(self, path: Path) -> None:
        self._path, self._ballast = path, path.with_name("ballast")
        self._thread = WorkThread("store")
        self._db: sqlite3.Connection | None = None

    async def load(self) -> Saved:
        """Open the file, migrate it, and return everything in it. Raises StoreFailed."""
        saved: Saved = await self._run(self._load)
        return saved

    async def commit(self, records: Sequence[Record]) -> None:
        """Make all records durable, or none and raise StoreFailed."""
        await self._run(self._commit, records)

    async def close(self) -> None:
        """Close the file after the work that is under way. A disk that hangs is left behind after `CLOSE_S`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._run(self._close)
        self._thread.end()

    async def _run(self, work: Any, *args: Any) -> Any:
        return await self._thread.do(partial(work, *args))

    # in the thread

    def _load(self) -> Saved:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate(self._db)
            self._keep_ballast()
            return self._read(self._db)
        except (sqlite3.Error, OSError, ValidationError) as error:
            raise StoreFailed(
                f"{self._path}: wanted a readable sleepd state database, found: {in_short(error)}; check the disk and"
                " permissions, or move the file away to start anew (servers are then looked at afresh)"
            ) from error

    def _migrate(self, db: sqlite3.Connection) -> None:
        found = read_version(db)
        if found > SCHEMA:
            raise StoreFailed(
                f"{self._path}: wanted a state database of version {SCHEMA} or older, found version {found}, written by"
                " a newer sleepd; start that one, or move the file away to start anew"
            )
        migrate(db, _MIGRATIONS)

    def _read(self, db: sqlite3.Connection) -> Saved:
        models = {name: _MODEL.validate_json(body) for name, body in db.execute("SELECT name, body FROM models")}
        tasks = {model: _TASK.validate_json(body) for model, body in db.execute("SELECT model, body FROM tasks")}
        proven = frozenset(key for (key,) in db.execute("SELECT key FROM proven"))
        counter = db.execute("SELECT value FROM counters WHERE name = 'task'").fetchone()
        newest = db.execute("SELECT body FROM journal ORDER BY n DESC LIMIT ?", (TASKS_KEPT,))
        ended = tuple(_ENDED.validate_json(body) for (body,) in newest)[::-1]
        rules = {(rule, model): _RULE.validate_json(body) for rule, model, body in db.execute("SELECT * FROM rules")}
        reserved = db.execute("SELECT id, body FROM reservations")
        reservations = {id_: _RESERVATION.validate_json(body) for id_, body in reserved}
        return Saved(models, tasks, proven, int(counter[0]) + 1 if counter else 1, ended, rules, reservations)

    def _commit(self, records: Sequence[Record]) -> None:
        if self._db is None:
            raise StoreFailed(f"{self._path}: the state database is closed")
        try:
            self._write(self._db, records)
            return
        except (sqlite3.Error, OSError) as error:
            if not is_full(error) or not self._ballast.exists():
                raise StoreFailed(f"{self._path}: could not be written: {in_short(error)}; nothing was done") from error
        # The disk is full: the ballast goes, and what is under way can still be recorded.
        with contextlib.suppress(OSError):
            self._ballast.unlink()
        try:
            self._write(self._db, records)
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(f"{self._path}: the disk is full: {in_short(error)}; nothing was done") from error

    def _write(self, db: sqlite3.Connection, records: Sequence[Record]) -> None:
        with transaction(db):
            for record in records:
                _write_record(db, record)

    def _keep_ballast(self) -> None:
        with contextlib.suppress(OSError):
            if not self._ballast.exists():
                self._ballast.write_bytes(b"\0" * BALLAST_BYTES)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _write_record(db: sqlite3.Connection, record: Record) -> None:
    if isinstance(record, ModelSaved):
        db.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (record.name, _MODEL.dump_json(record).decode()))
    elif isinstance(record, TaskSaved):
        task = record.task
        db.execute(
            "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", (task.id, task.model, _TASK.dump_json(task).decode())
        )
        db.execute(
            "INSERT INTO counters VALUES ('task', ?) ON CONFLICT DO UPDATE SET value = max(value, ?)", (task.id,) * 2
        )
    elif isinstance(record, TaskEnded):
        task, body = record.task, _ENDED.dump_json(record).decode()
        db.execute("DELETE FROM tasks WHERE id = ?", (task.id,))
        db.execute("INSERT INTO journal (wall_s, model, body) VALUES (?, ?, ?)", (record.wall_s, task.model, body))
        db.execute("DELETE FROM journal WHERE n <= (SELECT max(n) FROM journal) - ?", (JOURNAL_ROWS,))
        db.execute(
            "INSERT INTO counters VALUES ('task', ?) ON CONFLICT DO UPDATE SET value = max(value, ?)", (task.id,) * 2
        )
    elif isinstance(record, RuleSaved):
        body = _RULE.dump_json(record).decode()
        db.execute("INSERT OR REPLACE INTO rules VALUES (?, ?, ?)", (record.rule, record.model, body))
    elif isinstance(record, EngineProven):
        db.execute("INSERT OR REPLACE INTO proven VALUES (?, ?)", (record.key, record.wall_s))
    elif isinstance(record, ReservationSaved):
        body = _RESERVATION.dump_json(record.reservation).decode()
        db.execute("INSERT OR REPLACE INTO reservations VALUES (?, ?)", (record.reservation.id, body))
    elif isinstance(record, ReservationDropped):
        db.execute("DELETE FROM reservations WHERE id = ?", (record.id,))
