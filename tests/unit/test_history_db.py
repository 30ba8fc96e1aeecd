"""The history database: what it keeps, what it lets go of, and that questions read ranges of indexes, not tables."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import BEGIN_S, CYCLES, DAY_S, HOUR_S, fill
from sleepd.adapters import history_db as module
from sleepd.adapters import history_queries as queries
from sleepd.adapters.history_db import HistoryDatabase
from sleepd.adapters.history_queries import read_buckets, read_page, read_report
from sleepd.adapters.history_sql import COUNT_LIMIT, SCHEMA
from sleepd.history.found import HistoryUnreadable, Page, Span, WrongQuestion
from sleepd.history.rows import Batch, Counts, Interval, Result, Spent, Transition

DAYS, MODELS = 2, 3
DAILY = ("spent_days", "waits_days")
MONTH = Span(BEGIN_S, BEGIN_S + 30 * DAY_S)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of two days of three models."""
    path = tmp_path_factory.mktemp("history") / "history.db"

    async def write() -> None:
        database = HistoryDatabase(path)
        await fill(database, DAYS, MODELS)
        await database.close()

    asyncio.run(write())
    return path


@pytest.fixture
async def filled(month: Path) -> AsyncIterator[HistoryDatabase]:
    database = HistoryDatabase(month, lambda: BEGIN_S + DAYS * DAY_S)
    await database.open()
    yield database
    await database.close()


async def pages(database: HistoryDatabase, span: Span, limit: int) -> list[Page]:
    found, after = [], ""
    while True:
        found.append(await database.ask(lambda db, after=after: read_page(db, span, limit, after)))  # type: ignore[misc]
        after = found[-1].next
        if not after:
            return found


async def test_pages_together_are_everything_once_and_in_order(filled: HistoryDatabase) -> None:
    (whole,) = await pages(filled, MONTH, 10_000)
    assert len(whole.intervals) == DAYS * MODELS * CYCLES * 5
    assert len(whole.transitions) == DAYS * MODELS * CYCLES * 2
    assert len(whole.minutes) == DAYS * MODELS * 1440
    for limit in (97, 1000):
        parts = await pages(filled, MONTH, limit)
        assert all(len(page.minutes) <= limit for page in parts)
        for kind in ("intervals", "transitions", "minutes", "vram"):
            joined = [row for page in parts for row in getattr(page, kind)]
            assert joined == list(getattr(whole, kind)), kind
    times = [interval.since_wall_s for interval in whole.intervals]
    assert times == sorted(times)


async def test_a_span_begins_with_what_went_on_then(filled: HistoryDatabase) -> None:
    at_s = BEGIN_S + 1000.0
    (page,) = await pages(filled, Span(at_s, at_s + 10, ("model-001",)), 100)
    assert [(i.model, i.state, i.freed_bytes) for i in page.intervals] == [("model-001", "asleep", 46 << 30)]
    assert [(row.minute, row.model) for row in page.minutes] == [(BEGIN_S + 960, "model-001")]
    (several,) = await pages(filled, Span(at_s, at_s + 10, ("model-00[01]",)), 100)
    assert [i.model for i in several.intervals] == ["model-000", "model-001"]


async def test_buckets_and_report_add_up_to_the_rows(filled: HistoryDatabase) -> None:
    (whole,) = await pages(filled, MONTH, 10_000)
    hours = await filled.ask(lambda db: read_buckets(db, MONTH, HOUR_S))
    days = await filled.ask(lambda db: read_buckets(db, MONTH, DAY_S))
    assert (len(hours), len(days)) == (DAYS * 24 * MODELS, DAYS * MODELS)
    requests = sum(row.counts.requests for row in whole.minutes)
    assert requests == sum(b.counts.requests for b in hours) == sum(b.counts.requests for b in days)
    report = await filled.ask(lambda db: read_report(db, MONTH))
    assert sum(totals.counts.requests for totals in report.models.values()) == requests
    assert report.since == BEGIN_S
    assert list(report.by) == ["rule nap"]
    assert report.by["rule nap"].spent.given_back == 1780.0 * 46 * (1 << 30) * 24 * DAYS * MODELS
    assert sum(report.by["rule nap"].waits.values()) == 5 * CYCLES * DAYS * MODELS
    assert sum(report.gpus_j.values()) == 3e5 * 24 * DAYS * MODELS
    one = await filled.ask(lambda db: read_report(db, Span(BEGIN_S + HOUR_S, BEGIN_S + 2 * HOUR_S, ("*2",))))
    assert list(one.models) == ["model-002"]
    assert one.models["model-002"].spent.awake_s == 1800.0


@pytest.mark.parametrize("from_hour", [0, 1, 5, 23, 24, 30])
@pytest.mark.parametrize("to_hour", [4, 24, 25, 47, 48, 60])
async def test_a_report_is_the_sum_of_its_hours_wherever_it_begins_and_ends(
    filled: HistoryDatabase, from_hour: int, to_hour: int
) -> None:
    span = Span(BEGIN_S + from_hour * HOUR_S + 60.0, BEGIN_S + to_hour * HOUR_S + 90.0)
    report = await filled.ask(lambda db: read_report(db, span))
    hours = await filled.ask(lambda db: read_buckets(db, span, HOUR_S))
    for name in {bucket.model for bucket in hours}:
        mine = [bucket.spent for bucket in hours if bucket.model == name]
        found = report.models[name].spent
        assert found.asleep_s == pytest.approx(sum(spent.asleep_s for spent in mine))
        assert found.energy_j == pytest.approx(sum(spent.energy_j or 0.0 for spent in mine))
    waits = await filled.ask(
        lambda db: db.execute(
            "SELECT sum(count) FROM waits WHERE hour >= ? AND hour < ?", (BEGIN_S + from_hour * HOUR_S, span.to_wall_s)
        ).fetchone()[0]
    )
    assert sum(sum(totals.waits.values()) for totals in report.models.values()) == (waits or 0)
    assert set(report.models) == {bucket.model for bucket in hours}


def plan_of(db: sqlite3.Connection, query: str, keys: Any) -> list[str]:
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", keys)]


@pytest.mark.parametrize("also", ["", " AND model = 2", " AND +model IN (2,3)"])
async def test_pages_read_ranges_of_indexes(filled: HistoryDatabase, also: str) -> None:
    texts = (queries.STATES, queries.MINUTES, queries.TRANSITIONS, queries.VRAM)
    for text, keys in zip(texts, (4, 4, 5, 5), strict=True):
        query = text.format(also=also)
        plan = await filled.ask(lambda db, query=query, keys=keys: plan_of(db, query, (1,) * keys))  # type: ignore[misc]
        assert not any(step.startswith("SCAN") or "TEMP B-TREE" in step for step in plan), (query, plan)


async def test_sums_read_the_hours_of_one_model(filled: HistoryDatabase) -> None:
    keys = {"model": 1, "step": 3600, "from": 0, "to": 1, "first": 0, "last": 0}
    for query in (queries.HOURS, queries.SPENT, queries.SPENT_BY, queries.WAITS, queries.ENERGY):
        plan = await filled.ask(lambda db, query=query: plan_of(db, query, keys))  # type: ignore[misc]
        assert not any(step.startswith("SCAN") and "subquery" not in step for step in plan), (query, plan)
    for query, given in (
        (queries.RUNNING, (1, 1)),
        (queries.FIRST_HOUR, (1,)),
        (queries.NEXT_MODEL.format("spent"), (1,)),
        (queries.NEXT_MODEL.format("intervals"), (1,)),
    ):
        plan = await filled.ask(lambda db, query=query, given=given: plan_of(db, query, given))  # type: ignore[misc]
        assert not any(step.startswith("SCAN") for step in plan), (query, plan)


async def test_questions_that_are_none_are_told_so(filled: HistoryDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    for after in ("1-2-3", "x" * 20, "-".join(["1"] * 9) + "-é"):
        with pytest.raises(WrongQuestion, match="wanted the `next` of another answer"):
            await filled.ask(lambda db, after=after: read_page(db, MONTH, 10, after))  # type: ignore[misc]
    monkeypatch.setattr(queries, "BUCKETS_LIMIT", 10)
    with pytest.raises(WrongQuestion, match="take larger ones"):
        await filled.ask(lambda db: read_buckets(db, MONTH, HOUR_S))


async def test_what_is_too_old_goes_in_steps_and_gives_its_pages_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepd.adapters.history_db.CHUNK_ROWS", 500)
    path = tmp_path / "history.db"
    database = HistoryDatabase(path, lambda: BEGIN_S + 8 * DAY_S)
    await fill(database, 8, 1)
    pages_before = await database.ask(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    steps = 0
    while await database.forget(DAY_S / 2):
        steps += 1
        assert steps < 100
    assert steps > 2
    (rest,) = await pages(database, MONTH, 10_000)
    assert min(i.until_wall_s or 0.0 for i in rest.intervals) >= BEGIN_S + 7.5 * DAY_S
    assert min(row.minute for row in rest.minutes) >= BEGIN_S + 7.5 * DAY_S
    assert await database.ask(lambda db: db.execute("PRAGMA page_count").fetchone()[0]) < pages_before / 2
    await database.close()


async def test_what_is_added_up_by_the_day_goes_with_its_hours(tmp_path: Path) -> None:
    database = HistoryDatabase(tmp_path / "history.db", lambda: BEGIN_S + 8 * DAY_S)
    await fill(database, 8, 1)
    while await database.forget(2.5 * DAY_S):
        pass
    report = await database.ask(lambda db: read_report(db, MONTH))
    hours = await database.ask(lambda db: read_buckets(db, MONTH, HOUR_S))
    assert report.since == hours[0].start == BEGIN_S + 5 * DAY_S
    assert report.models["model-000"].spent.asleep_s == pytest.approx(sum(b.spent.asleep_s for b in hours))
    await database.close()


async def test_names_that_nothing_goes_by_any_more_are_forgotten(tmp_path: Path) -> None:
    now_s = BEGIN_S + 8 * DAY_S
    database = HistoryDatabase(tmp_path / "history.db", lambda: now_s)
    await fill(database, 1, 2)
    batch = Batch()
    batch.intervals = [Interval("model-001", "asleep", 1, "offloaded", now_s, None, "rule", "nap")]
    batch.spent[now_s, "model-001", "rule nap"] = Spent(asleep_s=1.0)
    await database.write(batch)
    assert await database.forget_names() == 0
    while await database.forget(DAY_S):
        pass
    assert await database.forget_names() > 0
    named = await database.ask(lambda db: {name for (name,) in db.execute("SELECT name FROM names")})
    assert named == {"model-001", "rule", "nap", "rule nap"}
    batch.intervals = [Interval("model-000", "awake", 0, "loaded", now_s, None, "request", "gateway")]
    await database.write(batch)
    (page,) = await pages(database, MONTH, 10)
    assert {(i.model, i.by, i.who) for i in page.intervals} == {
        ("model-000", "request", "gateway"),
        ("model-001", "rule", "nap"),
    }
    await database.close()


async def test_an_interval_without_an_end_ends_when_it_was_last_known(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    killed = HistoryDatabase(path)
    await killed.open()
    asleep = Interval("a", "asleep", 1, "offloaded", 100.0, None, "rule", "nap", 7, 5)
    await killed.write(Batch(intervals=[asleep], wall_s=130.0))
    await killed.write(Batch(wall_s=140.0))
    next_one = HistoryDatabase(path)
    kept = await next_one.open()
    assert kept.intervals["a"].until_wall_s == 140.0
    assert (kept.intervals["a"].who, kept.intervals["a"].task) == ("nap", 7)
    # The same again, and it was never otherwise: one interval stays one.
    await next_one.write(Batch(intervals=[asleep], wall_s=200.0))
    (page,) = await pages(next_one, Span(0.0, 300.0), 10)
    assert [(i.since_wall_s, i.until_wall_s) for i in page.intervals] == [(100.0, None)]
    # And what never was goes.
    await next_one.write(Batch(intervals=[Interval("a", "asleep", 1, "offloaded", 100.0, 100.0)], wall_s=201.0))
    (page,) = await pages(next_one, Span(0.0, 300.0), 10)
    assert page.intervals == ()
    await killed.close()
    await next_one.close()


async def test_a_full_disk_loses_a_batch_whole_and_the_next_one_is_written(tmp_path: Path) -> None:
    database = HistoryDatabase(tmp_path / "history.db")
    await database.open()
    await database.ask(lambda db: db.execute("PRAGMA max_page_count=1").fetchall())
    large = Batch(intervals=[Interval(f"m{n}", "awake", 0, "loaded", 1.0, 2.0) for n in range(5000)], wall_s=3.0)
    with pytest.raises(HistoryUnreadable, match=r"history\.db: database or disk is full"):
        await database.write(large)
    await database.ask(lambda db: db.execute("PRAGMA max_page_count=1000000").fetchall())
    await database.write(Batch(minutes={(60, "m1"): Counts(requests=1)}, spent={(0, "m1", ""): Spent(awake_s=1.0)}))
    (page,) = await pages(database, Span(0.0, 100.0), 10)
    assert (page.intervals, [row.model for row in page.minutes]) == ((), ["m1"])
    await database.close()


async def test_a_file_that_breaks_while_it_is_used_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    database = HistoryDatabase(path, lambda: 1234.0)
    await database.open()
    await database.ask(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    await database.ask(lambda db: db.execute("PRAGMA shrink_memory").fetchall())
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(HistoryUnreadable, match=r"history\.db: "):
        await database.write(Batch(intervals=[Interval("a", "awake", 0, "loaded", 1.0)], wall_s=2.0))
    assert "set aside as history.db.damaged-1234, a new one begins" in database.set_aside
    await database.write(Batch(intervals=[Interval("a", "awake", 0, "loaded", 3.0)], wall_s=4.0))
    (page,) = await pages(database, Span(0.0, 100.0), 10)
    assert [i.since_wall_s for i in page.intervals] == [3.0]
    await database.close()


async def test_a_file_that_breaks_while_the_disk_is_full_begins_anew_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.db"
    database = HistoryDatabase(path)
    await database.open()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(module, "migrate", fail)
    damage = sqlite3.DatabaseError("database disk image is malformed")
    with pytest.raises(HistoryUnreadable, match="malformed"):
        await database.ask(lambda db: (_ for _ in ()).throw(damage))
    one = Batch(minutes={(60, "m1"): Counts(requests=1)}, wall_s=61.0)
    for _ in range(2):
        with pytest.raises(HistoryUnreadable, match=r"history\.db: database or disk is full"):
            await database.write(one)
    monkeypatch.undo()
    await database.write(one)
    (page,) = await pages(database, Span(0.0, 100.0), 10)
    assert [row.model for row in page.minutes] == ["m1"]
    await database.close()


async def test_every_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    database = HistoryDatabase(path)
    await database.open()
    assert await database.ask(lambda db: db.execute("PRAGMA user_version").fetchone()[0]) == SCHEMA
    assert await database.ask(lambda db: db.execute("PRAGMA auto_vacuum").fetchone()[0]) == 2
    assert await database.ask(lambda db: db.execute("PRAGMA synchronous").fetchone()[0]) == 1
    await database.close()


async def test_a_history_without_sums_by_the_day_gets_them(tmp_path: Path, month: Path) -> None:
    path = tmp_path / "history.db"
    shutil.copy(month, path)
    with sqlite3.connect(path) as old:
        before = {table: old.execute(f"SELECT * FROM {table} ORDER BY 2, 1, 3").fetchall() for table in DAILY}
        for table in DAILY:
            old.execute(f"DROP TABLE {table}")
        old.execute("PRAGMA user_version=1")
    old.close()
    database = HistoryDatabase(path)
    await database.open()
    for table, rows in before.items():
        found = await database.ask(lambda db, t=table: db.execute(f"SELECT * FROM {t} ORDER BY 2, 1, 3").fetchall())  # type: ignore[misc]
        assert rows
        assert [tuple(map(pytest.approx, row)) if table == "spent_days" else row for row in rows] == found
    await database.close()


async def test_a_span_that_begins_with_the_epoch_has_further_pages(tmp_path: Path) -> None:
    database = HistoryDatabase(tmp_path / "history.db")
    await database.open()
    two = [Interval("a", "awake", 0, "loaded", since_s, since_s + 1.0) for since_s in (100.0, 200.0)]
    await database.write(Batch(intervals=two, wall_s=300.0))
    found = await pages(database, Span(0.0, 1000.0), 1)
    assert [i.since_wall_s for page in found for i in page.intervals] == [100.0, 200.0]
    await database.close()


async def test_what_no_column_holds_keeps_nothing_else_from_being_written(tmp_path: Path) -> None:
    database = HistoryDatabase(tmp_path / "history.db")
    await database.open()
    wake = Transition(
        1, "a", "wake", 1, "request", "x\ud800y", 10.0, 11.0, Result.FAILED, "failed: \udfff", (), 0, None
    )
    leaps = {(60, "a"): Counts(prompt_tokens=1 << 70), (120, "a"): Counts(prompt_tokens=1)}
    await database.write(Batch(transitions={1: wake}, minutes=leaps, wall_s=12.0))
    await database.write(Batch(minutes=leaps, wall_s=13.0))
    (page,) = await pages(database, Span(0.0, 1000.0), 10)
    assert [(t.who, t.outcome) for t in page.transitions] == [("x?y", "failed: ?")]
    assert [row.counts.prompt_tokens for row in page.minutes] == [2 * COUNT_LIMIT, 2]
    with pytest.raises(HistoryUnreadable, match=r"history\.db: "):
        await database.write(Batch(vram={(60, "g", "a"): 1 << 70}, wall_s=14.0))
    await database.close()
