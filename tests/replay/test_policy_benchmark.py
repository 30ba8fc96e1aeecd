"""benchmarks/policy.py at small size: every contender plays, and the numbers stand in the order that they must."""

from pathlib import Path
from types import ModuleType

import pytest

from sleepd.sim.traffic import make_traffic
from tests.replay.benchmark_modules import load_benchmark


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("policy")


def test_every_contender_plays_and_knowing_all_costs_least(benchmark: ModuleType) -> None:
    shape = next(shape for shape in benchmark.SHAPES if shape.name == "1x24")
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


def test_who_is_stopped_goes_on_with_what_is_left(benchmark: ModuleType, tmp_path: Path) -> None:
    shape = next(shape for shape in benchmark.SHAPES if shape.name == "1x24")
    plays = [(contender, shape, "made-up", 0, None, 1) for contender in ("ttl-1m", "ttl-5m")]
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
