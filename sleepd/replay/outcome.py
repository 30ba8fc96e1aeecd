"""What a replay came to, as numbers: by model and in all. The shape of `sleepd simulate --json`."""

from collections.abc import Sequence
from math import ceil
from typing import Any, TypedDict

from sleepd.core.units import Seconds
from sleepd.replay.account import HOUR_S, Account, ModelAccount

PERCENTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


class Waits(TypedDict):
    """Seconds; 0 where nobody is counted."""

    p50: float
    p95: float
    p99: float
    max: float


class Row(TypedDict):
    """One model's, or everybody's. `wait_s` is over all requests that were served, `waiting_s` over those that waited:
    percentiles by nearest rank. `wakes` and `sleeps` go by level. `energy_kwh` is an estimate from declared watts: a
    model's share of what its GPUs drew; everybody's, what all GPUs drew."""

    requests: int
    served: int
    waited: int
    waited_share: float
    refused: int
    wait_s: Waits
    waiting_s: Waits
    wakes: dict[str, int]
    sleeps: dict[str, int]
    awake_h: float
    awake_gpu_gib_h: float
    host_gib_h: float
    energy_kwh: float


class Outcome(TypedDict):
    """`nobody_kwh` of `energy_kwh` were drawn by GPUs on which no model was awake; the rest is the models' together."""

    seconds: float
    total: Row
    models: dict[str, Row]
    energy_kwh: float
    nobody_kwh: float


def outcome_of(account: Account, end_s: Seconds) -> Outcome:
    """Return what was counted of a replay that ended at `end_s`."""
    energy, models = account.energy, account.models
    return {
        "seconds": round(max(0.0, end_s - account.from_s), 3),
        "total": _row(list(models.values()), energy.total_j),
        "models": {name: _row([models[name]], energy.of_model_j.get(name, 0.0)) for name in sorted(models)},
        "energy_kwh": _kwh(energy.total_j),
        "nobody_kwh": _kwh(energy.of_nobody_j),
    }


def _kwh(joules: float) -> float:
    return round(joules / 3.6e6, 3)


def _row(accounts: Sequence[ModelAccount], energy_j: float) -> Row:
    waits_s = sorted(wait_s for account in accounts for wait_s in account.waits_s)
    requests, served = sum(a.requests for a in accounts), sum(a.served for a in accounts)
    return {
        "requests": requests,
        "served": served,
        "waited": len(waits_s),
        "waited_share": round(len(waits_s) / served, 6) if served else 0.0,
        "refused": sum(a.refused for a in accounts),
        "wait_s": _waits(waits_s, served),
        "waiting_s": _waits(waits_s, len(waits_s)),
        "wakes": _by_level([a.wakes for a in accounts]),
        "sleeps": _by_level([a.sleeps for a in accounts]),
        "awake_h": round(sum(a.held_s for a in accounts) / HOUR_S, 3),
        "awake_gpu_gib_h": round(sum(a.gpu_gib_s for a in accounts) / HOUR_S, 3),
        "host_gib_h": round(sum(a.host_gib_s for a in accounts) / HOUR_S, 3),
        "energy_kwh": _kwh(energy_j),
    }


def _waits(waits_s: Sequence[Seconds], of: int) -> Waits:
    """Percentiles of `of` requests, of which these waited and the others did not; sorted."""
    found = {name: nearest_rank(waits_s, of, share) for name, share in PERCENTILES}
    return {**found, "max": round(waits_s[-1], 3) if waits_s else 0.0}  # type: ignore[typeddict-item]


def nearest_rank(waits_s: Sequence[Seconds], of: int, share: float) -> Seconds:
    """The smallest wait that at least this share of `of` requests do not exceed; those not in the list waited 0."""
    rank = ceil(share * of) - (of - len(waits_s))
    return round(waits_s[rank - 1], 3) if rank > 0 else 0.0


def _by_level(counts: Sequence[Any]) -> dict[str, int]:
    return {str(level): sum(count[level] for count in counts) for level in (1, 2)}
