"""Seeded scenarios: ten virtual minutes of traffic and faults each, every invariant after every turn.

A seed that fails becomes a file in seeds/, which is played from then on whatever later seeds draw (CONTRIBUTING.md).
"""

import os
from pathlib import Path

import pytest

from sleepd.sim.scenario.play import Outcome, play, play_seed
from sleepd.sim.scenario.script import Script, draw_crowded_script, draw_script, read_script, write_script
from sleepd.sim.scenario.stage import Stage
from tests.simulation.tally import Tell

SEEDS = int(os.environ.get("SEEDS", "1000"))
BATCH = 5
"""Seeds in one test: few, so that the workers of a run end together."""
CROWDED_EACH = 25
"""One seed in so many is played on a crowded host too."""
FILES = Path(__file__).parent / "seeds"


def play_or_keep(script: Script, path: Path) -> Outcome:
    """Play it. Where that fails, the file holds it, and the error says so."""
    try:
        return play(script)
    except Exception as error:
        write_script(script, path)
        raise AssertionError(f"{error}\nkept as {path}: it is played with every test run from now on") from error


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_invariants_hold_and_everything_converges(first: int, tell: Tell) -> None:
    for seed in range(first, min(first + BATCH, SEEDS)):
        tell(play_or_keep(draw_script(seed), FILES / f"seed-{seed}.json"))


@pytest.mark.parametrize("seed", range(max(1, SEEDS // CROWDED_EACH)))
def test_turns_are_fair_on_crowded_hosts_and_everything_converges(seed: int, tell: Tell) -> None:
    tell(play_or_keep(draw_crowded_script(seed), FILES / f"crowded-{seed}.json"))


@pytest.mark.parametrize("path", sorted(FILES.glob("*.json")), ids=lambda path: path.stem)
def test_a_scenario_that_once_failed(path: Path, tell: Tell) -> None:
    tell(play(read_script(path)))


def test_a_seed_that_fails_becomes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(stage: Stage) -> None:
        """never so"""
        raise AssertionError(stage.say("it is so"))

    monkeypatch.setattr("sleepd.sim.scenario.play.AT_THE_END", (never,))
    script, path = draw_script(5), tmp_path / "seed-5.json"
    with pytest.raises(AssertionError, match=r"seed 5 at .*it is so\nkept as .*seed-5.json"):
        play_or_keep(script, path)
    assert read_script(path) == script


def test_a_scenario_is_its_seed() -> None:
    assert draw_script(7) == draw_script(7)
    assert play_seed(7) == play_seed(7)


def test_a_scenario_survives_its_file(tmp_path: Path) -> None:
    script = draw_script(11)
    write_script(script, tmp_path / "eleven.json")
    assert read_script(tmp_path / "eleven.json") == script
    assert play(read_script(tmp_path / "eleven.json")) == play(script)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"kv_gib"', '"kv_gigs"', "cast.models.0.kv_gib: Field required"),
        ('"do": "ask"', '"do": "sing"', "nobody knows how to do 'sing': known are NVML silent, adapter, ask, "),
        ('"acts": [', '"acts": [,', "the whole file: Invalid JSON"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "eleven.json"
    write_script(draw_script(11), path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=r"eleven\.json: ") as caught:
        read_script(path)
    assert said in str(caught.value)
