"""The page of /metrics: gauges of one moment and what was counted until then, in the format that is asked for.

prometheus_client writes it, from a registry of our own: none of its global ones is used. What it is written from is
taken on the loop's thread in one piece; the writing happens in another thread, so that a host with hundreds of models
delays no stream by more than one turn of the interpreter's lock (5 ms).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from sleepd.obs.counts import Counts, Labels
from sleepd.obs.families import BY_NAME
from sleepd.obs.gauges import Moment, Sample, samples
from sleepd.obs.tally import Tally

GPU_LABEL = "gpu"
OPENMETRICS = "application/openmetrics-text"


class Page:
    """Collects what one page tells. Holds nothing of the daemon: it may be read in any thread."""

    def __init__(self, gauges: Iterable[Sample], counts: Counts, gpus: Mapping[str, str]) -> None:
        by_family: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for sample in gauges:
            by_family[sample.family].append((sample.labels, sample.value))
        self._metrics: list[Metric] = [_gauge(name, found) for name, found in by_family.items()]
        for name, series in counts.counters.items():
            labels, counted = BY_NAME[name].labels, list(series.items())
            if GPU_LABEL in labels:
                counted = [(_renamed(of, labels.index(GPU_LABEL), gpus), value) for of, value in counted]
            self._metrics.append(_counter(name, counted))
        self._metrics += [_histogram(name, counts) for name in counts.histograms]

    def collect(self) -> Iterator[Metric]:
        """Return every family that has a sample."""
        return (metric for metric in self._metrics if metric.samples)


def _renamed(labels: Labels, at: int, names: Mapping[str, str]) -> Labels:
    return (*labels[:at], names.get(labels[at], labels[at]), *labels[at + 1 :])


def _gauge(name: str, found: Iterable[tuple[Labels, float]]) -> Metric:
    metric = GaugeMetricFamily(name, BY_NAME[name].meaning, labels=BY_NAME[name].labels)
    for labels, value in found:
        metric.add_metric(labels, float(value))
    return metric


def _counter(name: str, found: Iterable[tuple[Labels, float]]) -> Metric:
    metric = CounterMetricFamily(name.removesuffix("_total"), BY_NAME[name].meaning, labels=BY_NAME[name].labels)
    for labels, value in found:
        metric.add_metric(labels, value)
    return metric


def _histogram(name: str, counts: Counts) -> Metric:
    family = BY_NAME[name]
    metric = HistogramMetricFamily(name, family.meaning, labels=family.labels)
    for labels, found in counts.histograms[name].items():
        metric.add_metric(labels, found.cumulated(family.buckets), found.sum)
    return metric


class Metrics:
    """What is counted, and the page of it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._gpus: dict[str, str] = {}
        """Indices of GPUs by UUID, as they were last seen."""
        self._writing = asyncio.Lock()

    async def page(self, moment: Moment, accept: str) -> tuple[str, bytes]:
        """Return content type and body: OpenMetrics where `accept` asks for it, else Prometheus' text format."""
        async with self._writing:
            self.tally.settle(moment.now.mono_s)
            gauges = list(samples(moment))
            self._name_gpus({s.labels[1]: s.labels[0] for s in gauges if s.family == "sleepd_gpu_info"})
            page = Page(gauges, self.tally.counts, self._gpus)
            return await asyncio.to_thread(write_page, page, accept)

    def _name_gpus(self, seen: dict[str, str]) -> None:
        """An index is whose it is now: one that is gone keeps its own until another has it, and is its UUID then."""
        taken = set(seen.values())
        self._gpus = {uuid: index for uuid, index in self._gpus.items() if index not in taken} | seen


def write_page(page: Page, accept: str) -> tuple[str, bytes]:
    """Return content type and body of a page, with what is known of the daemon's own process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(page)
    ProcessCollector(registry=registry)
    if prefers_openmetrics(accept):
        return CONTENT_TYPE_LATEST, generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) wants OpenMetrics at least as much as plain text."""
    wanted: dict[str, float] = {}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        weights = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        try:
            wanted[kind] = float(weights[0]) if weights else 1.0
        except ValueError:
            continue
    return wanted.get(OPENMETRICS, 0.0) > 0.0 and wanted[OPENMETRICS] >= wanted.get("text/plain", 0.0)
