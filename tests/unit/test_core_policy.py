"""Rules: which hold and why, thresholds that let go later than they take, what protects, which level fits."""

import math
from dataclasses import replace

import pytest
from core_worlds import FACTS, KNOWN_ANSWER, NOW, host, nap, pressure, proven, record, seen, world

from sleepd.core.conditions import idle_s, is_busy, is_idle_for
from sleepd.core.deadlines import next_deadline
from sleepd.core.detector import evaluate_all, remember, watch_thresholds
from sleepd.core.known_answer import NEVER_TAKEN, UPDATED
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason, Now
from sleepd.core.policy import (
    NO_ANSWER_YET,
    NOT_CHECKED,
    level2_refusal,
    level_for,
    protections,
    want_of,
)
from sleepd.core.record import AskKind, Hold, Waiter
from sleepd.core.rule_reports import report_rules
from sleepd.core.rules import SLEEP_2, IdleFor
from sleepd.core.seen import CallCount, ControlCounts
from sleepd.core.units import GIB
from sleepd.core.world import DetectorMemory

MISSING = Missing(MissingReason.TIMED_OUT)
CROSSED = frozenset({("host-ram-pressure", "a", 0), ("host-ram-pressure", "b", 0)})
BELOW = DetectorMemory(crossed=CROSSED)


def report(rule, of, *, reading=None, memory=None, now_s=NOW.mono_s):
    made = replace(world(of, rules=(rule,), memory=memory), host=reading or host(90 * GIB))
    return report_rules(made, of, at(now_s))[0]


def at(now_s):
    return Now(now_s, NOW.wall_s + now_s - NOW.mono_s)


def remember_rules(made, of, now_s):
    made = replace(made, models={of.spec.name: of})
    return remember(of, made, at(now_s), evaluate_all(of, made, at(now_s)))


# --- idle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("idle", "holds", "due_s"), [(0.0, False, 300.0), (299.0, False, 1.0), (300.0, True, 0.0)])
def test_idle_holds_from_its_duration_on_and_says_when(idle, holds, due_s):
    found = report(nap(), record(last_active_s=NOW.mono_s - idle))
    assert (found.holds, found.due_in_s) == (holds, due_s)
    assert found.conditions[0].wanted == "idle 5m"


@pytest.mark.parametrize(
    "busy", [{"in_flight": 1}, {"seen": seen(running=1)}, {"seen": seen(waiting=2)}], ids=["gate", "running", "waiting"]
)
def test_a_busy_model_is_not_idle_and_time_alone_changes_that_never(busy):
    of = record(**busy)
    assert is_busy(of)
    assert idle_s(of, NOW.mono_s) == 0.0
    found = report(nap(), of)
    assert (found.holds, found.due_in_s) == (False, None)
    assert found.conditions[0].found == "in use"


def test_a_clock_that_stands_before_the_last_use_means_idle_zero():
    assert idle_s(record(last_active_s=NOW.mono_s + 5.0), NOW.mono_s) == 0.0


def test_idle_for_holds_at_the_very_moment_that_the_deadline_names():
    last_s, least_s = 1000.1, 60.0
    due_s = last_s + least_s
    assert due_s - last_s < least_s, "a difference of these floats falls short"
    of = record(last_active_s=last_s, spec={"min_awake_s": least_s, "prime": True})
    assert due_s == next_deadline(world(of), at(due_s - 1.0))
    assert is_idle_for(of, least_s, due_s)
    assert not is_idle_for(of, least_s, math.nextafter(due_s, 0.0))
    assert not is_idle_for(replace(of, in_flight=1), least_s, due_s + 1.0)
    assert not is_idle_for(replace(of, holds=(Hold("h", 1, "ann", "", 0.0, None, None, None),)), least_s, due_s + 1.0)


def test_a_missing_look_has_no_opinion():
    found = report(nap(), record(seen=MISSING))
    assert found.conditions[0].holds is None
    assert (found.holds, found.due_in_s) == (False, None)
    assert want_of(world(record(seen=MISSING), rules=(nap(),)), record(seen=MISSING), NOW) == (None, "")


# --- host thresholds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "was", "now"),
    [
        (9, False, True),
        (10, False, False),  # below means below
        (12, False, False),
        (9, True, True),
        (12, True, True),  # between the two bounds it stays as it was
        (15, True, True),
        (16, True, False),
    ],
)
def test_host_pressure_lets_go_later_than_it_takes(available, was, now):
    memory = BELOW if was else DetectorMemory()
    made = world(record(), record("b"), rules=(pressure(),), available=available * GIB, memory=memory)
    after = watch_thresholds(made, ("a", "b"))
    assert after.crossed == (CROSSED if now else frozenset())


def test_unchanged_memory_is_the_same_object():
    """Who compares by identity (a turn without news) must see that nothing changed."""
    memory = DetectorMemory()
    made = world(record(), rules=(pressure(), nap()), memory=memory)
    assert watch_thresholds(made, ("a",)) is memory
    assert remember_rules(made, record(), NOW.mono_s) is memory


def test_missing_host_ram_has_no_opinion_and_forgets_the_crossing():
    made = replace(world(record(), rules=(pressure(),), memory=BELOW), host=MISSING)
    assert ("host-ram-pressure", "a", 0) not in watch_thresholds(made, ("a",)).crossed
    found = report(pressure(), record(), reading=MISSING, memory=BELOW)
    assert found.conditions[0].holds is None
    assert (found.holds, found.due_in_s) == (False, None)


def test_the_report_names_the_bound_that_decides():
    entering = report(pressure(), record(), reading=host(50 * GIB)).conditions[0]
    assert (entering.wanted, entering.found, entering.holds) == (
        "less than 10GiB of host RAM available",
        "50GiB",
        False,
    )
    leaving = report(pressure(), record(), reading=host(12 * GIB), memory=BELOW).conditions[0]
    assert (leaving.wanted, leaving.holds) == ("less than 15GiB of host RAM available", True)


# --- for ---------------------------------------------------------------------------------------------------------


def test_for_counts_from_when_all_conditions_began_to_hold():
    rule, of = nap(for_s=15.0), record()
    memory = remember_rules(world(of, rules=(rule,)), of, NOW.mono_s)
    assert memory.held_since_s == {("nap", "a"): NOW.mono_s}
    at_10 = report(rule, of, memory=memory, now_s=NOW.mono_s + 10.0)
    assert (at_10.holds, at_10.due_in_s) == (False, 5.0)
    assert at_10.conditions[-1].name == "for"
    assert report(rule, of, memory=memory, now_s=NOW.mono_s + 15.0).holds


def test_for_begins_anew_after_a_condition_let_go():
    rule, of = nap(for_s=15.0), record()
    memory = remember_rules(world(of, rules=(rule,)), of, NOW.mono_s)
    used = replace(of, in_flight=1)
    memory = remember_rules(world(used, rules=(rule,), memory=memory), used, NOW.mono_s + 10.0)
    assert memory.held_since_s == {}
    memory = remember_rules(world(of, rules=(rule,), memory=memory), of, NOW.mono_s + 12.0)
    assert not report(rule, of, memory=memory, now_s=NOW.mono_s + 20.0).holds


def test_for_counts_only_what_was_observed():
    rule, of = nap(for_s=15.0), record(seen=MISSING)
    memory = DetectorMemory(held_since_s={("nap", "a"): NOW.mono_s - 60.0})
    assert remember_rules(world(of, rules=(rule,), memory=memory), of, NOW.mono_s).held_since_s == {}


def test_what_is_due_adds_for_to_what_the_conditions_need():
    found = report(nap(for_s=15.0), record(last_active_s=NOW.mono_s - 290.0))
    assert found.due_in_s == pytest.approx(25.0)


def test_all_conditions_must_hold():
    both = nap(conditions=(IdleFor(300.0), *pressure().conditions))
    assert not report(both, record()).holds
    assert report(both, record()).due_in_s is None, "no time alone makes host RAM short"
    short = DetectorMemory(crossed=frozenset({("nap", "a", 1)}))
    assert report(both, record(), memory=short).holds


# --- wants -------------------------------------------------------------------------------------------------------


def want(*rules, of=None, made=None):
    of = of or record()
    return want_of(made or world(of, rules=rules), of, NOW)


def test_an_idle_rule_that_holds_wants_sleep_with_its_evidence():
    found, refusal = want(nap(), pressure())
    assert refusal == ""
    assert (found.model, found.level, found.rule.name) == ("a", 1, "nap")


def test_pressure_alone_puts_nothing_to_sleep():
    of = record(last_active_s=NOW.mono_s - 100.0)
    made = world(of, rules=(nap(), pressure()), available=9 * GIB, memory=BELOW)
    assert want(of=of, made=made) == (None, "")


def test_pressure_deepens_what_an_idle_rule_wants_where_level_2_is_proven():
    of = record(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)
    made = proven(world(of, rules=(nap(), pressure()), available=9 * GIB, memory=BELOW))
    found, _ = want(of=of, made=made)
    assert (found.level, found.rule.name) == (2, "host-ram-pressure")


def test_pressure_that_may_not_deepen_leaves_it_awake_where_the_backup_does_not_fit():
    made = world(record(), rules=(nap(), pressure()), available=9 * GIB, memory=BELOW)
    found, refusal = want(made=made)
    assert found is None
    assert refusal == "its backup would not fit into host RAM above the reserve"


def test_among_idle_rules_the_deepest_wins():
    of = record(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)
    made = proven(world(of, rules=(nap(), nap(name="deep", action=SLEEP_2))))
    found, _ = want(of=of, made=made)
    assert found.level == 2


def test_rules_of_other_models_want_nothing():
    assert want(nap(applies_to=frozenset({"b"}))) == (None, "")


# --- levels ------------------------------------------------------------------------------------------------------


def test_max_level_0_keeps_it_awake():
    of = record(spec={"max_level": 0})
    assert level_for(world(of), of, 2) == (0, "max_level = 0 keeps it awake")


@pytest.mark.parametrize(
    ("max_level", "is_proven", "wanted", "level"), [(1, True, 2, 1), (2, False, 2, 1), (2, True, 2, 2), (2, True, 1, 1)]
)
def test_level_2_needs_to_be_wanted_allowed_and_proven(max_level, is_proven, wanted, level):
    of = record(spec={"max_level": max_level}, fingerprint=KNOWN_ANSWER)
    made = proven(world(of)) if is_proven else world(of)
    assert level_for(made, of, wanted) == (level, "")


def test_level_2_takes_no_host_ram():
    of = record(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)
    assert level_for(proven(world(of, available=GIB)), of, 2) == (2, "")
    assert level_for(proven(world(of, available=GIB)), of, 1)[0] == 0


@pytest.mark.parametrize(
    ("available", "fits"), [(28, True), (27, False)], ids=["twice the checkpoint above the reserve", "one less"]
)
def test_a_first_backup_may_take_twice_its_weights(available, fits):
    assert level_for(world(record(), available=available * GIB), record(), 1)[0] == (1 if fits else 0)


def test_a_second_backup_costs_nothing_since_its_blocks_stayed():
    of = record(footprint=replace(record().footprint, host_pinned=True))
    assert level_for(world(of, available=0), of, 1) == (1, "")


def test_without_a_reading_of_host_ram_nothing_is_backed_up():
    made = replace(world(record()), host=MISSING)
    assert level_for(made, record(), 1) == (0, "host RAM is not known")


def test_the_reasons_against_level_2_come_in_the_order_they_can_be_lifted():
    of = record(facts=None)
    assert level2_refusal(world(of), of) == "the server was not looked at yet"
    of = record(facts=replace(FACTS, speculative=True))
    assert "draft weights" in level2_refusal(world(of), of)
    of = record(check_failed="wrong answer")
    assert level2_refusal(world(of), of) == "its level 2 check failed: wrong answer"
    untouched = record(control=ControlCounts())
    assert level2_refusal(world(untouched), untouched) == NO_ANSWER_YET
    assert level2_refusal(world(record()), record()) == NEVER_TAKEN
    of = record(control=ControlCounts(), not_provable="too close")
    assert level2_refusal(world(of), of) == NO_ANSWER_YET
    of = record(control=ControlCounts(sleep=CallCount(1)), not_provable="too close")
    assert level2_refusal(world(of), of) == "too close"
    of = record(control=ControlCounts(update=CallCount(1)), fingerprint=KNOWN_ANSWER)
    assert level2_refusal(world(of), of) == UPDATED
    of = record(fingerprint=KNOWN_ANSWER)
    assert level2_refusal(world(of), of) == NOT_CHECKED
    assert level2_refusal(proven(world(of)), of) == ""


# --- protections -------------------------------------------------------------------------------------------------

WAITER = Waiter(1, AskKind.WAKE, Cause(CauseKind.OPERATOR, "x"), 0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"in_flight": 1}, "it is in use"),
        ({"spec": {"pinned": True}}, "it is pinned"),
        ({"awake_since_s": NOW.mono_s - 10.0}, "it woke recently: min_awake leaves 50s"),
        ({"waiters": (WAITER,)}, "somebody waits for it"),
        ({"owed_wake": Cause(CauseKind.CHECK, "level 2")}, "somebody waits for it"),
        ({"not_before_s": NOW.mono_s + 10.0}, "the last attempt did not work: next in 10s"),
        ({"frees_nothing": True}, "sleeping frees nothing on this server: start it with --enable-sleep-mode"),
    ],
)
def test_each_protection_says_what_it_is(change, said):
    assert protections(record(), NOW.mono_s) == ()
    assert protections(record(**change), NOW.mono_s) == (said,)


def test_an_engine_that_dies_of_a_request_while_asleep_is_protected_unless_fenced():
    old = replace(FACTS, version="0.16.0", release=(0, 16))
    assert "fenced = true" in protections(record(facts=old), NOW.mono_s)[0]
    assert protections(record(facts=old, spec={"fenced": True}), NOW.mono_s) == ()


def test_use_comes_first_and_min_awake_concerns_only_the_awake():
    of = record(in_flight=1, awake_since_s=NOW.mono_s, spec={"pinned": True})
    assert [p.split(":")[0] for p in protections(of, NOW.mono_s)] == [
        "it is in use",
        "it is pinned",
        "it woke recently",
    ]
    asleep = record(life=Life(State.ASLEEP_L1, Weights.OFFLOADED), awake_since_s=NOW.mono_s)
    assert protections(asleep, NOW.mono_s) == ()
