"""What an operator reads: why a model is as it is, and what comes next."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, FACTS, KNOWN_ANSWER, NOW, nap, pressure, proven, record, world

from sleepd.core.explain import explain, next_action, reason
from sleepd.core.footprint import Footprint
from sleepd.core.forecast import eta_s
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Failure, Missing, MissingReason
from sleepd.core.plan import plan_sleep
from sleepd.core.policy import NOT_CHECKED
from sleepd.core.reports import NextAction
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.world import DetectorMemory

BELOW = DetectorMemory(crossed=frozenset({("host-ram-pressure", "a", 0)}))


def verdict(of, *rules, **more):
    return explain(world(of, rules=rules, **more), "a", NOW).verdict


def awake_for(idle):
    return record(last_active_s=NOW.mono_s - idle)


@pytest.mark.parametrize(
    ("of", "rules", "said"),
    [
        (awake_for(240.0), (nap(),), "rule nap would sleep 1 in 1m"),
        (awake_for(600.0), (nap(),), "rule nap wants it asleep at level 1"),
        (record(in_flight=1), (nap(),), "no rule holds"),
        (record(spec={"pinned": True}), (nap(),), "rule nap wants it asleep at level 1, but it is pinned"),
        (record(), (), "no rule applies to it"),
        (record(), (nap(applies_to=frozenset({"b"})),), "no rule applies to it"),
        (record(spec={"max_level": 0}), (nap(),), "stays awake: max_level = 0 keeps it awake"),
        (record(seen=Missing(MissingReason.TIMED_OUT)), (nap(),), "no rule can hold: no answer in time"),
        (record(life=ASLEEP, reason="found asleep"), (nap(),), "a is asleep: found asleep"),
        (record(life=ASLEEP, reason="asleep: rule nap"), (nap(),), "a is asleep: rule nap"),
    ],
)
def test_the_verdict_in_one_sentence(of, rules, said):
    assert verdict(of, *rules) == said


def test_a_backup_that_does_not_fit_is_said():
    said = verdict(record(), nap(), pressure(), available=9 * GIB, memory=BELOW)
    assert said == "stays awake: its backup would not fit into host RAM above the reserve"


def test_every_rule_is_told_with_what_it_wants_and_what_was_found():
    found = explain(world(awake_for(240.0), rules=(nap(), pressure())), "a", NOW)
    told = {r.rule: [(c.wanted, c.found, c.holds) for c in r.conditions] for r in found.rules}
    assert told == {
        "nap": [("idle 5m", "idle 4m", False)],
        "host-ram-pressure": [("less than 10GiB of host RAM available", "90GiB", False)],
    }
    assert (found.model, found.state, found.level, found.reason) == ("a", "awake", 0, "as it was")


def test_what_keeps_it_from_level_2_is_a_protection_of_its_own():
    of = record(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)
    assert explain(world(of), "a", NOW).protections == (
        f"not at level 2: {NOT_CHECKED} (a checked cycle runs in its first idle moment)",
    )
    assert explain(proven(world(of)), "a", NOW).protections == ()
    of = replace(of, facts=replace(FACTS, speculative=True))
    assert explain(world(of), "a", NOW).protections == ("not at level 2: a reload does not bring back draft weights",)


# --- what comes next ---------------------------------------------------------------------------------------------


def coming(of, *rules):
    return next_action(world(of, rules=rules), "a", NOW)


def test_the_soonest_rule_is_next():
    assert coming(awake_for(100.0), nap(), nap(600.0, name="late")) == NextAction("nap", "sleep 1", 200.0)


def test_min_awake_and_a_failed_attempt_put_it_off():
    assert coming(record(awake_since_s=NOW.mono_s), nap()).in_s == 60.0
    assert coming(record(not_before_s=NOW.mono_s + 90.0), nap()).in_s == 90.0


def test_pressure_is_never_what_comes_next_since_it_only_deepens():
    assert coming(record(), pressure()) is None


@pytest.mark.parametrize(
    "of",
    [
        record(life=ASLEEP),
        record(in_flight=1),
        record(spec={"pinned": True}),
        record(spec={"max_level": 0}),
        record(frees_nothing=True),
        record(seen=Missing(MissingReason.TIMED_OUT)),
    ],
)
def test_nothing_comes_next_where_nothing_would_happen(of):
    assert coming(of, nap()) is None


# --- reasons and times -------------------------------------------------------------------------------------------


def test_a_failure_is_the_reason_where_it_decides():
    failed = record(life=Life(State.FAILED, Weights.DOUBTFUL), failure=Failure("wedged", "it does not answer"))
    assert reason(world(failed), "a", NOW) == "it does not answer"
    assert reason(world(replace(failed, life=ASLEEP)), "a", NOW) == "as it was"


def test_a_wake_that_waits_for_its_victim_says_for_whom():
    cause = Cause(CauseKind.OPERATOR, "web")
    task = Task(1, "a", TaskKind.WAKE, 1, cause, plan_sleep(1, fingerprint_wanted=False), NOW.mono_s - 4.0, victim="b")
    made = replace(world(record(life=ASLEEP), record("b")), tasks={"a": task})
    assert reason(made, "a", NOW) == "waits for b to fall asleep: asked for by web"


def test_the_time_to_wake_is_what_was_learned_of_that_level():
    learned = Footprint(durations={"wake1": (9.0, 3.0), "wake2": (30.0,)})
    made = world(record(life=ASLEEP, footprint=learned))
    assert eta_s(made, "a", NOW) == 3.0
    deep = world(record(life=Life(State.ASLEEP_L2, Weights.BLANK), footprint=learned))
    assert eta_s(deep, "a", NOW) == 30.0
    assert eta_s(world(record()), "a", NOW) == 0.0
    assert eta_s(world(record(life=ASLEEP)), "a", NOW) is None
    assert eta_s(world(record(life=Life(State.FAILED, Weights.LOADED), footprint=learned)), "a", NOW) is None


def test_the_time_to_wake_counts_down_and_never_below_zero():
    plan, cause = plan_sleep(1, fingerprint_wanted=False), Cause(CauseKind.OPERATOR, "web")
    of = record(life=Life(State.WAKING, Weights.OFFLOADED), footprint=Footprint(durations={"wake1": (3.0,)}))
    for ago_s, left_s in ((1.0, 2.0), (9.0, 0.0)):
        called_s = NOW.mono_s - ago_s
        task = Task(1, "a", TaskKind.WAKE, 1, cause, plan, called_s - 30.0, called_s=called_s)
        assert eta_s(replace(world(of), tasks={"a": task}), "a", NOW) == left_s
