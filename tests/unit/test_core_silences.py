"""What silences tell of how soon they end, without a clock; and which forecast is trusted."""

from dataclasses import replace
from random import Random

import pytest

from sleepd.core import habits as habits_module
from sleepd.core.daybook import DAYS_KEPT, SLOTS, whole_days
from sleepd.core.habits import Habits, attend, restore, trust_in_calendar, watch
from sleepd.core.silences import BUSIEST, SILENCES_S, chance_within, length_of, note_end, rates_after
from tests.unit.test_core_habits import DAY_S, HOUR_S, MONDAY_S, NEVER_S, asked, expect, job


def silences(random, mean_s, count):
    return [60.0 + random.expovariate(1 / mean_s) for _ in range(count)]


def observe(*kinds):
    observed = ()
    for busy, lasting in kinds:
        for silent_s in lasting:
            observed = note_end(observed, busy, silent_s)
    return observed


def test_of_a_model_that_nothing_is_known_of_one_silence_in_five_ends_before_it_has_lasted_as_long_again():
    for silent_s in (60.0, 600.0, 7200.0):
        assert chance_within((), 0, silent_s, silent_s) == pytest.approx(0.2, abs=0.02)


def test_one_silence_that_ended_soon_says_little_and_twenty_say_much():
    unknown, once, often = (rates_after(observe((0, [90.0] * count)), 0)[0] for count in (0, 1, 20))
    assert unknown < once < 3 * unknown
    assert often > 5 * unknown


def test_requests_at_random_end_silences_at_their_rate_whatever_their_length():
    observed = observe((2, silences(Random(1), 600.0, 3000)))
    seen = [a_second for a_second, (ended, _) in zip(rates_after(observed, 2), observed[2], strict=True) if ended > 20]
    assert len(seen) > 6
    assert all(a_second == pytest.approx(1 / 600.0, rel=0.35) for a_second in seen)


def test_busy_hours_and_quiet_ones_are_told_apart_and_others_go_by_both():
    observed = observe((6, silences(Random(1), 100.0, 200)), (0, silences(Random(2), 7200.0, 200)))
    busy, quiet, other = (chance_within(observed, busy, 60.0, 300.0) for busy in (6, 0, 3))
    assert busy > 0.9
    assert quiet < 0.15
    assert quiet < other < busy


def test_what_is_kept_is_bounded_and_the_old_is_forgotten():
    observed = observe((1, silences(Random(1), 100.0, 5000)), (1, silences(Random(2), 7200.0, 3000)))
    assert [len(row) for row in observed] == [len(SILENCES_S) if busy == 1 else 0 for busy in range(BUSIEST + 1)]
    assert max(ended for ended, _ in observed[1]) <= 300.0, (
        "what one that ends adds, and what 300 before it still count"
    )
    assert chance_within(observed, 1, 60.0, 300.0) < 0.1


def test_a_silence_is_counted_where_it_ended_and_lasted_where_it_passed():
    assert note_end((), 0, 250.0)[0][:5] == ((0.0, 60.0), (0.0, 60.0), (0.0, 60.0), (1.0, 10.0), (0.0, 0.0))
    assert note_end((), 0, 100_000.0)[0][-1] == (1.0, 100_000.0 - SILENCES_S[-1])


def test_local_time_is_trusted_by_who_comes_by_the_clock_and_not_by_who_comes_at_random():
    at_random, at_s = [], MONDAY_S
    random = Random(3)
    while at_s < MONDAY_S + 14 * DAY_S:
        at_random += [at_s + 70.0 * n for n in range(random.randint(1, 20))]
        at_s = at_random[-1] + 1800.0 * random.paretovariate(0.9)
    overnight, minutes = length_of(20 * HOUR_S), length_of(70.0)
    assert trust_in_calendar(asked(job(14)), overnight) > 0.9
    assert trust_in_calendar(asked(at_random), minutes) < 0.1
    assert trust_in_calendar(Habits(), minutes) == 0.5


def test_a_job_is_expected_by_the_clock_whatever_silences_tell():
    assert expect(asked(job(14)), 14, "07:55") < 300
    assert expect(asked(job(14)), 14, "12:00") > NEVER_S


def watched_silence(habits, days):
    """The habits after each look of a silence of so many days, and after the request that ends it."""
    last_s = habits.last_s
    for half_days in range(1, 2 * days):
        habits = watch(habits, last_s + half_days * DAY_S / 2)
        yield habits
    yield attend(habits, last_s + days * DAY_S - 60.0)


def test_a_silence_of_weeks_is_compared_day_by_day_and_by_none_but_the_days_before_each(monkeypatch):
    known, read, counted = asked(job(14)), set(), []
    pieces, rates = habits_module.pieces, habits_module.rates

    def count(*args):
        for piece in pieces(*args):
            counted.append(piece)
            yield piece

    def note(days, day):
        read.add((day, tuple(known_day for known_day, _ in whole_days(days, day))))
        return rates(days, day)

    monkeypatch.setattr(habits_module, "pieces", count)
    monkeypatch.setattr(habits_module, "rates", note)
    most, learned = 0, known
    for habits in watched_silence(known, DAYS_KEPT - 1):
        most, learned, counted[:] = max(most, len(counted)), habits, []
    assert learned.after != known.after
    assert SLOTS <= most <= 2 * (SLOTS + len(SILENCES_S)), "what one turn went through"
    assert len(read) == DAYS_KEPT, "every day of the silence, once"
    assert all(max(days) < day for day, days in read)


def test_what_was_compared_so_far_outlives_a_restart_and_ends_with_the_silence():
    known = asked(job(14))
    *looks, learned = watched_silence(known, 5)
    assert looks[-1].compared.until_s > 3 * DAY_S
    assert restore(looks[-1]) == looks[-1]
    assert attend(restore(looks[-1]), known.last_s + 5 * DAY_S - 60.0) == learned
    assert learned.compared == Habits().compared
    elsewhere = replace(looks[-1], compared=Habits().compared)
    unlearned = attend(elsewhere, known.last_s + 5 * DAY_S - 60.0)
    assert unlearned.after == known.after, "an older release compared none of these days: they teach nothing"
