"""What plays of benchmarks/policy.py came to, added up."""

from collections.abc import Sequence
from dataclasses import dataclass

from sleepd.replay.outcome import nearest_rank

BASE = "ttl-5m"
"""What all others are compared with: what sleepd does by default."""

Key = tuple[str, str, str, int]
"""Contender, shape, traffic and seed: one play each."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one contender came to in one play."""

    contender: str
    shape: str
    traffic: str
    seed: int
    served: int
    refused: int
    waits_s: tuple[float, ...]
    gpu_gib_h: float
    wakes: int
    least_gib_h: float

    @property
    def key(self) -> Key:
        return self.contender, self.shape, self.traffic, self.seed


@dataclass(frozen=True, slots=True)
class Sum:
    """One contender's runs on one shape and sort of traffic together."""

    served: int
    waited: int
    refused: int
    p95_s: float
    p95_waiting_s: float
    gpu_gib_h: float
    wakes: int
    least_gib_h: float

    @property
    def share(self) -> float:
        """Of the requests, those that waited or were turned away."""
        return (self.waited + self.refused) / max(1, self.served + self.refused)

    @property
    def point(self) -> tuple[float, float]:
        """GiB-hours, and the share of requests that waited or were turned away."""
        return self.gpu_gib_h, self.share


def add_up(runs: Sequence[Run]) -> Sum:
    waits_s = sorted(wait_s for run in runs for wait_s in run.waits_s)
    served = sum(run.served for run in runs)
    return Sum(
        served,
        len(waits_s),
        sum(run.refused for run in runs),
        nearest_rank(waits_s, served, 0.95),
        nearest_rank(waits_s, len(waits_s), 0.95),
        sum(run.gpu_gib_h for run in runs),
        sum(run.wakes for run in runs),
        sum(run.least_gib_h for run in runs),
    )


def ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"


def told_seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
