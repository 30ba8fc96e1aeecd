"""A turn is a function: the same input gives the same turn, and time alone changes nothing before its deadline."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sleepd.core import machine
from sleepd.core.commands import LookNow
from sleepd.core.deadlines import Deadlines, next_deadline
from sleepd.core.draft import differs, durable, news_to_save
from sleepd.core.events import Event, Tick
from sleepd.core.machine import step
from sleepd.core.model import Missing, Now
from sleepd.core.record import ModelRecord
from sleepd.core.turn import Turn
from sleepd.core.units import MonotonicS
from sleepd.core.world import World
from sleepd.sim import world as shell
from sleepd.sim.scenario.play import set_stage
from sleepd.sim.scenario.script import Script, draw_crowded_script, draw_script

# A few virtual minutes of these hold every state, task and fault; each keeps the worlds of its turns.
SCRIPTS = [
    *((draw_script, seed, 150.0) for seed in range(12)),
    *((draw_crowded_script, seed, 150.0) for seed in (0, 6)),
]
CLOCK_GRAIN_S = 1e-6
"""Deadlines nearer than this are due: sums of floats do not tell them apart from now."""


class Recorded:
    """The turns of a script, so many seconds of it: what went in and what came out."""

    def __init__(self, script: Script, played_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns: list[tuple[World, tuple[Event, ...], Now, Turn]] = []
        real: Callable[..., Turn] = machine.step

        def remember(world: World, events: list[Event], now: Now) -> Turn:
            turn = real(world, events, now)
            self.turns.append((world, tuple(events), now, turn))
            return turn

        monkeypatch.setattr(shell, "step", remember)
        # A turn that could not be recorded is dropped and repeated by the shell: until then its news is still to come.
        acts = tuple(act for act in script.acts if act.do != "disk refuses")
        set_stage(replace(script, acts=acts)).time.run_until(played_s)


@pytest.fixture(scope="module")
def recorded():
    with pytest.MonkeyPatch.context() as patch:
        return [t for draw, seed, played_s in SCRIPTS for t in Recorded(draw(seed), played_s, patch).turns]


def test_the_same_input_gives_the_same_turn(recorded):
    for world, events, now, turn in recorded[::5]:
        assert step(world, events, now) == turn


def test_a_turn_leaves_the_world_it_was_given_untouched(recorded):
    for world, events, now, _ in recorded[::5]:
        before = (dict(world.models), dict(world.tasks), world.gpus, world.host, world.memory, world.proven)
        step(world, events, now)
        assert (dict(world.models), dict(world.tasks), world.gpus, world.host, world.memory, world.proven) == before


def test_many_worlds_are_at_hand(recorded):
    states = {r.life.state for _, _, _, turn in recorded for r in turn.world.models.values()}
    assert len(recorded) > 1000
    assert any(r.yields for _, _, _, turn in recorded for r in turn.world.models.values()), "nobody gives up a turn"
    assert len(states) >= 12, "the seeds no longer visit enough states for these tests to mean much"


def test_a_tick_without_news_changes_nothing_but_time(recorded):
    for _, _, now, turn in recorded:
        due_s = next_deadline(turn.world, now)
        for share in (1e-6, 0.3, 0.9, 0.999_999):
            check_quiet(turn.world, now, due_s, share)


def test_a_kept_deadline_is_the_one_worked_out_anew(recorded):
    kept, near = Deadlines(), 0
    for before, _, now, turn in recorded:
        assert kept.after(turn.world, now) == next_deadline(turn.world, now)
        # A turn that is dropped leaves the world as it was, and moments may have passed meanwhile.
        later = replace(now, mono_s=now.mono_s + 30.0, wall_s=now.wall_s + 30.0)
        assert kept.after(before, later) == next_deadline(before, later)
        near += kept.after(turn.world, now) is not None
    assert near > 1000


def test_what_is_saved_is_what_comparing_all_that_is_durable_would_save(recorded):
    passed_over = 0
    for before, _, now, turn in recorded:
        for name, record in turn.world.models.items():
            old = before.models.get(name)
            if old is not None and old is not record:
                was, is_ = durable(old, now), durable(record, now)
                assert news_to_save(old, record, now) == (is_ if differs(was, is_) else None)
                passed_over += not differs(was, is_)
    assert passed_over > 1000


def is_same_but_for_words(record: ModelRecord, other: ModelRecord) -> bool:
    """Whether only their reasons differ: "min_awake leaves 5ms" is told anew whenever somebody looks."""
    return record is other or replace(record, reason="") == replace(other, reason="")


def check_quiet(world: World, now: Now, due_s: MonotonicS | None, share: float) -> None:
    """From just after a turn up to its next deadline (or an hour), a Tick brings nothing."""
    ahead_s = 3600.0 if due_s is None else due_s - now.mono_s
    if ahead_s < CLOCK_GRAIN_S:
        return
    later = replace(now, mono_s=now.mono_s + share * ahead_s, wall_s=now.wall_s + share * ahead_s)
    quiet = step(world, [Tick()], later)
    # Somebody who waits for a reading asks for it again with every turn; asking changes nothing.
    commands = [c for c in quiet.commands if not isinstance(c, LookNow)]
    told = (commands, quiet.records, [n.text for n in quiet.notes], quiet.shut)
    assert told == ([], (), [], ()), f"{share * ahead_s:.3f}s after a turn, {ahead_s:.3f}s before the next deadline"
    assert quiet.world.models.keys() == world.models.keys()
    assert all(is_same_but_for_words(quiet.world.models[name], record) for name, record in world.models.items())
    assert quiet.world.tasks == world.tasks
    assert (quiet.world.gpus, quiet.world.host, quiet.world.proven) == (world.gpus, world.host, world.proven)


def test_a_second_tick_at_the_same_moment_brings_nothing(recorded):
    for world, _, now, _ in recorded[::3]:
        check_second_tick(world, now)


def check_second_tick(world: World, now: Now) -> None:
    once = step(world, [Tick()], now)
    twice = step(once.world, [Tick()], now)
    assert twice.records == ()
    assert twice.notes == ()
    assert [c for c in twice.commands if not isinstance(c, LookNow)] == []


def test_a_tick_on_an_unread_host_does_nothing(recorded):
    world = recorded[0][0]
    assert isinstance(world.gpus, Missing)
    now = recorded[0][2]
    check_quiet(world, now, next_deadline(world, now), 0.5)
