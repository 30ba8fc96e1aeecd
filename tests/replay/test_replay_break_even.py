"""Foresight at its worst, in the daemon's own turns: forecasts that change by the minute and know nothing."""

import itertools
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from sleepd.core import change_of_mind, foresight, limits
from sleepd.core.habits import Habits, LocalS
from sleepd.core.units import Seconds
from tests.replay.replays import replay, trace_of
from tests.replay.test_replay_foresight import RULES

PRICE_S = 300.0
AROUND_S = 8.0
"""For each request: its own seconds, the wake before it, the poll that sees its end, and the sleep."""


def flickering(habits: Habits, local_s: LocalS) -> Seconds:
    """By turns: one at once, none for days, nothing known."""
    return (1.0, 1e6, 200.0)[int(local_s // 40.0) % 3]


def next_flicker(habits: Habits, local_s: LocalS) -> LocalS:
    return (local_s // 40.0 + 1) * 40.0


@pytest.mark.parametrize("seed", range(2))
def test_it_costs_at_most_twice_what_the_clairvoyant_pays(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foresight, "expected_idle", flickering)
    monkeypatch.setattr(change_of_mind, "next_change", next_flicker)
    monkeypatch.setattr(change_of_mind, "look_out", lambda habits, _: SimpleNamespace(at=partial(flickering, habits)))
    # With such forecasts rules go in circles, and are held up; how that costs more is not what is asked here.
    monkeypatch.setattr(limits, "ACTIONS_AN_HOUR", 1000)
    random, at_s, asked = Random(seed), 0.0, []
    for _ in range(100):
        at_s += random.choice((random.uniform(5, 60), random.uniform(200, 400), random.uniform(1000, 9000)))
        asked.append(round(at_s, 3))
    until_s = asked[-1] + 20_000.0
    played = replay(tmp_path, trace_of(*((s, "a") for s in asked)), RULES, until_s=until_s)
    sleeps = sum(s.what == "sleep" for s in played.account.switches)
    ahead = sum(s.cause == "rule:wake-ahead" for s in played.account.switches)
    paid_s = played.account.models["a"].held_s + PRICE_S * sleeps
    least_s = sum(min(b - a, PRICE_S) for a, b in itertools.pairwise((0.0, *asked, until_s)))
    assert ahead > 10, "nobody is misled"
    assert paid_s <= 2 * least_s + PRICE_S + AROUND_S * len(asked)
