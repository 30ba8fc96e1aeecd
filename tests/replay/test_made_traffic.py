"""Made-up traffic has the habits that it claims to have."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from sleepd.sim.traffic import DAY_S, HABITS, HOUR_S, Habit, _moments, draw_habit, make_traffic


def hours(habit: Habit, days: int = 28) -> list[float]:
    return [at_s / HOUR_S for at_s in _moments(habit, Random(1), days * DAY_S)]


def test_one_seed_is_one_trace() -> None:
    assert make_traffic(7, 5, 3) == make_traffic(7, 5, 3)
    assert make_traffic(7, 5, 3) != make_traffic(8, 5, 3)
    # More models leave those as they are that were there before.
    assert make_traffic(7, 9, 3).of({f"model-{n:02}" for n in range(5)}) == make_traffic(7, 5, 3)


def test_times_are_in_order_and_every_habit_is_drawn() -> None:
    trace = make_traffic(1, 40, 2)
    times = [arrival.at_s for arrival in trace.arrivals]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 2 * DAY_S
    assert {draw_habit(Random(seed)).kind for seed in range(60)} == set(HABITS)


def test_a_day_has_its_hours_and_a_week_its_days() -> None:
    near = [abs((hour % 24) - 9) < 4 for hour in hours(Habit("daily", 60, 9, 2, 0.0))]
    assert sum(near) / len(near) > 0.99
    assert {int(hour // 24) % 7 for hour in hours(Habit("weekly", 60, 12, 2, 0.0))} == set(range(5))


def test_bursts_lie_far_apart() -> None:
    found = hours(Habit("bursty", 60, 0, 1, 0.0))
    gaps = sorted(b - a for a, b in pairwise(found))
    assert gaps[len(gaps) // 2] < 0.01
    assert gaps[-1] > 2.0


def test_jobs_come_at_their_hours() -> None:
    found = Counter(round(hour * 4) / 4 % 1 for hour in hours(Habit("cron", 1, 0.5, 1, 0.0)))
    assert found.most_common(1)[0][1] > 0.9 * found.total()


def test_a_drifting_peak_moves() -> None:
    found = hours(Habit("drifting", 60, 12, 1, 0.0, drift_h=0.5))
    first = [hour % 24 for hour in found if hour < 24]
    later = [hour % 24 for hour in found if 240 <= hour < 264]
    assert sum(first) / len(first) == pytest.approx(12.0, abs=0.6)
    assert sum(later) / len(later) == pytest.approx(17.3, abs=0.6)
