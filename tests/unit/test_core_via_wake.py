"""A sleeper that is to sleep deeper: refused, or woken for it first; and how long a state lasted, over a restart."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, FACTS, KNOWN_ANSWER, NOW, gpus, later, proven, record, seen, world
from rule_worlds import begun, fresh, play

from sleepd.core.beginning import begin
from sleepd.core.commands import AnswerKind
from sleepd.core.draft import durable
from sleepd.core.events import ModelLooked
from sleepd.core.machine import step
from sleepd.core.model import Known, Settings
from sleepd.core.records import Saved
from sleepd.core.seen import ControlCounts
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked

DEEPER = SleepAsked(1, "a", "alice", 2, 60.0, via_wake=True)


def sleeper(life=ASLEEP):
    return proven(world(record(life=life, spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)))


def test_a_deeper_sleep_of_a_sleeper_is_refused_unless_it_may_be_woken_for_it():
    turn = play(sleeper(), replace(DEEPER, via_wake=False))
    assert [(c.kind, c.problem) for c in turn.commands if hasattr(c, "waiter")] == [(AnswerKind.REFUSED, "needs_wake")]
    assert "via_wake" in turn.commands[0].hint


def test_it_is_woken_then_put_to_sleep_as_deep_as_was_asked():
    turn = play(sleeper(), DEEPER)
    assert begun(turn) == "wake 1"
    assert not [c for c in turn.commands if hasattr(c, "waiter")], "the caller waits"
    waiting = turn.world.models["a"].waiters
    awake = proven(world(record(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER, waiters=waiting)))
    assert begun(play(awake)) == "sleep 2"


def test_whoever_leaves_takes_the_wish_along():
    turn = play(sleeper(), DEEPER)
    record_ = replace(turn.world.models["a"], waiters=())
    left = replace(turn.world, models={"a": record_})
    assert play(fresh(left, 1.0), at_s=1.0).world.models["a"].waiters == ()


def test_a_deeper_sleep_puts_nobody_else_to_sleep_and_says_at_once_who_is_in_the_way():
    neighbour = record("b", spec={"min_awake_s": 0.0})
    sleeper_ = record(life=ASLEEP, spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)
    made = proven(replace(world(sleeper_, neighbour), gpus=gpus(10 * GIB)))
    turn = play(fresh(made), DEEPER)
    (answer,) = [c for c in turn.commands if hasattr(c, "waiter")]
    assert (answer.kind, answer.problem) == (AnswerKind.REFUSED, "no_room")
    assert answer.hint == "sleepctl sleep b first"
    assert turn.world.tasks == {}


@pytest.mark.parametrize("life", [AWAKE, ASLEEP], ids=["awake", "asleep"])
@pytest.mark.parametrize("touched", [False, True])
def test_how_long_a_state_lasts_is_known_over_a_restart_unless_somebody_touched_it(life, touched):
    counts = ControlCounts()
    old = record(life=life, control=counts, since_s=NOW.mono_s - 900.0, since_wall_s=NOW.wall_s - 900.0)
    settings = Settings({"a": old.spec})
    made = begin(settings, Saved(models={"a": durable(old, NOW)}), later(60.0)).world
    known = ControlCounts(wake=replace(counts.wake, ok=1)) if touched else counts
    at_s = NOW.mono_s + 61.0
    look = replace(seen(is_sleeping=life is ASLEEP, control=known, facts=FACTS).value)
    turn = step(made, [ModelLooked("a", Known(look, at_s, at_s))], later(61.0))
    found = turn.world.models["a"]
    lasted_s = at_s - found.since_s
    assert lasted_s == (pytest.approx(961.0) if not touched else 0.0)
    if life is AWAKE and not touched:
        assert at_s - found.awake_since_s == pytest.approx(961.0)
