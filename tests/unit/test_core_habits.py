"""What is learned of when a model is asked for, what is expected from it, and how that is told."""

import json
from dataclasses import asdict, replace
from random import Random

import pytest

from sleepd.core.daybook import DAYS_KEPT, SLOTS, beginnings, rates
from sleepd.core.expected import expected_idle, next_change
from sleepd.core.foretelling import recall
from sleepd.core.habits import Habits, attend, pieces, watch
from sleepd.core.silences import SILENCES_S

DAY_S, HOUR_S = 86_400.0, 3600.0
MONDAY_S = 20_458 * DAY_S
"""The fifth of January 2026, by the clock on the wall."""
NEVER_S = 6 * HOUR_S


def asked(moments):
    """The habits of these requests, of a model that was watched every day."""
    habits = Habits()
    for moment_s in moments:
        for noon_s in range(int((habits.last_s or moment_s) // DAY_S), int(moment_s // DAY_S)):
            habits = watch(habits, (noon_s + 0.5) * DAY_S)
        habits = attend(habits, moment_s)
    return habits


def at(day, clock):
    hours, minutes = clock.split(":")
    return MONDAY_S + day * DAY_S + int(hours) * HOUR_S + int(minutes) * 60


def job(days, clock="07:57", late_s=60.0, seed=1):
    """A handful of requests around this time of every working day."""
    random = Random(seed)
    return [
        at(day, clock) + random.uniform(-late_s, late_s) + second
        for day in range(days)
        if day % 7 < 5
        for second in (0.0, 20.0, 90.0)
    ]


def expect(habits, day, clock):
    moment_s = at(day, clock)
    return expected_idle(watch(habits, moment_s), moment_s)


def test_nothing_is_foretold_before_enough_was_observed():
    habits = asked(job(2))
    assert expect(habits, 1, "12:00") is None, "two jobs and a day that is not over"
    assert expect(asked(job(14)), 14, "12:00") is not None


def test_a_job_of_working_days_is_expected_then_and_not_at_other_times():
    habits = asked(job(14))
    assert expect(habits, 14, "07:55") < 300
    assert 3 * HOUR_S < expect(habits, 14, "03:55") < 5 * HOUR_S, "it is hours away, and known to come"
    assert expect(habits, 14, "12:00") > NEVER_S
    assert expect(habits, 19, "07:55") > 3 * expect(habits, 14, "07:55"), "a Saturday"


def test_it_does_not_wait_for_a_job_that_was_given_up():
    given_up = asked(job(14))
    for day in range(14, 28):
        given_up = watch(given_up, at(day, "12:00"))
    assert expect(given_up, 28, "07:55") > 3 * expect(asked(job(28)), 28, "07:55")


def test_requests_at_random_are_expected_after_their_mean_time():
    random, at_s, moments = Random(4), MONDAY_S, []
    while (at_s := at_s + random.expovariate(1 / 1200.0)) < MONDAY_S + 14 * DAY_S:
        moments.append(at_s)
    habits = asked(moments)
    found = [expected_idle(habits, habits.last_s + silent_s) for silent_s in (90, 200, 400, 1000, 2000)]
    assert all(500 < predicted_s < 2500 for predicted_s in found)


def test_bursts_are_over_once_they_are_silent_for_long():
    random, moments = Random(5), []
    for day in range(10):
        for _ in range(5):
            begin_s = at(day, "00:00") + random.uniform(0, DAY_S)
            moments += [begin_s + n * 75.0 for n in range(12)]
    habits = asked(sorted(moments))
    soon, later = (expected_idle(habits, habits.last_s + silent_s) for silent_s in (70.0, 900.0))
    assert soon < 300 < later


def test_the_first_minute_is_the_same_visit():
    habits = asked(job(14))
    assert expected_idle(habits, habits.last_s + 59.0) == 0.0


def test_it_stands_still_until_the_next_change():
    habits = asked(job(14))
    moment_s = at(14, "06:01")
    for _ in range(50):
        following_s = next_change(habits, moment_s)
        assert 0 < following_s - moment_s <= 300.0
        assert expected_idle(habits, moment_s) == expected_idle(habits, following_s - 0.01)
        moment_s = following_s


def test_the_same_requests_make_the_same_habits_of_bounded_size():
    random = Random(6)
    moments = sorted(MONDAY_S + random.uniform(0, 40 * DAY_S) for _ in range(2000))
    habits = asked(moments)
    assert habits == asked(moments)
    assert len(habits.days) == DAYS_KEPT
    assert len(json.dumps(asdict(habits))) < 8192


def test_a_clock_that_was_set_back_teaches_nothing():
    habits = asked(job(14))
    after = attend(habits, habits.last_s - 2 * DAY_S)
    assert (sorted(after.days), after.after) == (sorted(habits.days), habits.after)


def test_the_calendar_of_a_day_knows_the_slots_that_were_asked_in():
    habits = watch(asked(job(14, late_s=0.0)), at(14, "00:01"))
    found = rates(habits.days, habits.days[-1][0])
    assert len(found) == SLOTS
    assert max(range(SLOTS), key=found.__getitem__) == int((7 * 60 + 57) / 5)


def test_a_day_tells_most_of_the_slots_asked_in_then_of_those_beside_them():
    random = Random(8)
    bits = sum(1 << slot for slot in range(SLOTS) if random.random() < 0.05) | 1 | 1 << SLOTS - 1
    day = int(MONDAY_S // DAY_S)
    found = rates(((day - 7, bits), (day, 0)), day)
    asked_in = {slot for slot in range(SLOTS) if bits >> slot & 1}
    beside = {slot + by for slot in asked_in for by in (-1, 1)} - asked_in
    own, near = [found[slot] for slot in asked_in], [found[slot] for slot in beside & set(range(SLOTS))]
    far = [found[slot] for slot in set(range(SLOTS)) - asked_in - beside]
    assert min(own) > max(near) >= min(near) > max(far) > 0


def test_a_day_tells_more_of_another_the_more_alike_and_the_nearer_they_are():
    """Asked for at noon on one day alone: how much of it is expected on the last Thursday of four weeks."""
    noon, today = SLOTS // 2, int(MONDAY_S // DAY_S) + 3

    def expected(ago):
        return rates((*((today - d, (d == ago) << noon) for d in range(28, 0, -1)), (today, 0)), today)[noon]

    same_weekday, near, far, weekend = expected(14), expected(13), expected(22), expected(5)
    assert same_weekday > near > far > weekend > expected(0)


def test_two_days_are_too_few_for_something_to_begin_at_that_time():
    noon, today = SLOTS // 2, int(MONDAY_S // DAY_S) + 3
    for days in (2, 3):
        before = [(today - ago, 1 << noon) for ago in range(days, 0, -1)]
        assert (beginnings((*before, (today, 0)), today)[noon] > 0) is (days == 3)


def test_what_begins_at_that_time_is_expected_after_an_hour_of_silence():
    before = asked(job(8, late_s=0.0))
    for quiet_s, told in ((50 * 60.0, False), (70 * 60.0, True)):
        habits = attend(watch(before, at(8, "06:00")), at(8, "07:57") - quiet_s)
        found = next(piece for piece in pieces(habits, quiet_s, quiet_s + 60.0) if piece.begin_s == quiet_s)
        assert (found.regular > 0) is told


def test_what_was_counted_fades_with_every_silence():
    lengths = len(SILENCES_S)
    before = Habits(asked(job(8)).days, ((200.0, 200.0),) * lengths, (), at(7, "09:00"), trust=(4.0,) * lengths)
    neutral = replace(before, trust=(0.0,) * lengths)
    after, other = (attend(habits, at(7, "09:01") + 30.0) for habits in (before, neutral))
    assert after.after[0] == pytest.approx((200.0 * (1 - 1 / 300) + 1.0, 200.0 * (1 - 1 / 300)), abs=0.5)
    assert after.trust[0] - other.trust[0] == pytest.approx(4.0 * 0.98, abs=1e-3)


@pytest.mark.parametrize(
    ("day", "clock", "told"),
    [
        (14, "06:31", "on 5 of the last 5 weekdays a request came between 07:40 and 08:00"),
        (14, "12:00", "on none of the last 5 weekdays a request came between 12:00 and 18:00"),
        (14, "22:00", "on none of the last 5 weekdays a request came between 22:00 and 04:00"),
        (12, "07:00", "on none of the last 2 days of weekends a request came between 07:00 and 13:00"),
    ],
)
def test_what_it_goes_by_is_told(day, clock, told):
    assert recall(watch(asked(job(12, late_s=0.0)), at(day, clock)), at(day, clock)) == told
