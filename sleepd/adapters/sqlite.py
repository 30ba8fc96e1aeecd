"""What the databases share: transactions, migrations, and what an error of SQLite means."""

import errno
import sqlite3
from collections.abc import Sequence


class transaction:  # noqa: N801 - reads as a statement
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK where anything raised."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def read_version(db: sqlite3.Connection) -> int:
    """Return how many migrations the file has had; 0 for a new one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Apply the migrations that the file has not had yet, each in a transaction of its own."""
    for version in range(read_version(db), len(migrations)):
        with transaction(db):
            for statement in migrations[version]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={version + 1}")


def is_full(error: Exception) -> bool:
    """Whether the disk, or what its user may have of it, is full."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or "full" in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_damaged(error: Exception) -> bool:
    """SQLITE_CORRUPT and SQLITE_NOTADB: what lies there is no database any more, or none at all."""
    code = getattr(error, "sqlite_errorcode", None)
    damaged = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(error, sqlite3.DatabaseError) and (
        (code is not None and code & 0xFF in damaged) or "malformed" in str(error)
    )


def in_short(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
