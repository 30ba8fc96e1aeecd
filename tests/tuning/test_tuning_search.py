"""Few plays find the point that is wanted."""

from pathlib import Path

import pytest

from sleepd.tuning.curves import Frontier, Point
from sleepd.tuning.search import Trial, search
from sleepd.tuning.target import Aim, Measure, Target, measure_account
from tests.replay.replays import replay, trace_of

POINTS = 200
FRONTIER = Frontier(tuple(Point({"m": float(at)}, 100.0 + at, POINTS - at) for at in range(POINTS)), POINTS)


def hunt(target: Target, *, worse: float = 1.0, plays: int = 6) -> tuple[tuple[Trial[int], ...], int]:
    """Search where waits and GiB-hours are `worse` times what the gaps foretell; the trials and the best there is."""
    real = [Measure(worse * p.late / POINTS, worse * p.gib_h) for p in FRONTIER.points]

    def play(point: Point) -> tuple[Measure, int]:
        at = FRONTIER.points.index(point)
        return real[at], at

    best = real[0]
    for measure in real:
        if target.is_better(measure, best):
            best = measure
    return search(FRONTIER, target, play, plays=plays), real.index(best)


@pytest.mark.parametrize("worse", [0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("target", [Target(Aim.WAITED, 0.3), Target(Aim.GIB_HOURS, 250.0)])
def test_what_neighbours_add_is_learned_from_the_last_play(target: Target, worse: float) -> None:
    trials, best = hunt(target, worse=worse)
    assert len(trials) <= 6
    assert trials[0].played == best


def test_a_target_out_of_reach_ends_at_what_is_nearest() -> None:
    trials, _ = hunt(Target(Aim.WAITED, 0.0), plays=20)
    assert trials[0].played == POINTS - 1
    trials, _ = hunt(Target(Aim.GIB_HOURS, 50.0), plays=20)
    assert trials[0].played == 0


def test_one_play_is_where_the_gaps_point() -> None:
    trials, _ = hunt(Target(Aim.WAITED, 0.25), plays=1)
    assert [trial.played for trial in trials] == [150]


@pytest.mark.parametrize("always", [0.0, 0.01, 0.02, 0.025])
def test_waits_that_no_timeout_saves_do_not_hide_the_target(always: float) -> None:
    # Each GiB-hour more saves less, as it does on real traces, and nothing saves the last few.
    requests, target = 100_000, Target(Aim.WAITED, 0.03)
    points = [Point({"m": float(at)}, 100.0 * 1.015**at, int(requests * 0.1 * 0.985**at)) for at in range(400)]

    def play(point: Point) -> tuple[Measure, Point]:
        return Measure(always + point.late / requests, point.gib_h), point

    trials = search(Frontier(tuple(points), requests), target, play, plays=4)
    assert target.is_met(trials[0].measure)
    cheapest_gib_h = min(p.gib_h for p in points if target.is_met(play(p)[0]))
    assert trials[0].measure.gib_h <= 1.05 * cheapest_gib_h


def test_who_is_turned_away_counts_as_who_waits_too_long(tmp_path: Path) -> None:
    crowded = '[[gpus]]\nmemory = "80GiB"\n[model_defaults]\nawake = "70GiB"\noutput_tokens_per_s = 0.1\n'
    asked = trace_of((0.0, "a"), (10.0, "b"), (11.0, "b"), (12.0, "b"))
    account = replay(tmp_path, asked, host=crowded, until_s=300.0).account
    assert measure_account(account, allowed_s=0.0).late_share == 1.0
    assert measure_account(account, allowed_s=10.0).late_share == 0.75
