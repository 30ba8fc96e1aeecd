"""Section 2 of the public contract, "Rules": conditions, and when a rule that holds may act."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, record, seen, world
from rule_worlds import (
    CRON,
    GIBS,
    HOURS,
    L2,
    MISSING,
    NAP,
    NEVER,
    TENTH,
    begun,
    calendar,
    fresh,
    kinds,
    later,
    looked,
    morning,
    on_gpu,
    on_host,
    play,
    report,
    rule,
)

from sleepd.core.beginning import begin
from sleepd.core.deadlines import next_deadline
from sleepd.core.events import GpusLooked, HostLooked, ModelLooked, Tick
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Known, Now, Settings
from sleepd.core.records import RuleSaved, Saved
from sleepd.core.rules import (
    KEEP_AWAKE,
    SLEEP_1,
    SLEEP_2,
    STOP,
    WAKE,
    AsleepFor,
    AwakeFor,
    GpuFreeBelow,
    HostAvailableBelow,
    HostPressureAbove,
    IdleFor,
    LevelIs,
    PredictedIdle,
    Rate,
    RequestsBelow,
    RuleClass,
    Threshold,
    UnitMemoryAbove,
)
from sleepd.core.seen import Activity, GpuSeen, UnitMemory
from sleepd.core.units import GIB
from sleepd.core.world import DetectorMemory

# --- "All conditions of one `when` must hold; rules are OR-ed." ------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "acts"),
    [
        ((rule("x", SLEEP_1, NAP, AwakeFor(3600.0)),), "sleep 1"),
        ((rule("x", SLEEP_1, NAP, AwakeFor(3601.0)),), ""),
        ((rule("x", SLEEP_1, NEVER), rule("y", SLEEP_1, NAP)), "sleep 1"),
        ((rule("x", SLEEP_1, NEVER), rule("y", SLEEP_1, NEVER)), ""),
        ((rule("x", SLEEP_1, NAP, enabled=False),), ""),
    ],
    ids=["all hold", "one does not", "one of two rules", "no rule", "disabled"],
)
def test_all_conditions_must_hold_and_rules_are_ored(rules, acts):
    assert begun(play(world(record(), rules=rules))) == acts


# --- "Conditions: ..." -----------------------------------------------------------------------------------------------


UNIT = UnitMemory(30 * GIB, 30 * GIB, limit_bytes=64 * GIB, limit_used_bytes=60 * GIB)


@pytest.mark.parametrize(
    ("condition", "of", "around", "holds"),
    [
        (IdleFor(600.0), {}, {}, True),
        (IdleFor(601.0), {}, {}, False),
        (IdleFor(600.0), {"seen": MISSING}, {}, None),
        (AwakeFor(3600.0), {}, {}, True),
        (AwakeFor(3601.0), {}, {}, False),
        (AwakeFor(1.0), {"life": ASLEEP}, {}, False),
        (AsleepFor(60.0), {"life": ASLEEP, "since_s": NOW.mono_s - 60.0}, {}, True),
        (AsleepFor(61.0), {"life": ASLEEP, "since_s": NOW.mono_s - 60.0}, {}, False),
        (AsleepFor(1.0), {}, {}, False),
        (LevelIs(0), {}, {}, True),
        (LevelIs(1), {}, {}, False),
        (LevelIs(1), {"life": ASLEEP}, {}, True),
        (LevelIs(2), {"life": L2}, {}, True),
        (LevelIs(1), {"life": Life(State.UNKNOWN, Weights.DOUBTFUL)}, {}, None),
        (HostAvailableBelow(*TENTH), {}, on_host(9), True),
        (HostAvailableBelow(*TENTH), {}, on_host(10), False),
        (HostAvailableBelow(*GIBS), {}, on_host(9), True),
        (HostAvailableBelow(*GIBS), {}, {"host": MISSING}, None),
        (HostPressureAbove(0.20, 0.10), {}, on_host(90, 0.21), True),
        (HostPressureAbove(0.20, 0.10), {}, on_host(90, 0.20), False),
        (HostPressureAbove(0.20, 0.10), {}, on_host(90, None), None),
        (UnitMemoryAbove(*GIBS[::-1]), {"seen": seen(unit_memory=UNIT)}, {}, True),
        (UnitMemoryAbove(Threshold(bytes_=31 * GIB), GIBS[0]), {"seen": seen(unit_memory=UNIT)}, {}, False),
        (UnitMemoryAbove(Threshold(share=0.9), Threshold(share=0.8)), {"seen": seen(unit_memory=UNIT)}, {}, True),
        (UnitMemoryAbove(Threshold(share=0.95), Threshold(share=0.8)), {"seen": seen(unit_memory=UNIT)}, {}, False),
        (UnitMemoryAbove(*GIBS), {}, {}, None),
        (UnitMemoryAbove(*TENTH), {"seen": seen(unit_memory=UnitMemory(GIB, GIB))}, {}, None),
        (GpuFreeBelow(*GIBS), {}, on_gpu(9), True),
        (GpuFreeBelow(*GIBS), {}, on_gpu(10), False),
        (GpuFreeBelow(*TENTH), {}, on_gpu(7), True),
        (GpuFreeBelow(*GIBS), {}, {"gpus": MISSING}, None),
        (HOURS, {}, {"calendar": calendar(spans=((-60.0, 60.0),))}, True),
        (HOURS, {}, {"calendar": calendar(spans=((60.0, 120.0),))}, False),
        (HOURS, {}, {"calendar": calendar(spans=((-60.0, 0.0),))}, False),
        (HOURS, {}, {}, None),
        (CRON, {}, {"calendar": calendar(moments=(0.0,))}, True),
        (CRON, {}, {"calendar": calendar(moments=(-599.0,))}, True),
        (CRON, {}, {"calendar": calendar(moments=(-600.0,))}, False),
        (CRON, {}, {"calendar": calendar(moments=(1.0,))}, False),
        (CRON, {}, {}, None),
        (PredictedIdle(60.0), {}, {"calendar": calendar()}, True),
        (PredictedIdle(601.0), {}, {"calendar": calendar()}, False),
        (PredictedIdle(60.0), {}, {}, None),
    ],
)
def test_every_condition(condition, of, around, holds):
    of = record(spec={"pinned": True}, **of)
    made = play(replace(world(of, rules=(rule("x", SLEEP_1, condition),)), **around)).world
    found = report(made, "x")
    assert found.conditions[0].holds is holds
    assert found.holds is bool(holds)
    assert found.conditions[0].wanted
    assert found.conditions[0].found
    assert found.missing, "it is pinned at least"


def test_a_gpu_rule_looks_at_any_gpu_of_the_model():
    gpus = (GpuSeen("GPU-0", 0, 80 * GIB, 50 * GIB), GpuSeen("GPU-1", 1, 80 * GIB, 5 * GIB))
    reading = Known(gpus, NOW.mono_s, NOW.mono_s)
    one = record(spec={}, placed_on=("GPU-0",))
    two = replace(one, spec=replace(one.spec, gpus=("0", "1")))
    x = rule("x", SLEEP_1, GpuFreeBelow(*GIBS))
    for of, holds in ((one, False), (two, True)):
        made = play(world(of, rules=(x,)), GpusLooked(reading)).world
        assert report(made, "x").holds is holds


# --- "`requests_below = "2/min"` with `window = "10m"`" --------------------------------------------------------------

RARE = RequestsBelow(Rate(2.0, 60.0), Rate(2.0, 60.0), 600.0)


def requests(counts, every_s=60.0, before=None):
    """Look every `every_s` seconds; `counts` requests ended in between each time."""
    done, made = 100, before or world(record(activity=Activity(requests_done=100)), rules=(rule("x", SLEEP_1, RARE),))
    made = play(made, looked(activity=Activity(requests_done=done)), at_s=0.0).world
    for n, count in enumerate(counts, 1):
        done += count
        made = play(
            fresh(made, n * every_s), looked(at_s=n * every_s, activity=Activity(requests_done=done)), at_s=n * every_s
        ).world
    return made, len(counts) * every_s


@pytest.mark.parametrize(
    ("counts", "holds"),
    [([1] * 10, True), ([2] * 10, False), ([0] * 9, None), ([19] + [0] * 9, True), ([20] + [0] * 9, False)],
    ids=["1/min", "2/min is not below", "watched for 9m of 10m", "19 in 10m", "20 in 10m"],
)
def test_requests_are_counted_over_the_whole_window(counts, holds):
    made, at_s = requests(counts)
    assert report(made, "x", at_s).conditions[0].holds is holds


def test_a_window_counts_only_what_was_observed():
    made, at_s = requests([1] * 10)
    for n in range(3):
        made = play(made, ModelLooked("a", MISSING), at_s=at_s + n).world
    assert report(made, "x", at_s + 3).conditions[0].holds is None
    made = play(made, looked(at_s=at_s + 4, activity=Activity(requests_done=110)), at_s=at_s + 4).world
    assert report(made, "x", at_s + 5).conditions[0].holds is None, "it begins anew after a gap"


def test_time_alone_ends_a_burst_and_its_end_is_a_deadline():
    made, at_s = requests([30] + [0] * 9)
    assert report(made, "x", at_s).conditions[0].holds is False
    due_s = next_deadline(made, later(at_s))
    assert at_s < due_s - NOW.mono_s <= at_s + 60.0 + 5.0
    assert begun(play(fresh(made, due_s - NOW.mono_s), at_s=due_s - NOW.mono_s)) == "sleep 1"


# --- "`for` = how long the whole `when` must hold" · "`until` = where the rule's one threshold lets go" ------------


def test_for_counts_from_when_the_whole_when_began_to_hold():
    x = rule("x", SLEEP_1, NAP, for_s=30.0)
    turn = play(world(record(), rules=(x,)))
    assert begun(turn) == ""
    assert next_deadline(turn.world, NOW) == pytest.approx(NOW.mono_s + 30.0)
    assert begun(play(turn.world, at_s=29.9)) == ""
    assert begun(play(turn.world, at_s=30.0)) == "sleep 1"


def test_for_counts_only_what_was_observed():
    x = rule("x", SLEEP_1, NAP, for_s=30.0)
    made = play(world(record(), rules=(x,))).world
    for n in range(3):
        made = play(made, ModelLooked("a", MISSING), at_s=20.0 + n).world
    back = play(made, looked(at_s=25.0), at_s=25.0)
    assert begun(play(back.world, at_s=31.0)) == ""
    assert begun(play(back.world, at_s=55.0)) == "sleep 1"


@pytest.mark.parametrize("condition", [GpuFreeBelow(*GIBS), HostAvailableBelow(*GIBS)], ids=["gpu", "host"])
def test_until_lets_go_later_than_the_threshold_takes_hold(condition):
    made = world(record(spec={"pinned": True}), rules=(rule("x", SLEEP_1, condition),))
    seen_holds = []
    for free in (11, 9, 11, 12, 13, 11):
        around = on_gpu(free) if isinstance(condition, GpuFreeBelow) else on_host(free)
        made = play(made, *(GpusLooked(r) if k == "gpus" else HostLooked(r) for k, r in around.items())).world
        seen_holds.append(report(made, "x").holds)
    assert seen_holds == [False, True, True, True, False, False]


# --- "`within` = how long a `cron` stays true (default 10m; retried until achieved)" ---------------------------------


def test_a_cron_wakes_at_its_moment_and_that_is_a_deadline():
    made = morning()
    assert begun(play(made)) == ""
    assert next_deadline(made, NOW) == pytest.approx(NOW.mono_s + 100.0)
    assert begun(play(fresh(made, 100.0), at_s=100.0)) == "wake 1"


def test_a_wake_that_finds_no_room_is_retried_until_within_is_over():
    made = replace(morning(), gpus=on_gpu(1)["gpus"])
    at = 100.0
    full = play(fresh(made, at), at_s=at)
    assert (begun(full), full.world.models["a"].wanted_by) == ("", "m")
    room = replace(full.world, gpus=on_gpu(40)["gpus"])
    assert begun(play(fresh(room, 500.0), at_s=500.0)) == "wake 1"
    assert begun(play(fresh(room, 700.0), at_s=700.0)) == "", "within 10m"


def test_what_was_achieved_for_a_moment_is_not_done_again_for_it():
    x = rule("m", WAKE, CRON)
    made = replace(world(record(awake_since_s=NOW.mono_s), rules=(x,)), calendar=calendar(moments=(-10.0, 86_500.0)))
    made = play(made).world
    slept = replace(made, models={"a": replace(made.models["a"], life=ASLEEP)})
    assert begun(play(fresh(slept, 60.0), at_s=60.0)) == ""
    assert "done for this moment" in report(slept, "m", 60.0).missing
    assert begun(play(fresh(slept, 86_500.0), at_s=86_500.0)) == "wake 1"


@pytest.mark.parametrize(("down_s", "acts"), [(500.0, "wake 1"), (700.0, "")])
def test_a_moment_missed_while_the_daemon_was_down_counts_while_within_lasts(down_s, acts):
    made = replace(morning(), calendar=calendar(moments=(0.0,)))
    assert begun(play(fresh(made, down_s), at_s=down_s)) == acts


def test_a_clock_set_back_does_not_fire_a_moment_twice():
    made = replace(world(record(), rules=(rule("m", WAKE, CRON),)), calendar=calendar(moments=(-10.0,)))
    made = play(made).world
    slept = replace(made, models={"a": replace(made.models["a"], life=ASLEEP)})
    back = Now(NOW.mono_s + 5.0, NOW.wall_s - 3600.0)
    early = step(slept, [Tick()], back).world
    again = Now(NOW.mono_s + 3605.0, NOW.wall_s)
    assert step(fresh(early, 3605.0), [Tick()], again).world.tasks == {}


# --- "`cooldown` (default 10m for memory rules, else 0), at most 6 actions an hour and model, then an alarm event" ---


def acted(*ages_s, name="x"):
    return DetectorMemory(acts={(name, "a"): tuple(NOW.mono_s - age for age in sorted(ages_s, reverse=True))})


def test_a_rule_rests_for_its_cooldown():
    x = rule("x", SLEEP_1, NAP, cooldown_s=600.0)
    made = world(record(), rules=(x,), memory=acted(500.0))
    assert begun(play(made)) == ""
    assert report(made, "x").missing == "its cooldown leaves 1m40s"
    assert next_deadline(made, NOW) == pytest.approx(NOW.mono_s + 100.0)
    assert begun(play(made, at_s=100.0)) == "sleep 1"


def test_a_rule_acts_at_most_six_times_an_hour_and_model_then_it_is_an_alarm_once():
    x = rule("x", SLEEP_1, NAP)
    made = world(record(), rules=(x,), memory=acted(*(600.0 * n - 1.0 for n in range(1, 7))))
    first = play(made)
    assert (begun(first), kinds(first)) == ("", ["alarm"])
    assert kinds(play(first.world, at_s=0.5)) == []
    assert begun(play(first.world, at_s=1.0)) == "sleep 1", "the oldest of them is an hour ago"
    five = world(record(), rules=(x,), memory=acted(*(60.0 * n for n in range(1, 6))))
    assert begun(play(five)) == "sleep 1"
    other = world(record(), record("b"), rules=(x,), memory=made.memory)
    assert begun(play(other), "b") == "sleep 1", "another model is another count"


def test_actions_and_what_was_achieved_outlive_the_daemon():
    x, m = rule("x", SLEEP_1, NAP), rule("m", WAKE, CRON)
    turn = play(world(record(), rules=(x,)))
    assert [r for r in turn.records if isinstance(r, RuleSaved)] == [RuleSaved("x", "a", (NOW.wall_s,))]
    kept = {("m", "a"): RuleSaved("m", "a", (NOW.wall_s - 30.0,), True, NOW.wall_s - 30.0)}
    settings = Settings({"a": record().spec}, (x, m))
    reborn = begin(settings, Saved(rules=kept), Now(50.0, NOW.wall_s)).world.memory
    assert reborn.acts == {("m", "a"): (20.0,)}
    assert reborn.dealt_with == {("m", "a"): NOW.wall_s - 30.0}
    assert reborn.achieved == {("m", "a")}


# --- "Class: any memory threshold makes a rule pressure; `wake` is wake; any other sleep or stop is idle." -----------


@pytest.mark.parametrize(
    ("then", "conditions", "kind"),
    [
        (SLEEP_1, (IdleFor(1.0),), RuleClass.IDLE),
        (STOP, (IdleFor(1.0),), RuleClass.IDLE),
        (SLEEP_2, (HOURS,), RuleClass.IDLE),
        (SLEEP_1, (IdleFor(1.0), GpuFreeBelow(*GIBS)), RuleClass.PRESSURE),
        (SLEEP_2, (HostPressureAbove(0.2, 0.2),), RuleClass.PRESSURE),
        (STOP, (UnitMemoryAbove(*GIBS),), RuleClass.PRESSURE),
        (WAKE, (CRON,), RuleClass.WAKE),
        (KEEP_AWAKE, (HOURS,), RuleClass.KEEP_AWAKE),
    ],
)
def test_the_class_of_a_rule(then, conditions, kind):
    assert rule("x", then, *conditions).kind is kind
