"""Events are numbered without a gap, and a gap is told."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepd.api.ring import EventRing
from sleepd.core.turn import Note


def filled(count: int, limit: int = 3) -> EventRing:
    ring = EventRing("e", limit)
    for n in range(1, count + 1):
        assert ring.append(Note("k", "m", str(n)), 1.0).id == f"e-{n}"
    return ring


@pytest.mark.parametrize(
    ("since", "ids", "gap"),
    [
        (None, ["e-3", "e-4", "e-5"], False),
        ("e-5", [], False),
        ("e-3", ["e-4", "e-5"], False),
        ("e-2", ["e-3", "e-4", "e-5"], False),
        ("e-1", ["e-3", "e-4", "e-5"], True),
        ("old-4", ["e-3", "e-4", "e-5"], True),
        ("e-9", ["e-3", "e-4", "e-5"], True),
        ("e-x", ["e-3", "e-4", "e-5"], True),
        ("nonsense", ["e-3", "e-4", "e-5"], True),
    ],
)
def test_reading_after_an_id(since: str | None, ids: list[str], gap: bool) -> None:
    read = filled(5).read(since)
    assert ([event.id for event in read.events], read.gap, read.last_id) == (ids, gap, "e-5")


@given(st.integers(0, 12), st.integers(0, 12))
def test_after_any_id_given_out_either_all_later_ones_come_or_a_gap(count: int, since: int) -> None:
    ring = filled(count, limit=4)
    read = ring.read(f"e-{since}")
    later = [f"e-{n}" for n in range(since + 1, count + 1)]
    if since <= count:
        assert read.gap == (len(later) > 4)
        assert [event.id for event in read.events] == later[-4:]
    else:
        assert read.gap


async def test_waiters_go_on_with_the_next_event() -> None:
    ring = EventRing("e")
    waiting = [asyncio.create_task(ring.wait(id_)) for id_ in ("e-0", "old-7")]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    ring.append(Note("k", "m", "x"), 1.0)
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting)
        await ring.wait("e-0")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ring.wait("e-1")
