"""benchmarks/policy.py at small size: every contender plays, and the numbers stand in the order that they must."""

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
