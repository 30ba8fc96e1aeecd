"""Habits where clocks are not what they were: set back and forth by hours and years, changed for summer, moved to
another zone; and habits that a database holds which somebody else wrote."""

from dataclasses import replace

import pytest

from sleepd.core.daybook import DAYS_KEPT, SLOTS, rates
from sleepd.core.expected import expected_idle, next_change
from sleepd.core.foretelling import recall
from sleepd.core.habits import Habits, attend, watch
from tests.unit.test_core_habits import DAY_S, HOUR_S, MONDAY_S, asked, at, expect, job

YEAR_S = 365.25 * DAY_S
CLOCKS = [-56 * YEAR_S, -40 * YEAR_S, -YEAR_S, -DAY_S, -3 * HOUR_S, -HOUR_S, HOUR_S, 3 * HOUR_S, DAY_S, 40 * YEAR_S]
"""How far a clock is set: an hour for summer, some for another zone, a day or years where it was wrong at boot."""


@pytest.fixture(scope="module")
def known():
    """A job of working days, two weeks of it."""
    return watch(asked(job(14)), at(14, "06:31"))


@pytest.mark.parametrize("by_s", CLOCKS)
def test_a_clock_that_is_set_breaks_nothing(known, by_s):
    moment_s = at(14, "06:31") + by_s
    for habits in (known, watch(known, moment_s)):
        found = expected_idle(habits, moment_s)
        assert found is None or found > 0.0
        assert 0.0 < next_change(habits, moment_s) - moment_s <= 300.0
        assert recall(habits, moment_s)
    after = attend(known, moment_s)
    assert expected_idle(after, moment_s + 59.0) == 0.0
    assert len(after.days) <= DAYS_KEPT


@pytest.mark.parametrize("by_s", [-56 * YEAR_S, -3 * DAY_S, 3 * DAY_S, 40 * YEAR_S])
def test_a_clock_that_was_wrong_for_a_while_costs_no_more_than_a_day(known, by_s):
    wrong = attend(watch(known, at(14, "06:31") + by_s), at(14, "06:40") + by_s)
    right = watch(wrong, at(14, "06:50"))
    assert expect(right, 14, "07:55") < 300
    assert recall(right, at(14, "06:51")) == "on 5 of the last 5 weekdays a request came between 07:40 and 08:00"
    goes_on = attend(right, at(14, "07:57"))
    assert dict(goes_on.days)[int(at(14, "07:57") // DAY_S)], "today is observed, whatever the clock said before"


def test_nothing_is_foretold_by_days_to_come(known):
    """A clock was a year ahead for weeks, and is set right: what came then is no habit of now."""
    ahead = Habits()
    for moment_s in job(14):
        ahead = attend(watch(ahead, moment_s + YEAR_S - 600.0), moment_s + YEAR_S)
    back = watch(ahead, at(14, "06:31"))
    assert expected_idle(back, at(14, "06:31")) is None
    assert recall(back, at(14, "06:31")) == "no weekdays were observed yet"
    assert set(rates(back.days, back.days[-1][0])) == set(rates((), 0))


def test_a_silence_that_was_not_watched_teaches_nothing(known):
    """The daemon did not run for days, or the clock jumped years ahead: nobody knows how long it was silent."""
    for away_s in (5 * DAY_S, 56 * YEAR_S):
        back = attend(known, at(14, "06:31") + away_s)
        assert (back.after, back.following) == (known.after, known.following)
    watched = asked(job(14))
    for day in range(12, 20):
        watched = watch(watched, at(day, "12:00"))
    assert attend(watched, at(19, "13:00")).after != known.after, "a week in which it was watched is one"


def test_a_clock_that_is_set_back_says_not_that_a_request_is_due(known):
    """For summer's hour, or by a year: its last request would lie ahead, and nobody knows how long it was silent."""
    used = attend(known, at(14, "10:00"))
    for moment_s in (at(14, "09:30"), at(14, "10:00") - YEAR_S):
        assert expected_idle(used, moment_s) is None
        told = watch(used, moment_s)
        assert expected_idle(told, moment_s + 1.0) != 0.0, "it counts anew from there"


def test_days_long_ago_are_too_little_to_go_by(known):
    """It was away for a quarter of a year: what was observed before says nothing of today."""
    back = watch(known, at(105, "06:31"))
    assert expected_idle(back, at(105, "06:31")) is None
    assert recall(back, at(105, "06:31")) == "no weekdays were observed yet"


def test_what_is_told_of_days_says_where_some_were_not_observed():
    habits = asked([moment_s for moment_s in job(12, late_s=0.0) if not at(8, "00:00") < moment_s < at(9, "00:00")])
    seen = replace(habits, days=tuple(d for d in habits.days if d[0] != int(at(8, "00:00") // DAY_S)))
    told = recall(watch(seen, at(14, "06:31")), at(14, "06:31"))
    assert told == "on 5 of the last 5 weekdays that were observed a request came between 07:40 and 08:00"


def test_the_hour_that_comes_twice_is_no_second_visit_of_the_day():
    """Clocks go back from three to two: what came at half past two comes by the clock at half past two once more."""
    habits = attend(asked(job(14)), at(13, "02:30"))
    again = attend(watch(habits, at(13, "02:01")), at(13, "02:30"))
    assert again.days == habits.days
    assert again.last_s == at(13, "02:30")


def test_leap_days_are_days_as_others():
    leap_s = MONDAY_S + 785 * DAY_S  # the 29th of February 2028, a Tuesday
    habits = watch(asked([moment_s + 770 * DAY_S for moment_s in job(15)]), leap_s + 6.5 * HOUR_S)
    assert recall(habits, leap_s + 6.5 * HOUR_S).startswith("on 5 of the last 5 weekdays")


def test_a_day_before_1970_is_a_day():
    habits = attend(watch(Habits(), -5 * HOUR_S), -4 * HOUR_S)
    assert habits.days[-1][0] == -1
    assert expected_idle(habits, -3 * HOUR_S) is None
    assert 0 < habits.days[-1][1] < 1 << SLOTS
