"""A full disk changes no verdict: gates shut by a fact stay shut, those shut by our own choice open again."""

import asyncio
from dataclasses import replace

import pytest

from sleepd.core.beginning import begin
from sleepd.core.life import State
from sleepd.core.model import ModelSpec, Now, Settings
from sleepd.core.records import Saved
from sleepd.core.turn import Turn
from sleepd.core.wishes import CallerGone
from sleepd.core.world import World
from sleepd.engine.gate import Gate
from sleepd.engine.loop import Loop
from tests.property.virtual_rig import Rig
from tests.unit.test_engine_order import Outside, loop_of, turn_of

FACT = CallerGone(1, "m")
BEGUN = begin(Settings(models={"m": ModelSpec("m", "http://m")}, rules=()), Saved(), Now(0.0, 0.0)).world


def world_of(state: State) -> World:
    record = BEGUN.models["m"]
    return replace(BEGUN, models={"m": replace(record, life=replace(record.life, state=state))})


def shutting(state: State) -> Turn:
    return replace(turn_of(record="r", shut=("m",)), world=world_of(state))


def saying(state: State, record: str = "") -> Turn:
    return replace(turn_of(record=record), world=world_of(state))


@pytest.fixture
async def full() -> tuple[Outside, Loop, Gate]:
    """A daemon whose disk is full, and the open gate of its one model."""
    outside = Outside()
    outside.full = True
    loop, gates = loop_of(outside)
    loop.world = world_of(State.AWAKE)
    gates.of("m").open = True
    return outside, loop, gates.of("m")


async def turn_again(loop: Loop) -> None:
    """Let the loop take what was kept."""
    turning = asyncio.create_task(loop.run())
    await asyncio.sleep(0.05)
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


@pytest.mark.parametrize(
    ("state", "stays_open"),
    [
        (State.DRAINING, True),
        (State.LOST, False),
        (State.FOREIGN, False),
        (State.BROKEN, False),
        (State.UNKNOWN, False),
    ],
)
async def test_a_full_disk_reopens_only_what_we_chose_to_shut(
    full: tuple[Outside, Loop, Gate], script: list[Turn], state: State, stays_open: bool
) -> None:
    _, loop, gate = full
    script.append(shutting(state))
    await loop.turn([FACT])
    assert gate.open is stays_open


async def test_it_opens_again_once_its_events_were_judged_anew(
    full: tuple[Outside, Loop, Gate], script: list[Turn]
) -> None:
    outside, loop, gate = full
    script += [shutting(State.LOST), saying(State.AWAKE)]
    await loop.turn([FACT])
    await loop.turn([FACT])
    assert not gate.open, "a turn that did not judge what shut it opened it"
    outside.full = False
    script.append(saying(State.AWAKE, record="r"))
    await turn_again(loop)
    assert gate.open


async def test_it_stays_shut_through_one_more_full_disk_and_then_by_record(
    full: tuple[Outside, Loop, Gate], script: list[Turn]
) -> None:
    outside, loop, gate = full
    script += [shutting(State.LOST), saying(State.AWAKE, record="r"), saying(State.LOST)]
    await loop.turn([FACT])
    await turn_again(loop)
    assert script == []
    assert not gate.open
    assert outside.log == ["not_recordable", "not_recordable"]


def test_the_simulated_shell_keeps_such_a_gate_shut_too() -> None:
    """The server dies while the disk is full: nobody is let in until that is recorded, nor after."""
    rig = Rig("0.32.0")
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.daemon.gates.of("a").open)
    rig.daemon.upsets.fail_commits = 3
    rig.engine("a").kill()
    assert rig.until(lambda: not rig.daemon.gates.of("a").open)
    failing = rig.daemon.upsets.fail_commits
    assert failing > 0
    while rig.daemon.upsets.fail_commits:
        rig.run(0.1)
        assert not rig.daemon.gates.of("a").open
    assert rig.until(lambda: rig.state("a") is not State.AWAKE)
    assert not rig.daemon.gates.of("a").open
