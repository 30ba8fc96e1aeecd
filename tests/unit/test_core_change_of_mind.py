"""Whatever rules make of forecasts by time alone, wherever between two hundredths of a second: a deadline is told."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, later
from rule_worlds import HOURS, begun, calendar, fresh, play, rule
from test_core_foresight import NAP, made, model, turn_s

from sleepd.core.deadlines import next_deadline
from sleepd.core.detector import evaluate_all
from sleepd.core.rules import WAKE


def holds(before, now):
    return evaluate_all(before.models["a"], before, now)[0].holds


@pytest.mark.parametrize("between_s", [0.0, 0.0005, 0.001, 0.0054, 0.0095])
def test_the_end_of_the_first_minute_is_told(between_s):
    before, at_s = made(model(silent_s=30.0 + between_s), NAP), 0.0
    while not holds(before, later(at_s)):
        at_s = turn_s(before, later(at_s)) - NOW.mono_s
    assert at_s == pytest.approx(30.0 - between_s, abs=0.02)


def test_when_a_clock_that_was_set_back_comes_to_the_last_request_is_told():
    before = made(model(silent_s=-100.0), NAP)
    assert holds(before, NOW)
    due_s = turn_s(before, NOW) - NOW.mono_s
    assert due_s == pytest.approx(40.0, abs=0.02)
    assert not holds(before, later(due_s))


def test_a_turn_just_after_the_clock_showed_five_minutes_more_tells_the_hundredth_that_goes_by_them():
    """The clocks are such that those begin within a hundredth of a second."""
    before, at_s = made(model(6, 7), NAP), 0.0

    def after(at_s):
        return replace(later(at_s), wall_s=NOW.wall_s + at_s + 0.004)

    while holds(before, after(at_s)):
        at_s = turn_s(before, after(at_s)) - NOW.mono_s
    assert at_s > 300.0
    assert holds(before, after(at_s - 0.003))
    assert turn_s(before, after(at_s - 0.003)) == NOW.mono_s + at_s


def test_a_wake_by_hours_comes_when_the_sleep_rule_lets_go():
    by_day = made(model(6, 7, life=ASLEEP), NAP, rule("day", WAKE, HOURS))
    before, at_s = replace(by_day, calendar=calendar(spans=((-9.0, 9e3),))), 0.0
    while not begun(play(fresh(before, at_s), at_s=at_s)):
        at_s = next_deadline(before, later(at_s)) - NOW.mono_s
    assert 300.0 < at_s < 1800.0
