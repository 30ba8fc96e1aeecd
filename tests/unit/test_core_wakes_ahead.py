"""What becomes of wakes ahead of demand: told once, counted, and bounded by a budget."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, later, record, world
from rule_worlds import calendar, rule

from sleepd.core.draft import Draft
from sleepd.core.foresight import spent_today_s
from sleepd.core.life import Life, State, Weights
from sleepd.core.limits import limit_of
from sleepd.core.model import Cause, CauseKind
from sleepd.core.plan import Plan
from sleepd.core.record import Ahead, AskKind, Waiter
from sleepd.core.rules import SLEEP_1, WAKE, IdleFor, PredictedIdle
from sleepd.core.task import Task, TaskKind
from sleepd.core.wakes_ahead import note_wake_ahead

TODAY = int((NOW.wall_s + 3600.0) // 86_400.0)
AWAKE, WAKING = Life(State.AWAKE, Weights.LOADED), Life(State.WAKING, Weights.OFFLOADED)
RULES = (rule("nap", SLEEP_1, IdleFor(300.0)), rule("ahead", WAKE, PredictedIdle(300.0), budget_s=1200.0))
ASKED = Waiter(1, AskKind.WAKE, Cause(CauseKind.REQUEST, "gateway"), NOW.mono_s, NOW.mono_s + 60)


def turn(before_life, after, *, cause="ahead", came=False, at_s=0.0):
    """One turn in which the model became `after`; a wake of this rule was under way."""
    was = replace(record(), life=before_life, ahead=after.ahead)
    before = replace(world(was, rules=RULES), calendar=calendar())
    if before_life is WAKING:
        task = Task(7, "a", TaskKind.WAKE, 1, Cause(CauseKind.RULE, cause), Plan(()), NOW.mono_s - 2)
        before = replace(before, tasks={"a": task})
    draft = Draft(before, later(at_s))
    draft.put(after)
    note_wake_ahead(draft, before, after, came=came)
    return draft, [n.data["outcome"] for n in draft.turn().notes]


def test_a_wake_by_foresight_is_watched_until_it_is_known_what_came_of_it():
    draft, told = turn(WAKING, record(life=AWAKE))
    assert (told, draft.models["a"].ahead) == ([], Ahead(NOW.mono_s, rule="ahead"))


def test_a_wake_by_any_other_rule_is_not():
    draft, told = turn(WAKING, record(life=AWAKE), cause="morning")
    assert (told, draft.models["a"].ahead) == ([], None)


def test_a_request_that_came_while_it_was_being_woken_makes_it_late():
    draft, told = turn(WAKING, record(life=AWAKE, waiters=(ASKED,)))
    assert (told, draft.models["a"].ahead) == (["late"], None)


@pytest.mark.parametrize(("life", "came", "outcome"), [(AWAKE, True, "hit"), (ASLEEP, False, "miss")])
def test_it_is_told_once_what_came_of_it(life, came, outcome):
    draft, told = turn(AWAKE, record(life=life, ahead=Ahead(NOW.mono_s)), came=came, at_s=240.0)
    assert told == [outcome]
    found = draft.models["a"].ahead
    assert (found.since_s, found.spent_s) == (None, 240.0)
    assert turn(AWAKE, draft.models["a"], came=came, at_s=300.0)[1] == []


def test_while_nothing_came_nothing_is_told():
    for state in (State.AWAKE, State.DRAINING, State.FALLING_ASLEEP, State.UNKNOWN):
        gone_on = record(life=replace(AWAKE, state=state), ahead=Ahead(NOW.mono_s))
        assert turn(AWAKE, gone_on, at_s=240.0)[1] == []


@pytest.mark.parametrize("state", [State.LOST, State.STOPPING, State.STOPPED, State.FAILED, State.FOREIGN])
def test_it_is_over_when_the_model_is_gone(state):
    """Stopped, lost, failed or driven by somebody else: from then on no budget is spent, and no request is its hit."""
    draft, told = turn(AWAKE, record(life=replace(AWAKE, state=state), ahead=Ahead(NOW.mono_s)), at_s=240.0)
    assert told == ["miss"]
    gone = draft.models["a"]
    assert gone.ahead.since_s is None
    assert spent_today_s(gone, draft.world(), later(2000.0)) == 240.0
    assert turn(gone.life, replace(gone, life=AWAKE), came=True, at_s=300.0)[1] == []


def test_only_what_was_spent_since_midnight_counts_today():
    """It is 23:13 by the clock of the zone: midnight is 2800 s away."""
    midnight_s = -(NOW.wall_s + 3600.0) % 86_400.0
    woken = record(life=AWAKE, ahead=Ahead(NOW.mono_s, spent_s=700.0, day=TODAY))
    made = replace(world(woken, rules=RULES), calendar=calendar())
    assert spent_today_s(woken, made, later(midnight_s - 10.0)) == pytest.approx(700.0 + midnight_s - 10.0)
    assert spent_today_s(woken, made, later(midnight_s + 100.0)) == pytest.approx(100.0)
    draft, _ = turn(AWAKE, woken, came=True, at_s=midnight_s + 100.0)
    assert draft.models["a"].ahead == Ahead(None, TODAY + 1, 100.0)


def test_a_budget_that_is_spent_ends_wakes_ahead_until_midnight():
    spent = record(ahead=Ahead(None, TODAY, 1200.0))
    made = replace(world(spent, rules=RULES), calendar=calendar())
    assert limit_of(RULES[1], "a", made, NOW).why == "its budget is spent: woken ahead, it was awake 20m today"
    assert limit_of(RULES[0], "a", made, NOW) is None
    assert limit_of(RULES[1], "a", made, later(86_400.0)) is None
