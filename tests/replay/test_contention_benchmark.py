"""benchmarks/contention.py at small size: other rules do what they are called, and all sides get the same requests."""

from types import ModuleType

import pytest

from tests.replay.benchmark_modules import load_benchmark


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("contention")


@pytest.mark.parametrize(
    ("rule", "waits_s"),
    [
        # Asked: a at 0, b at 1, a at 2 and 3. "a" is loaded, a request takes 4 s, a switch 10 s.
        ("loaded model first", {"a": [0.0, 0.0, 0.0], "b": [16.0]}),  # all of "a" are over at 7
        ("first come, first served", {"a": [0.0, 26.0, 25.0], "b": [13.0]}),  # "b" from 14 to 18, both others at 28
        ("switch per request", {"a": [0.0, 26.0, 29.0], "b": [13.0]}),  # the last one when the third is over
    ],
)
def test_the_other_rules_serve_as_they_say(benchmark: ModuleType, rule: str, waits_s: dict[str, list[float]]) -> None:
    arrivals = [benchmark.Arrival(at_s, model) for at_s, model in ((0.0, "a"), (1.0, "b"), (2.0, "a"), (3.0, "a"))]
    (other,) = (each for each in benchmark.OTHERS if each.name == rule)
    outcome = other(("a", "b"), lambda _, to: 10.0, 120.0).play(arrivals, 240.0)
    assert outcome.waits_s == waits_s
    assert not outcome.in_vain


def test_every_side_gets_the_same_requests_and_with_a_short_turn_nobody_is_turned_away(benchmark: ModuleType) -> None:
    names, arrivals = benchmark.alternating(0.1, 300.0)
    assert {arrival.model for arrival in arrivals} == set(names)
    outcomes = benchmark.play(names, arrivals, 300.0 + 2 * benchmark.MAX_WAIT_S)
    for outcome in outcomes:
        assert outcome.served + outcome.in_vain.total() == len(arrivals)
        assert max(map(max, outcome.waits_s.values())) <= benchmark.MAX_WAIT_S
    (short,) = (outcome for outcome in outcomes if outcome.side == "sleepd, min_awake 10 s")
    assert not short.in_vain
    assert short.switches > 0
