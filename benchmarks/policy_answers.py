"""What benchmarks/policy.py was made to tell of foresight: how it does against `ttl-5m` and the histogram at the
GiB-hours that each of these takes, how far it is from knowing all, and what a timeout does for as much. By seed, with
what the seed makes of it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from policy_chart import AHEAD, CURVES
from policy_sums import BASE, Run, Sum, add_up, told_seeds

NO_POINT = "no point"
"""Where foresight's line has none of these GiB-hours."""
Sums = Mapping[str, Sum]
Ratios = tuple[float | None, ...]


class Point(NamedTuple):
    """Of a policy: GiB-hours, share of requests that waited, and two 95th percentiles of waits in seconds."""

    gib_h: float
    share: float
    p95_waiting_s: float
    p95_s: float


def print_answers(runs: Sequence[Run]) -> None:
    """Print a table for each question, a line for each host and sort of traffic in the order of the runs."""
    groups = _by_seed(runs)
    groups = {name: seeds for name, seeds in groups.items() if all(BASE in sums for sums in seeds)}
    if not any(_line(sums) for seeds in groups.values() for sums in seeds):
        return
    print("\nForesight by seed, straight between the points of its own line: median of the seeds (least to most)")
    waits = ("waiting", "p95 of these", "p95 of all")
    _print("at ttl-5m's GiB-hours, of ttl-5m's", waits, groups, lambda sums: _at(sums, BASE))
    _print("at the histogram's GiB-hours, of its", waits, groups, lambda sums: _at(sums, "histogram"))
    _print("its dearest point, of the histogram's", ("waiting", "p95 of these", "GiB-hours"), groups, _dearest)
    _print("at ttl-5m's GiB-hours, of the clairvoyant's", ("waiting", "GiB-hours"), groups, _against_clairvoyant)
    points = [name for name in CURVES[1] if any(name in sums for seeds in groups.values() for sums in seeds)]
    _print("waiting, of a timeout's that costs as much", points, groups, lambda sums: _against_timeouts(sums, points))


def at_hours(line: Sequence[Point], gib_h: float) -> Point | None:
    """The point of the line at these GiB-hours, straight between the nearest on both sides; None beyond its ends."""
    for below, above in pairwise(sorted(line)):
        if below.gib_h <= gib_h <= above.gib_h:
            part = (gib_h - below.gib_h) / (above.gib_h - below.gib_h) if above.gib_h > below.gib_h else 0.0
            return Point(*(low + part * (high - low) for low, high in zip(below, above, strict=True)))
    return None


def spread(values: Sequence[float | None]) -> str:
    """The median, the least and the most where they are several; how many they are, where some are missing."""
    found = sorted(value for value in values if value is not None)
    if not found:
        return NO_POINT
    bounds = [f"{found[0]:.2f}-{found[-1]:.2f}"] if len(found) > 1 else []
    more = bounds + ([f"{len(found)} of {len(values)}"] if len(found) < len(values) else [])
    return f"{median(found):.2f}" + (f" ({'; '.join(more)})" if more else "")


def _print(
    heading: str, heads: Sequence[str], groups: Mapping[str, Sequence[Sums]], ask: Callable[[Sums], Ratios]
) -> None:
    width = 22 if len(heads) <= 3 else 17
    print(f"  {heading:44} " + " ".join(f"{head:{width}}" for head in heads).rstrip())
    for name, seeds in groups.items():
        told = [spread(column) for column in zip(*(ask(sums) for sums in seeds), strict=True)]
        print(f"    {f'{name}, {told_seeds(len(seeds))}':42} " + " ".join(f"{each:{width}}" for each in told).rstrip())


def _by_seed(runs: Sequence[Run]) -> dict[str, list[Sums]]:
    found: dict[str, dict[int, dict[str, Sum]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        found[f"{run.shape}, {run.traffic}"][run.seed][run.contender] = add_up([run])
    return {name: list(seeds.values()) for name, seeds in found.items()}


def _point(found: Sum) -> Point:
    return Point(found.gpu_gib_h, found.share, found.p95_waiting_s, found.p95_s)


def _line(sums: Sums) -> list[Point]:
    return [_point(found) for contender, found in sums.items() if contender.startswith(AHEAD)]


def _ratios(values: Sequence[float], bases: Sequence[float]) -> Ratios:
    return tuple(value / base if base else None for value, base in zip(values, bases, strict=True))


def _at(sums: Sums, contender: str) -> Ratios:
    """Foresight at the contender's GiB-hours, of what it comes to itself."""
    if contender not in sums:
        return None, None, None
    base = _point(sums[contender])
    there = at_hours(_line(sums), base.gib_h)
    return (None, None, None) if there is None else _ratios(there[1:], base[1:])


def _dearest(sums: Sums) -> Ratios:
    if "histogram" not in sums:
        return None, None, None
    base, most = _point(sums["histogram"]), max(_line(sums))
    return _ratios((most.share, most.p95_waiting_s, most.gib_h), (base.share, base.p95_waiting_s, base.gib_h))


def _against_clairvoyant(sums: Sums) -> Ratios:
    there = at_hours(_line(sums), sums[BASE].gpu_gib_h)
    if there is None or "clairvoyant" not in sums:
        return None, None
    knows = _point(sums["clairvoyant"])
    return _ratios((there.share, there.gib_h), (knows.share, knows.gib_h))


def _against_timeouts(sums: Sums, points: Sequence[str]) -> Ratios:
    """Each of these of what timeouts come to at its GiB-hours, straight between the points of their line."""
    timeouts = [_point(sums[name]) for name in CURVES[0] if name in sums]
    there = [at_hours(timeouts, sums[name].gpu_gib_h) if name in sums else None for name in points]
    return tuple(
        sums[name].share / point.share if point is not None and point.share else None
        for name, point in zip(points, there, strict=True)
    )
