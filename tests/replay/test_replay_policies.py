"""Policies to compare with: when each of them sleeps and wakes."""

from pathlib import Path

import pytest

from sleepd.replay.policies.base import Policy
from sleepd.replay.policies.clairvoyant import Clairvoyant, least_gpu_gib_h
from sleepd.replay.policies.histogram import BIN_S, BINS, Histogram, percentile_bin
from sleepd.replay.policies.windows import GRACE_S, STABLE_WINDOW_S, Windows
from sleepd.replay.shell import Replay
from sleepd.replay.trace import Trace
from tests.replay.replays import host_of, replay, trace_of

NO_NAP = '[[rules]]\nname = "nap"\nenabled = false\nwhen = { idle = "5m" }\nthen = { sleep = 1 }\n'
ENDS_S = 1.0125
"""A request of 100 and 60 tokens takes so long."""


def play(tmp_path: Path, trace: Trace, policy: Policy, until_s: float) -> Replay:
    return replay(tmp_path, trace, NO_NAP, policy=policy, until_s=until_s)


def test_awake_while_it_fits_sleeps_for_nobody_but_a_neighbour(tmp_path: Path) -> None:
    played = play(tmp_path, trace_of((10.0, "a"), (11.0, "b"), (500.0, "c")), Policy(), 1e6)
    assert [(s.what, s.model) for s in played.account.switches][2:] == [("sleep", "a"), ("wake", "c")]


def test_windows_sleep_after_window_and_grace(tmp_path: Path) -> None:
    played = play(tmp_path, trace_of((10.0, "a"), (60.0, "a")), Windows(), 1000.0)
    wake, sleep = played.account.switches
    assert wake.what == "wake"
    assert sleep.at_s == pytest.approx(60.0 + ENDS_S + STABLE_WINDOW_S + GRACE_S + 1.0, abs=2.5)


def test_an_unknown_model_is_kept_for_the_whole_range(tmp_path: Path) -> None:
    played = play(tmp_path, trace_of((10.0, "a")), Histogram(), 20_000.0)
    assert played.account.switches[1].at_s == pytest.approx(12.0 + ENDS_S + BINS * BIN_S, abs=3.0)


def test_a_regular_model_is_unloaded_and_loaded_ahead(tmp_path: Path) -> None:
    every_s, count = 3600.0, 30
    trace = trace_of(*((10.0 + every_s * n, "a") for n in range(count)))
    played = play(tmp_path, trace, Histogram(), every_s * count)
    account = played.account.models["a"]
    # Known after its first idle times: woken at 90 % of an hour, so that nobody waits, and asleep in between.
    assert len(account.waits_s) == 1
    assert account.held_s < 0.3 * every_s * count


def test_idle_times_out_of_bounds_are_forecast(tmp_path: Path) -> None:
    every_s = 6 * 3600.0
    policy = Histogram()
    trace = trace_of(*((10.0 + every_s * n, "a") for n in range(12)))
    played = play(tmp_path, trace, policy, every_s * 12)
    head_s, tail_s = policy.window_s("a")
    assert head_s == pytest.approx(0.85 * every_s, rel=0.01)
    assert tail_s == pytest.approx(1.15 * every_s, rel=0.01)
    assert len(played.account.models["a"].waits_s) <= 3


def test_percentiles_of_bins() -> None:
    bins = [0, 5, 0, 90, 5]
    assert [percentile_bin(bins, share) for share in (0.01, 0.05, 0.06, 0.95, 0.96, 1.0)] == [1, 1, 3, 3, 4, 4]


def test_the_clairvoyant_lets_nobody_wait_and_costs_what_it_must(tmp_path: Path) -> None:
    trace = trace_of(*((100.0 * n, "ab"[n % 2]) for n in range(1, 40)))
    costs = {model: host_of(tmp_path).costs(model) for model in "ab"}
    played = play(tmp_path, trace, Clairvoyant(trace, costs), 4100.0)
    spent = sum(model.gpu_gib_s for model in played.account.models.values()) / 3600
    assert [model.waits_s for model in played.account.models.values()] == [[], []]
    least = least_gpu_gib_h(trace, costs, {"a": ("GPU-0",), "b": ("GPU-0",)}, 0.0, 4100.0)
    assert least < spent < 1.3 * least


def test_a_gap_that_is_too_short_to_sleep_in_is_spent_awake(tmp_path: Path) -> None:
    trace = trace_of((10.0, "a"), (13.0, "a"), (500.0, "a"))
    costs = {"a": host_of(tmp_path).costs("a")}
    least = least_gpu_gib_h(trace, costs, {"a": ("GPU-0",)}, 0.0, 1000.0)
    held_s = (3.0 + ENDS_S + 1.0 + 2.0) + (ENDS_S + 1.0 + 2.0)
    assert least == pytest.approx(held_s * 36 / 3600, rel=1e-6)
