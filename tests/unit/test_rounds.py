"""Watches go on in rounds: together, spread where there are many, never much later than asked, and taken in at once."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepd.core.events import Event, GateEmptied
from sleepd.core.life import State
from sleepd.core.model import Missing, Now
from sleepd.core.turn import Turn
from sleepd.core.world import World
from sleepd.engine import loop as engine_loop
from sleepd.engine.observer import Observer
from sleepd.engine.rounds import LATE, ROUND_SIZE, Rounds
from sleepd.engine.runner import cancelled
from tests.unit.test_engine_order import Outside, loop_of
from tests.unit.test_many_models import many_models, world_with
from tests.unit.test_outer_looks import MovedClock, Watched


@given(
    asked_s=st.floats(0.0, 1e6), every_s=st.floats(0.1, 60.0), times=st.floats(1.0, 10.0), number=st.integers(0, 999)
)
def test_a_round_is_never_at_once_and_hardly_later_than_asked(
    asked_s: float, every_s: float, times: float, number: int
) -> None:
    rounds = Rounds(MovedClock())
    rounds.spread(f"m{n}" for n in range(1000))
    due_s = rounds.due_s(f"m{number}", asked_s, times * every_s, every_s)
    assert asked_s + (times - 1 + LATE) * every_s - 1e-6 <= due_s <= asked_s + (times + LATE) * every_s + 1e-6
    again_s = rounds.due_s(f"m{number}", due_s, every_s, every_s)
    assert again_s - due_s == pytest.approx(every_s, abs=1e-5), "who is in a round stays in it"


def test_what_is_to_come_sooner_than_a_round_keeps_its_moment() -> None:
    assert Rounds(MovedClock()).due_s("a", 10.3, 0.4, 1.0) == pytest.approx(10.7)


@pytest.mark.parametrize("count", [1, ROUND_SIZE, ROUND_SIZE + 1, 1000])
def test_a_round_has_room_for_so_many(count: int) -> None:
    rounds = Rounds(MovedClock())
    rounds.spread(f"m{n}" for n in range(count))
    moments = [rounds.due_s(f"m{n}", 100.0, 1.0, 1.0) for n in range(count)]
    assert max(moments.count(at_s) for at_s in set(moments)) <= ROUND_SIZE
    assert len(set(moments)) == -(-count // ROUND_SIZE)


async def test_looks_that_began_apart_are_made_together_from_the_next_round_on() -> None:
    clock = MovedClock()
    watched = Watched(clock, State.AWAKE)
    watched.world = world_with(many_models(), State.AWAKE)
    first_s = iter(range(1000))

    async def look(**asked: object) -> Missing:
        watched.looked_s.append(clock.mono_s)
        late_s = next(first_s)
        if late_s < len(watched.world.models):  # the first answer of each comes at another moment
            await clock.sleep(late_s / 1000)
        return await watched.read()

    watched.look = look  # type: ignore[method-assign, assignment]
    observer = Observer(watched, clock, watched, watched, lambda name: watched)  # type: ignore[arg-type]
    observer.start()
    await asyncio.sleep(0.01)
    count = len(watched.world.models)
    while len(watched.looked_s) < 4 * count:
        await clock.move()
    await observer.stop()
    later = watched.looked_s[2 * count : 4 * count]
    assert len(set(later)) <= 2 * -(-count // ROUND_SIZE) + 1


async def test_a_nudge_ends_a_rest_or_the_next_one() -> None:
    rounds = Rounds(MovedClock())
    resting = asyncio.create_task(rounds.rest("a", 10.0))
    await asyncio.sleep(0)
    rounds.nudge("a")
    assert await resting
    rounds.nudge("a")
    assert await rounds.rest("a", 10.0)
    rounds.nudge("a")
    rounds.forget("a")
    resting = asyncio.create_task(rounds.rest("a", 10.0))
    await asyncio.sleep(0)
    assert not resting.done()
    resting.cancel()
    await rounds.stop()


async def test_an_earlier_moment_comes_first() -> None:
    clock = MovedClock()
    rounds = Rounds(clock)
    rests = {at_s: asyncio.create_task(rounds.rest(str(at_s), at_s)) for at_s in (5.0, 2.0, 9.0)}
    await asyncio.sleep(0.01)
    ended: list[float] = []
    while len(ended) < len(rests):
        await clock.move()
        ended += [at_s for at_s, rest in rests.items() if rest.done() and at_s not in ended]
        assert all(at_s <= clock.mono_s for at_s in ended)
    assert ended == [2.0, 5.0, 9.0]


async def test_looks_of_a_round_are_one_turn_and_what_is_urgent_takes_them_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[list[str]] = []

    def note(world: World, events: Sequence[Event], now: Now) -> Turn:
        taken.append([event.model for event in events if isinstance(event, GateEmptied)])
        return Turn(world)

    monkeypatch.setattr(engine_loop, "step", note)
    outside = Outside()
    loop, _ = loop_of(outside)
    turning = asyncio.create_task(loop.run())
    await asyncio.sleep(0)
    for name in "abc":
        loop.submit(GateEmptied(name), 0.05)
        await asyncio.sleep(0.001)
    assert taken == []
    await loop.until(lambda world: bool(taken), 30.0)
    loop.submit(GateEmptied("d"), 3600.0)
    loop.submit(GateEmptied("e"))
    await asyncio.sleep(0.01)
    assert [names for names in taken if names] == [["a", "b", "c"], ["d", "e"]]
    await cancelled(turning)
