"""The tables of the history database, and how rows get into them.

Names of models, GPUs and causes are numbers here: a name a row would be most of the file. Moments are whole
milliseconds, minutes and hours the seconds at which they begin.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from sleepd.history.rows import DAY_S, Batch, Counts, Interval, Kept, Key, Spent, Transition, day_of, hour_of

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
        "CREATE TABLE known (id INTEGER PRIMARY KEY CHECK (id = 1), until_ms INTEGER NOT NULL) STRICT",
        "CREATE TABLE intervals (model INTEGER NOT NULL, since_ms INTEGER NOT NULL, until_ms INTEGER,"
        " state TEXT NOT NULL, level INTEGER, weights TEXT NOT NULL, by INTEGER NOT NULL, who INTEGER NOT NULL,"
        " task INTEGER, freed_bytes INTEGER, PRIMARY KEY (model, since_ms)) STRICT, WITHOUT ROWID",
        "CREATE INDEX intervals_since ON intervals (since_ms, model)",
        "CREATE INDEX intervals_until ON intervals (until_ms)",
        "CREATE TABLE transitions (began_ms INTEGER NOT NULL, model INTEGER NOT NULL, task INTEGER NOT NULL,"
        " kind TEXT NOT NULL, level INTEGER NOT NULL, by INTEGER NOT NULL, who INTEGER NOT NULL,"
        " ended_ms INTEGER NOT NULL, result TEXT NOT NULL, outcome TEXT NOT NULL, victims TEXT NOT NULL,"
        " served INTEGER NOT NULL, longest_wait_ms INTEGER, PRIMARY KEY (began_ms, model, task))"
        " STRICT, WITHOUT ROWID",
        "CREATE INDEX transitions_model ON transitions (model, began_ms)",
        "CREATE TABLE minutes (minute INTEGER NOT NULL, model INTEGER NOT NULL, requests INTEGER NOT NULL,"
        " finished INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
        " PRIMARY KEY (minute, model)) STRICT, WITHOUT ROWID",
        "CREATE TABLE hours (hour INTEGER NOT NULL, model INTEGER NOT NULL, requests INTEGER NOT NULL,"
        " finished INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
        " PRIMARY KEY (model, hour)) STRICT, WITHOUT ROWID",
        "CREATE TABLE spent (hour INTEGER NOT NULL, model INTEGER NOT NULL, by INTEGER NOT NULL,"
        " awake_s REAL NOT NULL, asleep_s REAL NOT NULL, other_s REAL NOT NULL, unmeasured_s REAL NOT NULL,"
        " given_back REAL NOT NULL, wakes INTEGER NOT NULL, failures INTEGER NOT NULL, refused INTEGER NOT NULL,"
        " energy_j REAL, PRIMARY KEY (model, hour, by)) STRICT, WITHOUT ROWID",
        "CREATE TABLE waits (hour INTEGER NOT NULL, model INTEGER NOT NULL, by INTEGER NOT NULL, end TEXT NOT NULL,"
        " bucket INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (model, hour, by, end, bucket))"
        " STRICT, WITHOUT ROWID",
        "CREATE TABLE vram (minute INTEGER NOT NULL, gpu INTEGER NOT NULL, model INTEGER NOT NULL,"
        " bytes INTEGER NOT NULL, PRIMARY KEY (minute, gpu, model)) STRICT, WITHOUT ROWID",
        "CREATE TABLE energy (hour INTEGER NOT NULL, gpu INTEGER NOT NULL, joules REAL NOT NULL,"
        " PRIMARY KEY (hour, gpu)) STRICT, WITHOUT ROWID",
    ),
    (
        "CREATE TABLE spent_days (day INTEGER NOT NULL, model INTEGER NOT NULL, by INTEGER NOT NULL,"
        " awake_s REAL NOT NULL, asleep_s REAL NOT NULL, other_s REAL NOT NULL, unmeasured_s REAL NOT NULL,"
        " given_back REAL NOT NULL, wakes INTEGER NOT NULL, failures INTEGER NOT NULL, refused INTEGER NOT NULL,"
        " energy_j REAL, PRIMARY KEY (model, day, by)) STRICT, WITHOUT ROWID",
        "CREATE TABLE waits_days (day INTEGER NOT NULL, model INTEGER NOT NULL, by INTEGER NOT NULL, end TEXT NOT NULL,"
        " bucket INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (model, day, by, end, bucket))"
        " STRICT, WITHOUT ROWID",
        "INSERT INTO spent_days SELECT hour - hour % 86400, model, by, sum(awake_s), sum(asleep_s), sum(other_s),"
        " sum(unmeasured_s), sum(given_back), sum(wakes), sum(failures), sum(refused), sum(energy_j) FROM spent"
        " GROUP BY 1, 2, 3",
        "INSERT INTO waits_days SELECT hour - hour % 86400, model, by, end, bucket, sum(count) FROM waits"
        " GROUP BY 1, 2, 3, 4, 5",
    ),
)
"""One tuple of statements per schema version, never changed once released."""

SCHEMA = len(MIGRATIONS)

_WHOLE_DAYS = f" - :before % {DAY_S}"

RETENTION = (
    "DELETE FROM intervals WHERE (model, since_ms) IN"
    " (SELECT model, since_ms FROM intervals WHERE until_ms < :before * 1000 LIMIT :rows)",
    "DELETE FROM transitions WHERE (began_ms, model, task) IN"
    " (SELECT began_ms, model, task FROM transitions WHERE began_ms < :before * 1000 LIMIT :rows)",
    *(
        f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {first} < :before{whole} LIMIT :rows)"  # noqa: S608 - names of ours
        for table, first, key, whole in (
            ("minutes", "minute", "minute, model", ""),
            ("vram", "minute", "minute, gpu, model", ""),
            ("hours", "hour", "model, hour", _WHOLE_DAYS),
            ("spent_days", "day", "model, day, by", _WHOLE_DAYS),
            ("spent", "hour", "model, hour, by", _WHOLE_DAYS),
            ("waits_days", "day", "model, day, by, end, bucket", _WHOLE_DAYS),
            ("waits", "hour", "model, hour, by, end, bucket", _WHOLE_DAYS),
            ("energy", "hour", "hour, gpu", _WHOLE_DAYS),
        )
    ),
)
"""Each deletes at most :rows of what ended before :before; of what is added up, whole days, so that a day's sum is that
of its hours."""

_NAMED = (
    *(("intervals", column) for column in ("model", "by", "who")),
    *(("transitions", column) for column in ("model", "by", "who")),
    *((table, column) for table in ("spent", "waits") for column in ("model", "by")),
    *(("hours", "model"), ("vram", "gpu"), ("vram", "model"), ("energy", "gpu")),
)
_IN_USE = " UNION ".join(f"SELECT {column} FROM {table}" for table, column in _NAMED)  # noqa: S608 - names of ours
FORGET_NAMES = f"DELETE FROM names WHERE id NOT IN ({_IN_USE})"  # noqa: S608 - names of ours
"""Names that nothing on record goes by any more. Reads all tables but the minutes, which have an hour each."""

INTERVAL = "m.name, state, level, weights, since_ms, until_ms, b.name, w.name, task, freed_bytes"
"""The columns of `interval_of`, where m, b and w are the names of the model, of `by` and of `who`."""
COUNT_LIMIT = 1 << 40
"""More than any server does in a minute: a counter that leaps must not keep others from being written."""
_COUNTS = (
    "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,"
    " finished = finished + excluded.finished, prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
    " output_tokens = output_tokens + excluded.output_tokens"
)
_SPENT = (
    "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " awake_s = awake_s + excluded.awake_s, asleep_s = asleep_s + excluded.asleep_s,"
    " other_s = other_s + excluded.other_s, unmeasured_s = unmeasured_s + excluded.unmeasured_s,"
    " given_back = given_back + excluded.given_back, wakes = wakes + excluded.wakes,"
    " failures = failures + excluded.failures, refused = refused + excluded.refused,"
    " energy_j = CASE WHEN excluded.energy_j IS NULL THEN energy_j"
    " ELSE coalesce(energy_j, 0.0) + excluded.energy_j END"
)
_WAITS = "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
_ENERGY = "INSERT INTO energy VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET joules = joules + excluded.joules"


class Writer:
    """Writes batches within somebody's transaction, and remembers which number each name has."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[str, int] = {name: id_ for id_, name in db.execute("SELECT id, name FROM names")}

    def write(self, batch: Batch) -> None:
        db = self._db
        for interval in batch.intervals:
            self._interval(interval)
        db.executemany(
            "INSERT OR REPLACE INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [self._transition(each) for each in batch.transitions.values()],
        )
        hours: dict[tuple[int, str], Counts] = {}
        for (minute, model), counts in batch.minutes.items():
            hours.setdefault((hour_of(minute), model), Counts()).add(counts)
        for table, rows in (("minutes", batch.minutes), ("hours", hours)):
            db.executemany(_COUNTS.format(table), [self._counts(*key, counts) for key, counts in rows.items()])
        self._sums(batch)
        db.executemany(
            "INSERT OR REPLACE INTO vram VALUES (?, ?, ?, ?)",
            [(minute, self._id(gpu), self._id(model), held) for (minute, gpu, model), held in batch.vram.items()],
        )
        db.executemany(_ENERGY, [(hour, self._id(gpu), j) for (hour, gpu), j in batch.energy_j.items()])
        db.execute("INSERT OR REPLACE INTO known VALUES (1, ?)", (_ms(batch.wall_s),))

    def _sums(self, batch: Batch) -> None:
        """What is added up, by the hour and by the day: a report of a month reads thirty rows instead of 720."""
        spent_days: dict[Key, Spent] = {}
        for (hour, model, by), spent in batch.spent.items():
            spent_days.setdefault((day_of(hour), model, by), Spent()).add(spent)
        for table, rows in (("spent", batch.spent), ("spent_days", spent_days)):
            self._db.executemany(
                _SPENT.format(table),
                [
                    (
                        *(at, self._id(model), self._id(by), s.awake_s, s.asleep_s, s.other_s, s.unmeasured_s),
                        *(s.given_back, s.wakes, s.failures, s.refused, s.energy_j),
                    )
                    for (at, model, by), s in rows.items()
                ],
            )
        waits = [(hour, self._id(m), self._id(by), end, b, n) for (hour, m, by, end, b), n in batch.waits.items()]
        self._db.executemany(_WAITS.format("waits"), waits)
        self._db.executemany(_WAITS.format("waits_days"), [(day_of(hour), *rest) for hour, *rest in waits])

    def _interval(self, each: Interval) -> None:
        key = (self._id(each.model), _ms(each.since_wall_s))
        if each.until_wall_s is not None and each.until_wall_s <= each.since_wall_s:
            self._db.execute("DELETE FROM intervals WHERE model = ? AND since_ms = ?", key)
            return
        until_ms = None if each.until_wall_s is None else _ms(each.until_wall_s)
        self._db.execute(
            "INSERT OR REPLACE INTO intervals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*key, until_ms, each.state, each.level, each.weights),
                *(self._id(each.by), self._id(each.who), each.task, each.freed_bytes),
            ),
        )

    def _transition(self, each: Transition) -> Sequence[object]:
        longest_ms = None if each.longest_wait_s is None else _ms(each.longest_wait_s)
        return (
            *(_ms(each.began_wall_s), self._id(each.model), each.task, each.kind, each.level),
            *(self._id(each.by), self._id(each.who), _ms(each.ended_wall_s), each.result, _text(each.outcome)),
            *(" ".join(each.victims), each.served, longest_ms),
        )

    def _counts(self, moment: int, model: str, counts: Counts) -> Sequence[int]:
        found = (counts.requests, counts.finished, counts.prompt_tokens, counts.output_tokens)
        return (moment, self._id(model), *(min(number, COUNT_LIMIT) for number in found))

    def _id(self, name: str) -> int:
        name = _text(name)
        found = self._ids.get(name)
        if found is None:
            found = self._db.execute("INSERT INTO names (name) VALUES (?)", (name,)).lastrowid
            assert found is not None
            self._ids[name] = found
        return found


def read_kept(db: sqlite3.Connection) -> Kept:
    """Close what a daemon that was killed left open, at the last moment it is known of, and return each model's last
    interval."""
    known = db.execute("SELECT until_ms FROM known").fetchone()
    if known is not None:
        db.execute("UPDATE intervals SET until_ms = max(since_ms + 1, ?) WHERE until_ms IS NULL", known)
    rows = db.execute(
        f"SELECT {INTERVAL} FROM (SELECT model AS of, max(since_ms) AS last FROM intervals GROUP BY model)"  # noqa: S608 - all ours
        " JOIN intervals ON model = of AND since_ms = last"
        " JOIN names m ON m.id = model JOIN names b ON b.id = by JOIN names w ON w.id = who"
    )
    return Kept({row[0]: interval_of(row) for row in rows})


def interval_of(row: Sequence[Any]) -> Interval:
    """Return the interval of a row of `INTERVAL`."""
    name, state, level, weights, since, until, by, who, task, freed = row
    return Interval(name, state, level, weights, since / 1000, until and until / 1000, by, who, task, freed)


def _text(written: str) -> str:
    """Half a surrogate pair, as a server's answer may hold, is no text to SQLite."""
    return written.encode("utf-8", "replace").decode()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
