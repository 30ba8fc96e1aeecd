"""Section 2 of the public contract, "Rules": precedence, force, host-RAM pressure, sentence by sentence."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, FACTS, KNOWN_ANSWER, NOW, host, proven, record, seen, world
from rule_worlds import (
    IDLE_S,
    NAP,
    NIGHT,
    RAM,
    begun,
    deep,
    kinds,
    looked,
    play,
    report,
    rule,
)

from sleepd.core.commands import AnswerKind
from sleepd.core.events import HostLooked
from sleepd.core.explain import explain
from sleepd.core.model import (
    Cause,
    CauseKind,
    Known,
    Mode,
)
from sleepd.core.rules import (
    KEEP_AWAKE,
    SLEEP_1,
    SLEEP_2,
    STOP,
    WAKE,
    GpuFreeBelow,
    IdleFor,
    LevelIs,
    Threshold,
)
from sleepd.core.unit import UnitSeen
from sleepd.core.units import GIB
from sleepd.core.wishes import HoldAsked, SleepAsked, WakeAsked

# --- "Precedence, highest first: ..." --------------------------------------------------------------------------------

KEEP = rule("office", KEEP_AWAKE, LevelIs(0))
VRAM = rule("vram", SLEEP_1, GpuFreeBelow(Threshold(bytes_=60 * GIB), Threshold(bytes_=70 * GIB)))
WAITING = WakeAsked(7, "a", "alice", 60.0)


def other(priority=0):
    """A sleeper that somebody waits for and that needs the room of the model."""
    made = record("b", ASLEEP, spec={"priority": priority})
    return made, WakeAsked(8, "b", "bob", 60.0)


@pytest.mark.parametrize(
    ("of", "rules", "wins"),
    [
        ({"in_flight": 1}, (VRAM,), ""),
        ({"seen": seen(running=1)}, (NIGHT,), ""),
        ({"spec": {"pinned": True}}, (VRAM,), ""),
        ({"awake_since_s": NOW.mono_s - 59.0}, (VRAM,), ""),
        ({}, (VRAM, KEEP), "sleep 1"),
        ({}, (NIGHT, KEEP), ""),
        ({}, (NIGHT, rule("up", WAKE, LevelIs(0))), "sleep 1"),
        ({}, (VRAM, rule("up", WAKE, LevelIs(0))), "sleep 1"),
    ],
    ids=[
        "in flight over pressure",
        "running over idle",
        "pin over pressure",
        "min_awake over pressure",
        "pressure over keep_awake",
        "keep_awake over idle",
        "idle over wake",
        "pressure over wake",
    ],
)
def test_precedence_among_rules_and_protections(of, rules, wins):
    for order in (rules, rules[::-1]):
        assert begun(play(world(record(**of), rules=order))) == wins


def test_a_hold_outranks_pressure_and_a_waiting_request():
    made = world(record(), record("b", ASLEEP), rules=(VRAM,), free=20 * GIB)
    turn = play(made, HoldAsked(1, "h", "a", 0, "alice", 60.0), WakeAsked(8, "b", "bob", 60.0))
    assert (begun(turn), begun(turn, "b")) == ("", "")


def test_a_waiting_request_outranks_pressure_on_its_own_model():
    made = world(record(life=AWAKE, waiters=()), rules=(VRAM,))
    waiting = replace(made.models["a"], owed_wake=Cause(CauseKind.OPERATOR, "x"))
    assert begun(play(replace(made, models={"a": waiting}))) == ""


@pytest.mark.parametrize(
    ("own", "theirs", "gives_way"), [(0, 0, False), (5, 0, False), (0, 5, True)], ids=["equal", "lower", "higher"]
)
def test_keep_awake_holds_against_waiting_requests_of_equal_or_lower_priority(own, theirs, gives_way):
    sleeper, ask = other(theirs)
    made = world(record(spec={"priority": own}), sleeper, rules=(KEEP,), free=20 * GIB)
    turn = play(made, ask)
    assert begun(turn) == ("sleep 1" if gives_way else "")
    without = play(replace(made, settings=replace(made.settings, rules=())), ask)
    assert begun(without) == "sleep 1"


# --- "Among sleeps that apply the deepest wins, never deeper than `max_level`, nor deeper than is safe" ---------------


@pytest.mark.parametrize(
    ("spec", "safe", "level"),
    [
        ({"max_level": 2}, True, 2),
        ({"max_level": 1}, True, 1),
        ({"max_level": 2}, False, 1),
        ({"max_level": 0}, True, 0),
    ],
    ids=["deepest", "max_level", "not proven", "max_level 0"],
)
def test_the_deepest_sleep_that_is_allowed_and_safe(spec, safe, level):
    # A draft model makes level 2 unsafe on that engine.
    facts = FACTS if safe else replace(FACTS, speculative=True)
    of = record(spec=spec, fingerprint=KNOWN_ANSWER, facts=facts, seen=seen(facts=facts))
    made = world(of, rules=(NIGHT, rule("deep", SLEEP_2, IdleFor(IDLE_S))))
    assert begun(play(proven(made))) == (f"sleep {level}" if level else "")


# --- "Force skips hold, pin, min_awake, keep_awake; never what is in flight." ----------------------------------------

FORCED = SleepAsked(9, "a", "root", 1, 60.0, force=True)


def test_force_skips_hold_pin_min_awake_and_keep_awake():
    of = record(spec={"pinned": True}, awake_since_s=NOW.mono_s - 1.0)
    made = play(world(of, rules=(KEEP,)), HoldAsked(1, "h", "a", 0, "alice", 60.0)).world
    assert begun(play(made, FORCED)) == "sleep 1"
    assert begun(play(made, replace(FORCED, force=False))) == ""


def test_force_never_touches_what_is_in_flight():
    turn = play(world(record(in_flight=1)), FORCED)
    assert [(c.kind, c.problem) for c in turn.commands if hasattr(c, "waiter")] == [(AnswerKind.REFUSED, "busy")]
    assert begun(turn) == ""


# --- "Host-RAM pressure" ---------------------------------------------------------------------------------------------


def short_of_ram(*records, rules=(NIGHT, RAM)):
    return play(world(*records, rules=rules, available=9 * GIB)).world


def test_under_ram_pressure_sleeps_that_are_due_go_to_level_2_where_proven():
    turn = play(proven(world(deep(), rules=(NIGHT, RAM), available=9 * GIB)))
    assert begun(turn) == "sleep 2"
    assert turn.world.tasks["a"].cause == Cause(CauseKind.RULE, "host-ram-pressure")


def test_ram_pressure_puts_nothing_to_sleep_that_is_not_due():
    for of in (deep(last_active_s=NOW.mono_s - 100.0), deep(awake_since_s=NOW.mono_s - 1.0)):
        assert begun(play(proven(world(of, rules=(NIGHT, RAM), available=9 * GIB)))) == ""


def test_where_level_2_is_not_allowed_it_stays_awake_if_its_backup_does_not_fit():
    turn = play(world(record(), rules=(NIGHT, RAM), available=9 * GIB))
    assert begun(turn) == ""
    assert "would not fit into host RAM" in explain(turn.world, "a", NOW).verdict


def test_where_nothing_can_help_that_is_said_once():
    turn = play(world(record(), rules=(RAM,), available=9 * GIB))
    assert kinds(turn).count("helpless") == 1
    again = play(turn.world, looked(at_s=1.0), at_s=1.0)
    assert "helpless" not in kinds(again)
    over = play(again.world, HostLooked(host(90 * GIB)), at_s=2.0)
    short = play(over.world, HostLooked(host(9 * GIB)), at_s=3.0)
    assert kinds(short).count("helpless") == 1, "another shortage is told again"


def test_a_backup_that_would_not_fit_is_refused_at_any_time():
    turn = play(world(record(), rules=(NIGHT,), available=9 * GIB))
    assert begun(turn) == ""
    refused = play(turn.world, SleepAsked(1, "a", "alice", 1, 60.0))
    assert [c.kind for c in refused.commands if hasattr(c, "waiter")] == [AnswerKind.REFUSED]


RUNS = Known(UnitSeen(active="active", sub="running", invocation="1"), NOW.mono_s, NOW.mono_s)
UNIT = {"unit": "vllm@a.service"}


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        ({}, "a has no unit: set unit in [models.a]"),
        (UNIT, "may_stop = false in [models.a]"),
    ],
)
def test_a_stop_that_may_not_be_is_told_once_with_what_is_missing(spec, missing):
    turn = play(world(record(spec=spec, unit=RUNS), rules=(rule("off", STOP, NAP),)))
    assert begun(turn) == ""
    assert kinds(turn) == ["stop_wanted"]
    assert report(turn.world, "off").missing == missing
    assert kinds(play(turn.world, at_s=1.0)) == []


@pytest.mark.parametrize("life", [AWAKE, ASLEEP])
def test_a_rule_stops_what_may_be_stopped_awake_or_asleep(life):
    made = world(record(life=life, spec={**UNIT, "may_stop": True}, unit=RUNS), rules=(rule("off", STOP, NAP),))
    assert begun(play(made)) == "stop 0"


def test_a_stop_that_is_only_observed_is_told():
    spec = {**UNIT, "may_stop": True, "mode": Mode.OBSERVE}
    turn = play(world(record(life=ASLEEP, spec=spec, unit=RUNS), rules=(rule("off", STOP, NAP),)))
    assert (begun(turn), kinds(turn)) == ("", ["would"])


def test_what_keep_awake_outranks_is_not_named_for_a_sleep_that_pressure_wants_deeper():
    vram = rule("vram", SLEEP_2, GpuFreeBelow(Threshold(bytes_=60 * GIB), Threshold(bytes_=70 * GIB)))
    turn = play(world(record(), rules=(KEEP, vram, NIGHT)))
    assert begun(turn) == "sleep 1"
    assert turn.world.tasks["a"].cause.who == "vram"


def test_a_keep_awake_rule_that_is_only_observed_stands_in_the_way_of_no_request():
    sleeper, ask = other()
    made = world(record(spec={"mode": Mode.OBSERVE}), sleeper, rules=(KEEP,), free=20 * GIB)
    assert begun(play(made, ask)) == "sleep 1"
