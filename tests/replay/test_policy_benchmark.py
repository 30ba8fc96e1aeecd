"""benchmarks/policy.py at small size: every contender plays, and the numbers stand in the order that they must."""

import sys
from pathlib import Path

import pytest

from sleepd.sim.traffic import make_traffic


@pytest.fixture(scope="module")
def benchmark() -> object:
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import policy
    finally:
        sys.path.remove(folder)
    return policy


def test_every_contender_plays_and_knowing_all_costs_least(benchmark) -> None:  # type: ignore[no-untyped-def]
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
