"""Counters and histograms: plain numbers by family and labels, added to on the loop's thread only."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sleepd.obs.families import BY_NAME, FAMILIES, Family, Kind

Labels = tuple[str, ...]


@dataclass(slots=True)
class Distribution:
    """How often a value fell below each bound of its family (not cumulated, the infinite one last), and their sum."""

    counts: list[int]
    sum: float = 0.0

    def cumulated(self, bounds: tuple[float, ...]) -> list[tuple[str, float]]:
        """Return (upper bound, how many are at most that) as the exposition format wants them."""
        pairs, total = [], 0
        for bound, count in zip((*bounds, float("inf")), self.counts, strict=True):
            total += count
            pairs.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        return pairs


class Counts:
    """Grows only; a series goes when what it is about is gone."""

    def __init__(self) -> None:
        self.counters: dict[str, dict[Labels, float]] = {f.name: {} for f in FAMILIES if f.kind is Kind.COUNTER}
        self.histograms: dict[str, dict[Labels, Distribution]] = {
            f.name: {} for f in FAMILIES if f.kind is Kind.HISTOGRAM
        }

    def add(self, family: str, *labels: str, by: float = 1.0) -> None:
        series = self.counters[family]
        series[labels] = series.get(labels, 0.0) + by

    def begin(self, family: str, *labels: str) -> None:
        """Let a counter be there before it first counts, so that its first step can be seen as one."""
        self.counters[family].setdefault(labels, 0.0)

    def observe(self, family: str, value: float, *labels: str) -> None:
        of, series = BY_NAME[family], self.histograms[family]
        found = series.get(labels)
        if found is None:
            found = series[labels] = Distribution([0] * (len(of.buckets) + 1))
        found.counts[bisect_left(of.buckets, value)] += 1
        found.sum += value

    def keep(self, label: str, stays: Callable[[str], bool]) -> None:
        """Forget every series whose `label` says something that does not stay."""
        tables: tuple[Mapping[str, dict[Labels, float]], Mapping[str, dict[Labels, Distribution]]]
        tables = (self.counters, self.histograms)
        for table in tables:
            for name, series in table.items():
                at = _place(BY_NAME[name], label)
                if at is not None:
                    for labels in [labels for labels in series if not stays(labels[at])]:
                        del series[labels]


def _place(family: Family, label: str) -> int | None:
    return family.labels.index(label) if label in family.labels else None
