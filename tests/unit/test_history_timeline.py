"""States and bytes as they are drawn: runs on a grid, each step what lasted longest in it."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepd.adapters.history_db import HistoryDatabase
from sleepd.adapters.history_timeline import STEPS_LIMIT, read_timeline
from sleepd.history.found import Span, WrongQuestion
from sleepd.history.rows import Batch, Interval
from sleepd.history.timeline import GpuLine, draw, thin

BEGIN_S = 1_767_225_600.0
SPAN = Span(BEGIN_S, BEGIN_S + 600)


def test_a_step_shows_what_lasted_longest_in_it() -> None:
    stays = [(-50.0, 25.0, "awake", ""), (25.0, 34.0, "waking", "request"), (34.0, 100.0, "asleep 1", "rule nap")]
    assert draw(stays, 100, 10) == ((0, "awake", ""), (30, "asleep 1", "rule nap"))
    assert draw([*stays[:1], (25.0, 36.0, "waking", "request"), (36.0, 100.0, "asleep 1", "rule nap")], 100, 10) == (
        *((0, "awake", ""), (30, "waking", "request"), (40, "asleep 1", "rule nap")),
    )


def test_a_failure_is_shown_however_short_it_was() -> None:
    stays = [(0.0, 9.0, "awake", ""), (9.0, 9.5, "failed", "request"), (9.5, 20.0, "awake", "")]
    assert draw(stays, 20, 10) == ((0, "failed", "request"), (10, "awake", ""))


def test_what_is_not_on_record_is_shown_as_such() -> None:
    assert draw([], 30, 10) == ((0, "", ""),)
    assert draw([(12.0, 21.0, "awake", "")], 40, 10) == ((0, "", ""), (10, "awake", ""), (20, "", ""))


STAYS = st.lists(
    st.tuples(st.floats(-100, 500), st.floats(-100, 500), st.sampled_from(["awake", "asleep 1", "failed"])), max_size=30
)


@given(STAYS, st.floats(1, 400), st.integers(1, 60))
def test_runs_begin_at_steps_and_no_two_neighbours_are_equal(
    stays: list[tuple[float, float, str]], length_s: float, step_s: int
) -> None:
    drawn = draw([(min(a, b), max(a, b), state, "") for a, b, state in stays], length_s, step_s)
    assert drawn[0][0] == 0
    assert all(second % step_s == 0 and second < length_s for second, _, _ in drawn)
    assert all(one[0] < two[0] and one[1:] != two[1:] for one, two in pairwise(drawn))


def test_of_bytes_a_step_shows_the_most() -> None:
    points = [(-900.0, 1), (-60.0, 5), (12.0, 7), (18.0, 9), (19.0, 2), (31.0, 9), (55.0, 3)]
    assert thin(points, 10) == ((0, 5), (10, 9), (50, 3))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[HistoryDatabase]:
    database = HistoryDatabase(tmp_path / "history.db")
    await database.open()
    yield database
    await database.close()


async def test_a_span_is_read_with_what_it_began_with(database: HistoryDatabase) -> None:
    await database.write(
        Batch(
            [
                Interval("chat", "awake", 0, "loaded", BEGIN_S - 7200, BEGIN_S - 3600),
                Interval("chat", "asleep", 1, "offloaded", BEGIN_S - 3600, BEGIN_S + 120, "rule", "nap"),
                Interval("chat", "awake", 0, "loaded", BEGIN_S + 120, None, "request", "gateway"),
                Interval("gone", "awake", 0, "loaded", BEGIN_S - 7200, BEGIN_S - 3600),
                Interval("later", "stopped", None, "loaded", BEGIN_S + 540, None, "operator", "alice"),
            ],
            vram={
                (int(BEGIN_S) - 1800, "GPU-a", ""): 40,
                (int(BEGIN_S) + 120, "GPU-a", ""): 70,
                (int(BEGIN_S) + 120, "GPU-a", "chat"): 60,
            },
            wall_s=BEGIN_S + 600,
        )
    )
    found = await database.ask(lambda db: read_timeline(db, SPAN, 60))
    assert found.models == (
        ("chat", ((0, "asleep 1", "rule nap"), (120, "awake", "request gateway"))),
        ("later", ((0, "", ""), (540, "stopped", "operator alice"))),
    )
    assert found.gpus == (GpuLine("GPU-a", ((0, 40), (120, 70))),)
    only = await database.ask(lambda db: read_timeline(db, Span(*(BEGIN_S, BEGIN_S + 600), ("l*",)), 60))
    assert [name for name, _ in only.models] == ["later"]


async def test_more_steps_than_can_be_shown_are_refused(database: HistoryDatabase) -> None:
    with pytest.raises(WrongQuestion, match=f"at most {STEPS_LIMIT} steps, found 6000"):
        await database.ask(lambda db: read_timeline(db, Span(BEGIN_S, BEGIN_S + 6000), 1))
