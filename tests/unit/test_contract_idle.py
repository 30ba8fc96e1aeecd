"""Section 2 of the public contract: idle time, missing readings, wakes, observe mode, groups, explain, by sentence."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, NOW, proven, record, seen, world
from rule_worlds import (
    BOTH,
    GIBS,
    HOURS,
    IDLE_S,
    MISSING,
    NAP,
    NIGHT,
    RAM,
    begun,
    calendar,
    deep,
    fresh,
    kinds,
    looked,
    morning,
    on_gpu,
    play,
    report,
    rule,
)

from sleepd.core.beginning import begin
from sleepd.core.commands import AnswerKind
from sleepd.core.draft import durable
from sleepd.core.events import GpusLooked, HostLooked, Leaving
from sleepd.core.explain import explain, next_action
from sleepd.core.model import Group, Known, Mode, Now, Settings
from sleepd.core.records import Saved
from sleepd.core.rules import (
    KEEP_AWAKE,
    SLEEP_1,
    SLEEP_2,
    STOP,
    WAKE,
    GpuFreeBelow,
    IdleFor,
    LevelIs,
)
from sleepd.core.seen import Activity
from sleepd.core.units import GIB
from sleepd.core.wishes import HoldAsked, SleepAsked, WakeAsked

# --- "Idle: ..." -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "busy", [{"in_flight": 1}, {"seen": seen(running=1)}, {"seen": seen(waiting=1)}], ids=["gate", "running", "waiting"]
)
def test_a_model_in_use_is_not_idle(busy):
    assert report(world(record(**busy), rules=(NIGHT,)), "night").conditions[0].holds is False


def test_an_open_hold_is_use_and_idle_time_starts_where_it_ends():
    made = play(world(record(), rules=(NIGHT,)), HoldAsked(1, "h", "a", 0, "alice", 60.0)).world
    assert report(made, "night", 30.0).conditions[0].found == "held"
    made = play(made, at_s=60.0).world
    assert report(made, "night", 90.0).conditions[0].found == "idle 30s"


def test_counters_that_move_are_use_and_looks_alone_are_not():
    made = world(record(activity=Activity(requests_done=5)), rules=(NIGHT,))
    still = play(made, looked(at_s=1.0, activity=Activity(requests_done=5)), at_s=1.0).world
    assert still.models["a"].last_active_s == made.models["a"].last_active_s
    moved = play(made, looked(at_s=1.0, activity=Activity(requests_done=6)), at_s=1.0).world
    assert moved.models["a"].last_active_s == NOW.mono_s + 1.0


def test_idle_time_goes_on_while_asleep_and_over_a_restart_of_the_daemon():
    asleep = world(record(life=ASLEEP), rules=(NIGHT,))
    assert report(asleep, "night", 100.0).conditions[0].found == "idle 11m40s"
    kept = durable(record(), NOW)
    reborn = begin(Settings({"a": record().spec}), Saved(models={"a": kept}), Now(50.0, NOW.wall_s + 300.0)).world
    idle_s = 50.0 - reborn.models["a"].last_active_s
    assert IDLE_S + 240.0 <= idle_s <= IDLE_S + 300.0, "to a minute, never more"


# --- "A reading is missing after 3 failed polls." --------------------------------------------------------------------


def test_a_reading_is_missing_after_three_failed_polls():
    made = world(record(spec={"pinned": True}), rules=(rule("x", SLEEP_1, GpuFreeBelow(*GIBS), LevelIs(0)),))
    for event in (GpusLooked(MISSING), HostLooked(MISSING)):
        held = made
        for n in range(3):
            reading = held.gpus if isinstance(event, GpusLooked) else held.host
            assert isinstance(reading, Known), f"after {n} failed polls"
            held = play(held, event, at_s=float(n)).world
        reading = held.gpus if isinstance(event, GpusLooked) else held.host
        assert reading == MISSING
    good = play(play(play(made, GpusLooked(MISSING)).world, GpusLooked(made.gpus)).world, GpusLooked(MISSING)).world
    assert isinstance(good.gpus, Known), "only in a row"


@pytest.mark.parametrize("then", [SLEEP_1, SLEEP_2, WAKE, STOP], ids=str)
def test_a_condition_on_a_missing_reading_fires_nothing(then):
    x = rule("x", then, HOURS, LevelIs(1 if then is WAKE else 0))
    made = proven(world(record(life=ASLEEP) if then is WAKE else deep(), rules=(x,)))
    turn = play(made)
    assert turn.world.tasks == {}
    assert kinds(turn) == []


def test_but_a_keep_awake_rule_counts_as_holding():
    keep = rule("office", KEEP_AWAKE, HOURS)
    assert begun(play(world(record(), rules=(NIGHT, keep)))) == "", "the calendar is not known yet"
    known = replace(world(record(), rules=(NIGHT, keep)), calendar=calendar(spans=((60.0, 120.0),)))
    assert begun(play(known)) == "sleep 1"
    refuted = rule("office", KEEP_AWAKE, HOURS, LevelIs(1))
    assert begun(play(world(record(), rules=(NIGHT, refuted)))) == "sleep 1", "another condition is known not to hold"


# --- wake rules ------------------------------------------------------------------------------------------------------


def test_a_wake_rule_without_a_cron_wakes_once_while_it_holds():
    x = rule("day", WAKE, HOURS)
    made = replace(world(record(life=ASLEEP), rules=(x,)), calendar=calendar(spans=((-60.0, 7200.0), (9000.0, 9999.0))))
    assert begun(play(made)) == "wake 1"
    woken = play(replace(made, models={"a": record()})).world
    napping = replace(woken, models={"a": replace(woken.models["a"], life=ASLEEP)})
    assert begun(play(fresh(napping, 60.0), at_s=60.0)) == "", "what put it to sleep since then was of another mind"
    over = play(napping, at_s=7200.0).world
    assert begun(play(fresh(over, 9000.0), at_s=9000.0)) == "wake 1", "another day"


def test_a_wake_that_another_rule_would_undo_at_once_is_not_begun():
    day, night = rule("day", WAKE, LevelIs(1)), rule("night", SLEEP_1, HOURS)
    made = replace(world(record(life=ASLEEP), rules=(day, night)), calendar=calendar(spans=((-60.0, 60.0),)))
    assert begun(play(made)) == ""
    assert report(made, "day").missing == "another rule would put it to sleep again at once"
    assert begun(play(world(record(life=ASLEEP), rules=(day, NIGHT)))) == "wake 1", "idle time starts anew with a wake"


def test_a_wake_by_a_rule_takes_nobodys_room():
    made = world(record(life=ASLEEP), record("b"), rules=(rule("day", WAKE, LevelIs(1)),), free=20 * GIB)
    assert play(made).world.tasks == {}


# --- observe mode ----------------------------------------------------------------------------------------------------

WATCHED = {"mode": Mode.OBSERVE}


@pytest.mark.parametrize("then", [SLEEP_1, WAKE], ids=str)
def test_in_observe_mode_rules_are_told_as_would_once_and_do_nothing(then):
    x = rule("x", then, LevelIs(1 if then is WAKE else 0))
    made = world(record(life=ASLEEP if then is WAKE else AWAKE, spec=WATCHED), rules=(x,))
    turn = play(made)
    assert (turn.world.tasks, kinds(turn)) == ({}, ["would"])
    assert kinds(play(turn.world, at_s=1.0)) == []
    assert report(turn.world, "x").holds
    assert report(turn.world, "x").missing == "observe mode: told, not done"


def test_in_observe_mode_requests_and_operators_still_act():
    made = world(record(spec=WATCHED), record("b", ASLEEP), free=20 * GIB)
    assert begun(play(made, SleepAsked(1, "a", "alice", 1, 60.0))) == "sleep 1"
    assert begun(play(made, WakeAsked(2, "b", "alice", 60.0))) == "sleep 1", "it makes room for who waits"


def test_in_observe_mode_level_2_is_not_checked_by_itself():
    assert play(world(record(spec=WATCHED | {"max_level": 2}))).world.tasks == {}


# --- `[daemon] on_stop = "wake"` --------------------------------------------------------------------------------------


def test_leaving_wakes_every_sleeper_that_finds_room_and_puts_nobody_to_sleep():
    made = world(record(life=ASLEEP), record("b"), rules=(NIGHT,), free=40 * GIB)
    turn = play(made, Leaving())
    assert (begun(turn), begun(turn, "b")) == ("wake 1", "")
    full = play(replace(made, gpus=on_gpu(20)["gpus"]), Leaving())
    assert full.world.tasks == {}, "nobody else gives way for it"


def test_a_wake_owed_at_the_end_is_not_owed_by_the_next_daemon():
    turn = play(world(record(life=ASLEEP), free=GIB), Leaving())
    assert turn.world.models["a"].owed_wake is not None
    kept = durable(turn.world.models["a"], NOW)
    reborn = begin(Settings({"a": record().spec}), Saved(models={"a": kept}), NOW).world
    assert reborn.models["a"].owed_wake is None


# --- groups ----------------------------------------------------------------------------------------------------------


def grouped(*records, **more):
    made = world(*records, free=79 * GIB, **more)
    return replace(made, settings=replace(made.settings, groups=(Group("big", BOTH, 1),)))


def test_a_wake_beyond_max_awake_puts_a_member_to_sleep_first():
    turn = play(grouped(record(life=ASLEEP), record("b")), WakeAsked(1, "a", "alice", 60.0))
    assert (begun(turn, "b"), turn.world.tasks["a"].victim) == ("sleep 1", "b")


def test_a_wake_is_refused_group_full_where_no_member_may_sleep():
    made = grouped(record(life=ASLEEP), record("b", spec={"pinned": True}))
    turn = play(made, WakeAsked(1, "a", "alice", 60.0))
    assert [(c.kind, c.problem) for c in turn.commands if hasattr(c, "waiter")] == [(AnswerKind.REFUSED, "group_full")]


def test_a_wake_waits_for_a_member_in_use_and_is_told_group_full_in_the_end():
    made = grouped(record(life=ASLEEP), record("b", in_flight=1))
    turn = play(made, WakeAsked(1, "a", "alice", 60.0))
    assert turn.world.tasks == {}
    late = play(fresh(turn.world, 60.0), at_s=60.0)
    assert [(c.kind, c.problem) for c in late.commands if hasattr(c, "waiter")] == [(AnswerKind.REFUSED, "group_full")]


# --- "Every decision carries its evidence; `sleepctl explain MODEL` prints for every rule ..." ----


def test_a_decision_carries_its_evidence():
    turn = play(world(record(), rules=(rule("x", SLEEP_1, NAP, LevelIs(0)),)))
    told = next(n for n in turn.notes if n.kind == "rule")
    found = {"idle": "idle 10m (wanted idle 10m)", "level": "level 0 (wanted level 0)"}
    assert told.data == {"rule": "x", "action": "sleep 1", **found}


def test_explain_says_of_every_rule_whether_it_holds_what_is_missing_and_when_it_would_fire():
    rules = (
        rule("nap", SLEEP_1, IdleFor(900.0)),
        rule("off", SLEEP_1, NAP, enabled=False),
        rule("office", KEEP_AWAKE, HOURS),
        rule("ram", SLEEP_2, *RAM.conditions),
    )
    made = replace(world(record(), rules=rules), calendar=calendar(spans=((100.0, 200.0),)))
    told = {r.rule: (r.holds, r.due_in_s, r.missing) for r in explain(made, "a", NOW).rules}
    assert told == {
        "nap": (False, 300.0, "wants idle 15m, found idle 10m"),
        "off": (False, None, "disabled"),
        "office": (False, 100.0, "wants every day 00:00-01:00 (UTC), found outside, next in 1m40s"),
        "ram": (False, None, "wants less than 10GiB of host RAM available, found 90GiB"),
    }
    coming = next_action(made, "a", NOW)
    assert (coming.rule, coming.action, coming.in_s) == ("nap", "sleep 1", 300.0)


def test_next_is_a_wake_where_a_calendar_brings_one():
    coming = next_action(morning(), "a", NOW)
    assert (coming.rule, coming.action, coming.in_s) == ("m", "wake", pytest.approx(100.0))


def test_next_waits_for_what_keeps_it_awake_now():
    keep = rule("office", KEEP_AWAKE, HOURS)
    made = replace(world(record(), rules=(NIGHT, keep)), calendar=calendar(spans=((-60.0, 100.0),)))
    assert next_action(made, "a", NOW).in_s == pytest.approx(100.0)
    assert report(made, "night").missing == "rule office keeps it awake"
