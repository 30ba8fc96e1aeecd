"""What is asked of the history database. Every question reads a range of an index, and an answer has a limit."""

import sqlite3
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from sleepd.adapters.history_sql import INTERVAL, interval_of
from sleepd.history.found import Bucket, MinuteRow, Page, Report, Span, Totals, VramRow, WrongQuestion
from sleepd.history.rows import DAY_S, Counts, Result, Spent, Transition, day_of, hour_of

BUCKETS_LIMIT = 50_000
CURSOR_NUMBERS = 10

Rows = list[tuple[Any, ...]]

_INTERVALS = (
    f"SELECT {INTERVAL}, since_ms, model FROM intervals JOIN names m ON m.id = model JOIN names b ON b.id = by"  # noqa: S608 - all ours
    " JOIN names w ON w.id = who WHERE "
)
RUNNING = _INTERVALS + "model = ? AND since_ms <= ? ORDER BY since_ms DESC LIMIT 1"
STATES = (
    _INTERVALS + "since_ms >= ?1 AND (since_ms, model) > (?1, ?2) AND since_ms < ?3{also}"
    " ORDER BY since_ms, model LIMIT ?4"
)
MINUTES = (
    "SELECT minute, name, requests, finished, prompt_tokens, output_tokens, minute, model FROM minutes"
    " JOIN names ON id = model WHERE minute >= ?1 AND (minute, model) > (?1, ?2) AND minute < ?3{also}"
    " ORDER BY minute, model LIMIT ?4"
)
TRANSITIONS = (
    "SELECT task, m.name, kind, level, b.name, w.name, began_ms, ended_ms, result, outcome, victims, served,"
    " longest_wait_ms, began_ms, model, task FROM transitions JOIN names m ON m.id = model JOIN names b ON b.id = by"
    " JOIN names w ON w.id = who WHERE began_ms >= ?1 AND (began_ms, model, task) > (?1, ?2, ?3)"
    " AND began_ms < ?4{also} ORDER BY began_ms, model, task LIMIT ?5"
)
VRAM = (
    "SELECT minute, g.name, m.name, bytes, minute, gpu, model FROM vram JOIN names g ON g.id = gpu"
    " JOIN names m ON m.id = model WHERE minute >= ?1 AND (minute, gpu, model) > (?1, ?2, ?3) AND minute < ?4{also}"
    " ORDER BY minute, gpu, model LIMIT ?5"
)
NEXT_MODEL = "SELECT min(model) FROM {} WHERE model > ?"
FIRST_HOUR = "SELECT min(hour) FROM spent WHERE model = ?"
HOURS = (
    "SELECT hour - hour % :step AS start, sum(requests), sum(finished), sum(prompt_tokens), sum(output_tokens)"
    " FROM hours WHERE model = :model AND hour >= :from AND hour < :to GROUP BY start"
)
_SUMS = (
    "sum(awake_s), sum(asleep_s), sum(other_s), sum(unmeasured_s), sum(given_back), sum(wakes), sum(failures),"
    " sum(refused), sum(energy_j)"
)
SPENT = (
    f"SELECT hour - hour % :step AS start, {_SUMS} FROM spent"  # noqa: S608 - all ours
    " WHERE model = :model AND hour >= :from AND hour < :to GROUP BY start"
)


def _by_day(table: str, also: str = "") -> str:
    """Rows of one model: whole days as days, what is left at both ends as hours."""
    return (
        f"(SELECT * FROM {table}_days WHERE model = :model{also} AND day >= :first AND day < :last"  # noqa: S608 - all ours
        f" UNION ALL SELECT * FROM {table} WHERE model = :model{also} AND hour >= :from AND hour < :first"
        f" UNION ALL SELECT * FROM {table} WHERE model = :model{also} AND hour >= :last AND hour < :to)"
    )


SPENT_BY = f"SELECT by, {_SUMS} FROM {_by_day('spent')} GROUP BY by"  # noqa: S608 - all ours
_SERVED = _by_day("waits", " AND end = 'served'")
WAITS = f"SELECT by, bucket, sum(count) FROM {_SERVED} GROUP BY by, bucket"  # noqa: S608 - all ours
ENERGY = "SELECT name, sum(joules) FROM energy JOIN names ON id = gpu WHERE hour >= :from AND hour < :to GROUP BY gpu"


def read_page(db: sqlite3.Connection, span: Span, limit: int, after: str = "") -> Page:
    """Return the rows of a span, at most `limit` of each kind, from where another page's `next` left off.

    The first page also has what each model was in when the span began. Raises WrongQuestion for a cursor that is none.
    """
    at = _read_cursor(after)
    ids = _ids(db, span.patterns)
    from_ms, to_ms = round(span.from_wall_s * 1000), round(span.to_wall_s * 1000)
    from_s, to_s = int(span.from_wall_s), int(span.to_wall_s)
    running: Rows = []
    if not after:
        # Not before the epoch: a cursor has digits only, and nothing is on record there.
        minute, began_ms = max(0, from_s - 60), max(0, from_ms - 1)
        at = [from_ms, _LAST, minute, _LAST, began_ms, _LAST, _LAST, minute, _LAST, _LAST]
        models = ids if ids is not None else _all_models(db, "intervals")
        running = [row for id_ in models if (row := db.execute(RUNNING, (id_, from_ms)).fetchone()) is not None]
        running = [row for row in running if row[5] is None or row[5] > from_ms]

    def read(query: str, key: Sequence[int], before: int) -> tuple[Rows, list[int]]:
        # One model has an index of its own; of several the index by time is read through.
        also = "" if ids is None else f" AND +model IN ({','.join(map(str, ids))})"
        if ids is not None and len(ids) == 1:
            also = f" AND model = {ids[0]}"
        rows: Rows = db.execute(query.format(also=also), (*key, before, limit)).fetchall()
        return rows, list(rows[-1][-len(key) :]) if rows else list(key)

    states, at_states = read(STATES, at[0:2], to_ms)
    minutes, at_minutes = read(MINUTES, at[2:4], to_s)
    transitions, at_transitions = read(TRANSITIONS, at[4:7], to_ms)
    vram, at_vram = read(VRAM, at[7:10], to_s)
    more = any(len(rows) == limit for rows in (states, minutes, transitions, vram))
    cursor = (*at_states, *at_minutes, *at_transitions, *at_vram)
    return Page(
        tuple(interval_of(row[:10]) for row in (*sorted(running, key=lambda row: row[4]), *states)),
        tuple(MinuteRow(row[0], row[1], Counts(*row[2:6])) for row in minutes),
        tuple(_transition(row) for row in transitions),
        tuple(VramRow(*row[:4]) for row in vram),
        "-".join(map(str, cursor)) if more else "",
    )


def read_buckets(db: sqlite3.Connection, span: Span, step_s: int) -> tuple[Bucket, ...]:
    """Return what each model did in steps of whole hours. Raises WrongQuestion where that is too many."""
    found: list[Bucket] = []
    for id_, name in models_on_record(db, "spent", span.patterns):
        keys = {"model": id_, "step": step_s, "from": _floor(span.from_wall_s, step_s), "to": span.to_wall_s}
        counts = {start: Counts(*numbers) for start, *numbers in db.execute(HOURS, keys)}
        spent = {start: Spent(*numbers) for start, *numbers in db.execute(SPENT, keys)}
        found += [
            Bucket(start, name, counts.get(start) or Counts(), spent.get(start) or Spent())
            for start in sorted(counts.keys() | spent.keys())
        ]
        if len(found) > BUCKETS_LIMIT:
            raise WrongQuestion(f"wanted at most {BUCKETS_LIMIT} steps of all models, found more: take larger ones")
    return tuple(sorted(found, key=lambda bucket: (bucket.start, bucket.model)))


def read_report(db: sqlite3.Connection, span: Span) -> Report:
    """Return a span added up, by model and by what put models to sleep."""
    names = names_of(db)
    models: dict[str, Totals] = {}
    by: dict[str, Totals] = {}
    from_hour = hour_of(span.from_wall_s)
    first, last = _floor(from_hour + DAY_S - 1, DAY_S), day_of(span.to_wall_s)
    if first >= last:
        first = last = from_hour
    for id_, name in models_on_record(db, "spent", span.patterns):
        keys = {"model": id_, "step": _LAST, "from": from_hour, "to": span.to_wall_s, "first": first, "last": last}
        totals = Totals()
        for _, *numbers in db.execute(HOURS, keys):
            totals.counts.add(Counts(*numbers))
        for whose, *numbers in db.execute(SPENT_BY, keys):
            for to in (totals, by.setdefault(names[whose], Totals())):
                to.spent.add(Spent(*numbers))
        for whose, bucket, count in db.execute(WAITS, keys):
            for to in (totals, by.setdefault(names[whose], Totals())):
                to.waits[bucket] = to.waits.get(bucket, 0) + count
        if totals != Totals():
            models[name] = totals
    by.pop("", None)
    begun = [db.execute(FIRST_HOUR, (id_,)).fetchone()[0] for id_, _ in models_on_record(db, "spent", ())]
    since = min((hour for hour in begun if hour is not None), default=None)
    gpus_j = dict(db.execute(ENERGY, {"from": from_hour, "to": span.to_wall_s}).fetchall())
    return Report(span, since, models, by, gpus_j)


_LAST = 1 << 60
"""Behind every id: what is after (moment, _LAST) begins later."""


def _read_cursor(after: str) -> list[int]:
    parts = after.split("-") if after else []
    if parts and (len(parts) != CURSOR_NUMBERS or not all(p.isascii() and p.isdigit() and len(p) < 20 for p in parts)):
        raise WrongQuestion("wanted the `next` of another answer, found something else")
    return [min(int(part), _LAST) for part in parts]


def _ids(db: sqlite3.Connection, patterns: Sequence[str]) -> list[int] | None:
    """The numbers of the models that fit any pattern, None for all."""
    if not patterns:
        return None
    names = db.execute("SELECT id, name FROM names")
    return [id_ for id_, name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def models_on_record(db: sqlite3.Connection, table: str, patterns: Sequence[str]) -> list[tuple[int, str]]:
    """Return number and name of every model that a table has rows of and that fits, by name."""
    names = names_of(db)
    found = [(id_, names[id_]) for id_ in _all_models(db, table)]
    fits = [each for each in found if not patterns or any(fnmatchcase(each[1], pattern) for pattern in patterns)]
    return sorted(fits, key=lambda each: each[1])


def _all_models(db: sqlite3.Connection, table: str) -> Iterable[int]:
    """Every model on record there, by jumps through its index."""
    found = db.execute(NEXT_MODEL.format(table), (0,)).fetchone()
    while found[0] is not None:
        yield found[0]
        found = db.execute(NEXT_MODEL.format(table), found).fetchone()


def names_of(db: sqlite3.Connection) -> dict[int, str]:
    """Return every name by its number."""
    return dict(db.execute("SELECT id, name FROM names").fetchall())


def _floor(wall_s: float, step_s: int) -> int:
    return int(wall_s // step_s) * step_s


def _transition(row: tuple[Any, ...]) -> Transition:
    task, model, kind, level, by, who, began, ended, result, outcome, victims, served, longest = row[:13]
    return Transition(
        *(task, model, kind, level, by, who, began / 1000, ended / 1000, Result(result), outcome),
        *(tuple(victims.split()), served, None if longest is None else longest / 1000),
    )
