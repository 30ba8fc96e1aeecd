"""Seeded scenarios: twenty virtual minutes of traffic and faults each, every invariant after every turn.

A failing seed prints itself; put its number into seeds/regressions.txt with what it showed, before fixing it.
"""

from pathlib import Path

import pytest

from sleepd.sim.scenario import Scenario

SEEDS = 1000
BATCH = 25
REGRESSIONS = Path(__file__).parent / "seeds" / "regressions.txt"


def regressions() -> list[int]:
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_invariants_hold_and_everything_converges(first: int) -> None:
    for seed in range(first, first + BATCH):
        Scenario(seed).play()


@pytest.mark.parametrize("seed", regressions())
def test_a_seed_that_once_failed(seed: int) -> None:
    Scenario(seed).play()


def test_a_scenario_is_its_seed() -> None:
    assert Scenario(7).play() == Scenario(7).play()
