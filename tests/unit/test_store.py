"""The state database: everything comes back as it was, all of a batch or none, and each failure in words."""

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sleepd.adapters import store as store_module
from sleepd.adapters.store import BALLAST_BYTES, SCHEMA, SqliteStore
from sleepd.core.daybook import SLOTS
from sleepd.core.footprint import Footprint
from sleepd.core.habits import Habits
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Failure
from sleepd.core.plan import Plan, Verb, plan_sleep, step_of
from sleepd.core.records import AccountSaved, AheadSaved, EngineProven, ModelSaved, TaskEnded, TaskSaved
from sleepd.core.seen import CallCount, ControlCounts, Fingerprint
from sleepd.core.task import Intent, Phase, Task, TaskKind
from sleepd.ports import StoreFailed

_NAME = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
_BYTES = st.integers(0, 1 << 50)
_SECONDS = st.floats(0, 1e10)
_TEXT = st.text(max_size=20)
_COUNT = st.builds(CallCount, st.integers(0, 9), st.integers(0, 9))
_CONTROL = st.none() | st.builds(ControlCounts, _COUNT, _COUNT, _COUNT)
_CAUSE = st.builds(Cause, st.sampled_from(CauseKind), _TEXT)
_SAMPLES = st.lists(_BYTES, max_size=5).map(tuple)
_BY_GPU = st.dictionaries(_TEXT, _SAMPLES, max_size=2)
_FOOTPRINT = st.builds(
    Footprint,
    freed=_BY_GPU,
    taken=_BY_GPU,
    reloaded=_BY_GPU,
    residual=st.dictionaries(_TEXT, _BY_GPU, max_size=2),
    awake=st.dictionaries(_TEXT, _BYTES, max_size=2),
    asleep=st.dictionaries(_TEXT, _BYTES, max_size=2),
    first_residual=st.dictionaries(_TEXT, st.dictionaries(_TEXT, _BYTES, max_size=2), max_size=2),
    sleeps=st.integers(0, 9),
    backups=_SAMPLES,
    host_pinned=st.booleans(),
    pinned_bytes=_BYTES,
    durations=st.dictionaries(_TEXT, st.lists(_SECONDS, max_size=5).map(tuple), max_size=2),
    under=_TEXT,
)
_TALLY = st.lists(st.tuples(_SECONDS, _SECONDS), max_size=3).map(tuple)
_HABITS = st.builds(
    Habits,
    days=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, (1 << SLOTS) - 1)), max_size=3).map(tuple),
    after=_TALLY,
    following=_TALLY,
    last_s=_SECONDS,
    busy=st.integers(0, 6),
)
_MODEL = st.builds(
    ModelSaved,
    name=_NAME,
    life=st.builds(Life, st.sampled_from(State), st.sampled_from(Weights)),
    incarnation=st.none() | _TEXT,
    control=_CONTROL,
    since_wall_s=_SECONDS,
    last_active_wall_s=_SECONDS,
    fingerprint=st.none() | st.builds(Fingerprint, _TEXT, st.lists(_TEXT, max_size=3).map(tuple)),
    footprint=_FOOTPRINT,
    prior=_FOOTPRINT,
    prime_failed=st.booleans(),
    restart_wanted=_TEXT,
    failure=st.none() | st.builds(Failure, _TEXT, _TEXT, _TEXT),
    check_failed=_TEXT,
    checking=st.booleans(),
    frees_nothing=st.booleans(),
    owed_wake=st.none() | _CAUSE,
    habits=_HABITS,
    account=st.none() | st.builds(AccountSaved, _SECONDS, _SECONDS, _SECONDS, st.booleans()),
    ahead=st.none() | st.builds(AheadSaved, st.none() | _SECONDS, st.integers(0, 1 << 20), _SECONDS, _TEXT),
)
_TASK = st.builds(
    Task,
    id=st.integers(1, 1 << 40),
    model=_NAME,
    kind=st.sampled_from(TaskKind),
    level=st.integers(0, 2),
    cause=_CAUSE,
    plan=st.lists(st.sampled_from(Verb).map(step_of), max_size=4).map(lambda steps: Plan(tuple(steps))),
    started_s=_SECONDS,
    cursor=st.integers(0, 4),
    phase=st.sampled_from(Phase),
    attempt=st.integers(0, 5),
    claims=st.frozensets(_TEXT, max_size=2),
    parent=st.none() | st.integers(1, 9),
    victim=st.none() | _NAME,
    slept=st.lists(_NAME, max_size=2).map(tuple),
    intent=st.none() | st.builds(Intent, st.none() | _TEXT, _CONTROL, st.dictionaries(_TEXT, _BYTES, max_size=2)),
    resume_s=st.none() | _SECONDS,
    running=st.booleans(),
)


def saved(name: str = "a", state: State = State.AWAKE) -> ModelSaved:
    life = Life(state, Weights.LOADED)
    return ModelSaved(name, life, "pst:1", None, 1.0, 2.0, None, Footprint(), None, "", False, False)


def task(number: int = 1, model: str = "a") -> Task:
    cause = Cause(CauseKind.RULE, "nap")
    return Task(number, model, TaskKind.SLEEP, 1, cause, plan_sleep(1, fingerprint_wanted=True), 5.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "state.db")
    await store.load()
    yield store
    await store.close()


async def reopened(path: Path) -> Any:
    again = SqliteStore(path)
    try:
        return await again.load()
    finally:
        await again.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_MODEL, _TASK, _TEXT)
async def test_every_record_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, model: ModelSaved, running: Task, key: str
) -> None:
    path = tmp_path_factory.mktemp("store") / "state.db"
    store = SqliteStore(path)
    store_module_ballast(path)
    await store.load()
    await store.commit([model, TaskSaved(running), EngineProven(key, 3.0)])
    await store.close()
    found = await reopened(path)
    assert found.models == {model.name: model}
    assert found.tasks == {running.model: running}
    assert found.proven == {key}
    assert found.next_task == running.id + 1


def store_module_ballast(path: Path) -> None:
    """The 4 MiB are of no use here."""
    path.with_name("ballast").touch()


async def test_a_task_that_ended_leaves_for_the_journal_and_its_number_is_not_given_again(
    tmp_path: Path, store: SqliteStore
) -> None:
    await store.commit([TaskSaved(task(7))])
    await store.commit([TaskEnded(task(7), "asleep at level 1", 9.0)])
    found = await reopened(tmp_path / "state.db")
    assert (found.tasks, found.next_task) == ({}, 8)
    with sqlite3.connect(tmp_path / "state.db") as db:
        rows = db.execute("SELECT wall_s, model FROM journal").fetchall()
    db.close()
    assert rows == [(9.0, "a")]


async def test_the_journal_does_not_grow_for_ever(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "JOURNAL_ROWS", 3)
    await store.commit([TaskEnded(task(n), "done", float(n)) for n in range(1, 9)])
    with sqlite3.connect(tmp_path / "state.db") as db:
        assert [row[0] for row in db.execute("SELECT wall_s FROM journal ORDER BY n")] == [6.0, 7.0, 8.0]
    db.close()


async def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path, store: SqliteStore) -> None:
    await store.commit([saved("a")])
    no = "CREATE TRIGGER no BEFORE INSERT ON tasks BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    await store._run(lambda: store._db.execute(no))  # type: ignore[union-attr]
    with pytest.raises(StoreFailed, match=r"state\.db: could not be written: disk I/O error; nothing was done"):
        await store.commit([saved("a", State.ASLEEP_L1), saved("b"), TaskSaved(task())])
    found = await reopened(tmp_path / "state.db")
    assert found.models == {"a": saved("a")}
    await store.commit([saved("b")])


async def test_it_is_durable_before_commit_returns(tmp_path: Path, store: SqliteStore) -> None:
    async def pragma(name: str) -> Any:
        return await store._run(lambda: store._db.execute(f"PRAGMA {name}").fetchone()[0])  # type: ignore[union-attr]

    assert await pragma("journal_mode") == "wal"
    assert await pragma("synchronous") == 2
    assert await pragma("user_version") == SCHEMA


async def test_a_full_disk_is_met_with_the_ballast_and_then_said(tmp_path: Path, store: SqliteStore) -> None:
    ballast = tmp_path / "ballast"
    assert ballast.stat().st_size == BALLAST_BYTES
    assert ballast.stat().st_blocks * 512 >= BALLAST_BYTES, "a hole frees nothing"

    def limit_pages(extra: int) -> None:
        assert store._db is not None
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages + extra}")

    await store._run(limit_pages, 0)
    many = [saved(f"m{n}") for n in range(200)]
    with pytest.raises(StoreFailed) as failed:
        await store.commit(many)
    assert str(tmp_path / "state.db") in str(failed.value)
    assert "disk is full" in str(failed.value)
    assert "nothing was done" in str(failed.value)
    assert not ballast.exists()
    await store._run(limit_pages, 1000)
    await store.commit(many)
    assert len((await reopened(tmp_path / "state.db")).models) == 200


async def test_freeing_the_ballast_is_enough_for_what_is_under_way(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store._write

    def write_where_there_is_room(db: sqlite3.Connection, records: Any) -> None:
        if (tmp_path / "ballast").exists():
            raise OSError(28, "No space left on device")
        write(db, records)

    monkeypatch.setattr(store, "_write", write_where_there_is_room)
    await store.commit([saved("a")])
    assert (await reopened(tmp_path / "state.db")).models == {"a": saved("a")}
    assert (tmp_path / "ballast").exists(), "kept again at the next start, when there is room"


async def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    db.close()
    with pytest.raises(StoreFailed, match=rf"version {SCHEMA} or older, found version {SCHEMA + 1}.*start that one"):
        await reopened(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


def corrupt_header(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def odd_record(path: Path) -> None:
    with sqlite3.connect(path) as db:
        for statement in store_module._MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO models VALUES ('a', '{\"name\": 3}')")
        db.execute(f"PRAGMA user_version={SCHEMA}")
    db.close()


def missing_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA}")
    db.close()


def a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [corrupt_header, odd_record, missing_table, a_directory])
async def test_an_unreadable_database_is_told_in_one_line(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "state.db"
    spoil(path)
    with pytest.raises(StoreFailed) as failed:
        await reopened(path)
    text = str(failed.value)
    assert text.startswith(f"{path}: wanted a readable sleepd state database, found: ")
    assert "move the file away to start anew" in text
    assert "\n" not in text


async def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    with pytest.raises(StoreFailed, match="closed"):
        await store.commit([saved("a")])
    await store.close()
