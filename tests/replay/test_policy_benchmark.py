"""benchmarks/policy.py at small size: every contender plays, and the numbers stand in the order that they must."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sleepd.sim.traffic import make_traffic
from tests.replay.benchmark_modules import load_benchmark


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("policy")


@pytest.fixture(scope="module")
def shape(benchmark: ModuleType) -> Any:
    """The smallest host."""
    return next(shape for shape in benchmark.SHAPES if shape.name == "1x24")


def test_every_contender_plays_and_knowing_all_costs_least(benchmark: ModuleType, shape: Any) -> None:
    assert make_traffic(0, shape.models, 1).models
    sums = {
        contender: benchmark.add_up([benchmark.play(contender, shape, "made-up", 0, None, 1)])
        for contender in benchmark.CONTENDERS
    }
    least = sums["clairvoyant"]
    assert least.waited <= min(found.waited for found in sums.values())
    assert least.least_gib_h <= least.gpu_gib_h <= min(found.gpu_gib_h for found in sums.values())
    hours = [sums[name].gpu_gib_h for name in ("ttl-1m", "ttl-5m", "ttl-15m", "ttl-30m", "while-it-fits")]
    assert hours == sorted(hours)
    drawn = benchmark.draw_curves({"a & b": {name: found.point for name, found in sums.items()}})
    assert drawn.count("<circle") == len(sums)
    assert "a &amp; b" in drawn


def test_who_is_stopped_goes_on_with_what_is_left(benchmark: ModuleType, shape: Any, tmp_path: Path) -> None:
    plays = [benchmark.Play(contender, shape, "made-up", 0, None, 1) for contender in ("ttl-1m", "ttl-5m")]
    kept = tmp_path / "plays.jsonl"
    first = benchmark.go_on(plays[:1], 1, kept)
    line = kept.read_text()
    kept.write_text(line + line[: len(line) // 2])
    both = benchmark.go_on(plays, 1, kept)
    assert [run.contender for run in both] == ["ttl-1m", "ttl-5m"]
    assert both[0].gpu_gib_h == first[0].gpu_gib_h
    assert kept.read_text().startswith(line)
    assert [run.contender for run in benchmark.read_runs(kept)] == ["ttl-1m", "ttl-5m"]
    assert benchmark.played_by_all(benchmark.read_runs(kept)) == benchmark.read_runs(kept)
    kept.write_text(kept.read_text() + line.replace('"seed": 0', '"seed": 1'))
    assert {run.seed for run in benchmark.played_by_all(benchmark.read_runs(kept))} == {0}


@pytest.fixture(scope="module")
def answers(benchmark: ModuleType) -> ModuleType:
    return load_benchmark("policy_answers")


def run_of(benchmark: ModuleType, contender: str, gib_h: float, waits_s: tuple[float, ...], seed: int = 0) -> Any:
    return benchmark.Run(contender, "1x24", "made-up", seed, 100, 0, waits_s, gib_h, 1, 1.0)


def test_foresight_is_compared_at_the_hours_of_the_others_on_its_own_line(
    benchmark: ModuleType, answers: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for seed, waiting in ((0, 20), (1, 40)):
        runs += [
            run_of(benchmark, "ttl-5m", 200.0, (2.0,) * 40, seed),
            run_of(benchmark, "while-it-fits", 400.0, (2.0,) * 20, seed),
            run_of(benchmark, "histogram", 250.0 + 100 * seed, (1.0,) * 10, seed),
            run_of(benchmark, "clairvoyant", 20.0, (1.0,) * 2, seed),
            run_of(benchmark, "foresight-1m", 100.0, (1.0,) * (waiting + 10), seed),
            run_of(benchmark, "foresight-15m", 300.0, (3.0,) * (waiting - 10), seed),
        ]
    answers.print_answers(runs)
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "1x24" in line]
    assert rows == [
        "1x24, made-up, 2 seeds 0.75 (0.50-1.00) 1.00 (1.00-1.00) 1.00 (1.00-1.00)",
        "1x24, made-up, 2 seeds 1.50 (1 of 2) 2.50 (1 of 2) 2.50 (1 of 2)",
        "1x24, made-up, 2 seeds 2.00 (1.00-3.00) 3.00 (3.00-3.00) 1.03 (0.86-1.20)",
        "1x24, made-up, 2 seeds 15.00 (10.00-20.00) 10.00 (10.00-10.00)",
        "1x24, made-up, 2 seeds no point 0.67 (0.33-1.00)",
    ]


def test_beyond_the_ends_of_its_line_foresight_has_no_point(answers: ModuleType) -> None:
    line = [answers.Point(300.0, 0.1, 3.0, 0.0), answers.Point(100.0, 0.3, 1.0, 0.0)]
    assert answers.at_hours(line, 150.0) == answers.Point(150.0, pytest.approx(0.25), 1.5, 0.0)
    assert [answers.at_hours(line, gib_h) for gib_h in (99.0, 301.0)] == [None, None]
    assert answers.spread([None, None]) == answers.NO_POINT
    assert answers.spread([0.5]) == "0.50"
    assert answers.spread([0.5, None, 0.7]) == "0.60 (0.50-0.70; 2 of 3)"


def test_what_was_kept_is_told_again_of_the_seeds_and_policies_that_are_asked_for(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, drawing = tmp_path / "plays.jsonl", tmp_path / "policy.svg"
    runs = [
        run_of(benchmark, contender, 100.0, (1.0,), seed)
        for contender in ("ttl-1m", "ttl-5m", "windows")
        for seed in (0, 1)
    ]
    kept.write_text("".join(json.dumps(asdict(run)) + "\n" for run in runs))
    command = ["policy.py", "--kept", str(kept), "--policy", "ttl-1m", "--seeds", "1", "--svg", str(drawing)]
    monkeypatch.setattr(sys, "argv", command)
    assert benchmark.main() == 0
    said = capsys.readouterr().out
    assert "1x24, 6 models, made-up, 1 seed: 100 requests judged" in said
    assert [line.split()[0] for line in said.splitlines()[3:]] == ["ttl-1m", "ttl-5m"]
    assert drawing.read_text().count("<circle") == 2
