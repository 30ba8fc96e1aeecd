"""Turns: when a used model has to give up its place to one that waits, and who is next."""

import pytest
from core_worlds import ASLEEP, NEED, NOW, record, world
from turn_worlds import PATIENCE_S, REQUEST, TIGHT, turn, used, waiting, wish

from sleepd.core.deadlines import next_deadline
from sleepd.core.draft import Draft
from sleepd.core.footprint import Footprint
from sleepd.core.frozen import replace
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason
from sleepd.core.record import Awaited, Stopped
from sleepd.core.room import WaitFor, room_for, wakes_waiting
from sleepd.core.sharing import lull_ends_s, turn_due_s, turn_over_s
from sleepd.core.task import TaskKind
from sleepd.core.unit import UnitSeen
from sleepd.core.units import GIB

SWITCH_S = 5.0


def over_s(holder, wanted) -> float:
    return turn_over_s(holder, wanted, SWITCH_S) - NOW.mono_s


# --- when a turn is over -----------------------------------------------------------------------------------------


def test_a_used_model_is_kept_until_half_of_what_somebody_may_wait_has_passed():
    assert over_s(used(), waiting()) == PATIENCE_S
    assert over_s(used(), waiting(age_s=45.0)) == PATIENCE_S - 45.0
    assert over_s(used(), waiting(spec={"max_wait_s": 40.0})) == 20.0


def test_a_turn_lasts_min_awake_however_long_somebody_waited():
    young = used(awake_since_s=NOW.mono_s - 10.0)
    assert over_s(young, waiting(age_s=500.0)) == 50.0
    assert over_s(replace(young, spec=replace(young.spec, min_awake_s=300.0)), waiting(age_s=500.0)) == 290.0


def test_without_min_awake_whoever_waited_for_the_wake_gets_in_all_the_same():
    woke = used(awake_since_s=NOW.mono_s, spec={"min_awake_s": 0.0})
    assert over_s(woke, waiting(age_s=500.0)) == 1.0


@pytest.mark.parametrize(("priority", "share"), [(1, 0.0), (0, 0.5), (-1, 0.75)])
def test_patience_is_with_the_higher_priority(priority, share):
    assert over_s(used(), waiting(spec={"priority": priority})) == share * 120.0


def test_patience_leaves_the_switch_its_time():
    assert over_s(used(), waiting(spec={"max_wait_s": 8.0})) == 8.0 - SWITCH_S
    assert over_s(used(), waiting(spec={"max_wait_s": 2.0})) == 0.0


def test_a_caller_who_leaves_sooner_has_less_patience():
    assert over_s(used(), waiting(waiters=(wish(lasts_s=50.0), wish(number=2)))) == 25.0


def test_a_model_that_is_not_used_waits_for_nobodys_patience():
    assert over_s(record("chat", awake_since_s=NOW.mono_s - 10.0, last_active_s=NOW.mono_s - 10.0), waiting()) == 50.0


def test_a_pause_between_requests_is_no_end_of_use():
    pausing = used(in_flight=0, last_active_s=NOW.mono_s - 2.0)
    assert lull_ends_s(pausing) == NOW.mono_s + 4.0
    assert over_s(pausing, waiting()) == 4.0
    made = turn(world(waiting(), pausing, free=TIGHT)).world
    assert made.tasks == {}
    assert made.models["qwen"].awaited.at_s == NOW.mono_s + 4.0
    assert turn(made, 4.0).world.tasks["chat"].kind is TaskKind.SLEEP


def test_a_model_that_woke_is_left_to_whoever_waited_for_that():
    woke = record("chat", last_active_s=NOW.mono_s, awake_since_s=NOW.mono_s, spec={"min_awake_s": 0.0})
    made = turn(world(waiting(), woke, free=TIGHT)).world
    assert made.tasks == {}, "those who waited are not let in before the turn has ended"
    assert made.models["qwen"].awaited.at_s == NOW.mono_s + 1.0
    assert next_deadline(made, NOW) == NOW.mono_s + 1.0
    assert turn(made, 1.0).world.tasks["chat"].kind is TaskKind.SLEEP


def test_a_model_that_woke_long_ago_and_was_not_used_is_in_no_pause():
    woke_s = NOW.mono_s - 10.0
    assert lull_ends_s(record("chat", last_active_s=woke_s, awake_since_s=woke_s)) < NOW.mono_s


def test_rules_and_debts_of_ours_end_nobodys_turn():
    ours = (record("qwen", ASLEEP, owed_wake=REQUEST), record("qwen", ASLEEP, wanted_by="morning"))
    for wanted in ours:
        after = turn(world(wanted, used(), free=TIGHT), 3600.0).world
        assert after.models["chat"].yields is None
        assert after.models["qwen"].awaited is None


# --- who is next -------------------------------------------------------------------------------------------------


def test_the_oldest_wish_is_next():
    line = wakes_waiting(Draft(world(waiting("a", 5.0), waiting("b", 30.0), waiting("c", 1.0)), NOW))
    assert [r.spec.name for r in line] == ["b", "a", "c"]


def test_who_is_next_and_has_much_patience_keeps_those_behind_it_waiting_no_longer_than_they_may():
    """It bars them from its GPUs, and waited for half of its own four minutes: they had thirty seconds."""
    holder = used(spec={"priority": 5})
    first = waiting("first", 30.0, spec={"priority": 5, "max_wait_s": 240.0})
    for age_s, shut in ((10.0, ()), (20.0, ("chat",))):
        behind = waiting("behind", age_s, spec={"max_wait_s": 30.0})
        made = turn(world(holder, first, behind, free=TIGHT))
        assert made.shut == shut
        assert made.world.models["first"].awaited == Awaited(("chat",), NOW.mono_s - age_s + 15.0)
        assert made.world.models["behind"].awaited.after == ("first",)


def test_a_higher_priority_is_next_unless_the_other_waited_for_half_of_its_max_wait():
    high = waiting("high", 0.0, spec={"priority": 3})
    for age_s, first in ((50.0, "high"), (55.0, "low")):
        line = wakes_waiting(Draft(world(high, waiting("low", age_s)), NOW))
        assert line[0].spec.name == first
    assert turn_due_s(waiting("low", 60.0), 0) == NOW.mono_s


def test_a_short_max_wait_comes_first():
    line = wakes_waiting(Draft(world(waiting("a", 20.0), waiting("b", 5.0, spec={"max_wait_s": 30.0})), NOW))
    assert [r.spec.name for r in line] == ["b", "a"]


def stopped(age_s: float):
    """One that was stopped for want of room, and is waited for."""
    unit = Known(UnitSeen(invocation="1"), NOW.mono_s, NOW.mono_s)
    spec = {"unit": "vllm@first.service", "vram_bytes": NEED}
    why = Stopped(Cause(CauseKind.RECOVERY, "a failure"), "1")
    life = Life(State.STOPPED, Weights.LOADED)
    return record("first", life, waiters=(wish(age_s),), spec=spec, unit=unit, stopped=why)


def test_a_start_has_its_turn_before_wakes_that_were_wished_later():
    idle = record("chat")
    after = turn(world(stopped(20.0), waiting("later", 10.0), idle, free=TIGHT)).world
    assert set(after.tasks) == {"first"}
    after = turn(world(stopped(10.0), waiting("sooner", 20.0), idle, free=TIGHT)).world
    assert set(after.tasks) == {"sooner", "chat"}


def test_a_start_that_waited_long_for_a_turn_is_not_overtaken():
    in_use = (used("chat"), record("idle"))
    first = stopped(20.0)
    first = replace(first, spec=replace(first.spec, vram_bytes=70 * GIB), footprint=Footprint())
    after = turn(world(first, waiting("later", 10.0), *in_use, free=TIGHT - 15 * GIB)).world
    assert after.tasks == {}
    assert after.models["first"].reason == "waits for its turn, after that of chat"


def test_a_start_that_cannot_be_begun_keeps_nobody_waiting():
    first, idle = stopped(20.0), record("chat")
    for cannot in ({"unit": Missing(MissingReason.UNREADABLE)}, {"cooldown_until_s": NOW.mono_s + 60.0}):
        after = turn(world(replace(first, **cannot), waiting("later", 10.0), idle, free=TIGHT)).world
        assert set(after.tasks) == {"later", "chat"}


def test_the_neighbour_whose_turn_is_over_first_gives_it_up():
    cheap = used("cheap", awake_since_s=NOW.mono_s - 10.0, last_active_s=NOW.mono_s)
    dear = used("dear", spec={"max_level": 1}, footprint=replace(record("x").footprint, durations={"wake1": (9.0,)}))
    after = turn(world(waiting(age_s=PATIENCE_S), cheap, dear, free=0), 0.0).world
    # 50 s of min_awake are felt, and so are 9 s of a slow wake.
    assert after.models["dear"].yields is not None or room_of(after).turns.of == ("dear",)
    assert after.models["cheap"].yields is None


def room_of(made, name: str = "qwen"):
    found = room_for(Draft(made, NOW), name, task_id=None, force=False)
    assert isinstance(found, WaitFor), found
    return found


@pytest.mark.parametrize(("max_wait_s", "age_s", "begun"), [(120.0, 4.0, ["late"]), (120.0, 5.0, []), (2.0, 2.0, [])])
def test_who_waited_for_its_max_wait_is_overtaken_by_nobody(max_wait_s, age_s, begun):
    """The first in line needs more than there is; whoever comes after it would fit."""
    small = replace(record("x").footprint, freed={"GPU-0": (10 * GIB,)})
    first = waiting("first", age_s, spec={"max_wait_s": max_wait_s, "priority": 3})
    made = turn(world(first, waiting("late", 0.0, footprint=small), used(), free=TIGHT)).world
    assert list(made.tasks) == begun
