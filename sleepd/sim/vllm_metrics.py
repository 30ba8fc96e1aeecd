"""The `/metrics` text of a simulated server, rendered from a snapshot. Only the HTTP layer calls it.

Form and order follow vLLM 0.32.0's page: prometheus_client's text format with `_created` gauges, labels sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sleepd.sim import vllm_metric_families as families
from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_types import EngineSnapshot, EngineSpec

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_SLEEP_STATE_HELP = (
    "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
    "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2."
)
Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]
    """(full sample name, labels, value)."""


def render(snapshot: EngineSnapshot, spec: EngineSpec, dialect: Dialect, names: frozenset[str] = frozenset()) -> str:
    """The page; with `names`, only the samples so called, as prometheus_client's `name[]` filter does."""
    lines: list[str] = []
    for family in _page(snapshot, spec, dialect):
        samples = [s for s in family.samples if s[0] in names] if names else family.samples
        if names and not samples:
            continue
        lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}")
        lines += (f"{name}{_braces(labels)} {_number(value)}" for name, labels, value in samples)
    return "".join(f"{line}\n" for line in lines)


def _page(snapshot: EngineSnapshot, spec: EngineSpec, dialect: Dialect) -> Iterator[_Family]:
    model: Labels = (("engine", "0"), ("model_name", spec.name))
    started_s = snapshot.process_start_time_s
    yield from _process(snapshot)
    counters = list(_counters(snapshot, model, dialect))
    yield from _created(counters[:3], started_s)
    yield from _gauges(snapshot, model, dialect)
    yield from _created(counters[3:], started_s)
    yield from _created(_histograms(snapshot, model), started_s)
    info = (("block_size", "16"), ("cache_dtype", "auto"), ("enable_prefix_caching", "True"), ("engine", "0"))
    sample = ("vllm:cache_config_info", info, 1.0)
    yield _Family("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig", (sample,))
    yield from _created(_http(snapshot), started_s)
    if dialect.has_operation_metrics:
        yield from _operations(snapshot, started_s)


def _process(snapshot: EngineSnapshot) -> Iterator[_Family]:
    for name, help_, value in families.PYTHON:
        samples = tuple((name, (("generation", str(n)),), float(value)) for n in range(3))
        yield _Family(name, "counter", help_, samples)
    version = (("implementation", "CPython"), ("major", "3"), ("minor", "11"), ("patchlevel", "7"))
    yield _Family(
        "python_info",
        "gauge",
        "Python platform information",
        (("python_info", (*version, ("version", "3.11.7")), 1.0),),
    )
    for name, kind, help_, number in (
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", 1.624731648e09),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", 5.37370624e08),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            snapshot.process_start_time_s,
        ),
        ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", 6.6),
        ("process_open_fds", "gauge", "Number of open file descriptors.", 37.0),
        ("process_max_fds", "gauge", "Maximum number of open file descriptors.", 20000.0),
    ):
        yield _Family(name, kind, help_, ((name, (), number),))


def _gauges(snapshot: EngineSnapshot, model: Labels, dialect: Dialect) -> Iterator[_Family]:
    running, waiting = float(snapshot.num_requests_running), float(snapshot.num_requests_waiting)
    for name, help_, value in (
        ("vllm:num_requests_running", "Number of requests in model execution batches.", running),
        ("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting),
    ):
        yield _Family(name, "gauge", help_, ((name, model, value),))
    name = "vllm:num_requests_waiting_by_reason"
    reasons = tuple(
        (name, (*model, ("reason", reason)), value) for reason, value in (("capacity", waiting), ("deferred", 0.0))
    )
    if dialect.has_waiting_reasons:
        yield _Family(name, "gauge", "Number of waiting requests by reason.", reasons)
    name = "vllm:engine_sleep_state"
    states = tuple(
        (name, (*model, ("sleep_state", state)), float(snapshot.sleep_state == state))
        for state in ("awake", "weights_offloaded", "discard_all")
    )
    if dialect.has_sleep_gauge:
        yield _Family(name, "gauge", _SLEEP_STATE_HELP, states)
    for name in dialect.kv_usage:
        yield _Family(name, "gauge", "KV-cache usage. 1 means 100 percent usage.", ((name, model, 0.0),))


def _counters(snapshot: EngineSnapshot, model: Labels, dialect: Dialect) -> Iterator[_Family]:
    known: dict[tuple[str, str], float] = {
        ("vllm:prefix_cache_queries_total", ""): snapshot.prompt_tokens,
        ("vllm:prompt_tokens_total", ""): snapshot.prompt_tokens,
        ("vllm:prompt_tokens_by_source_total", "local_compute"): snapshot.prompt_tokens,
        ("vllm:generation_tokens_total", ""): snapshot.generation_tokens,
    }
    for reason, count in snapshot.request_success.items():
        known["vllm:request_success_total", reason] = count
    for name, help_, label, values in families.COUNTERS:
        samples = []
        for value in dialect.end_reasons if name == "vllm:request_success_total" else values:
            labels = tuple(sorted((*model, (label, value)))) if label else model
            samples.append((name, labels, float(known.get((name, value), 0))))
        yield _Family(name, "counter", help_, tuple(samples))


def _histograms(snapshot: EngineSnapshot, model: Labels) -> Iterator[_Family]:
    ended = sum(snapshot.request_success.values())
    seconds = sum(spent for (handler, _), (_, spent) in snapshot.http_seconds.items() if "completions" in handler)
    sums: dict[str, float] = {
        "vllm:request_prompt_tokens": snapshot.prompt_tokens,
        "vllm:request_prefill_kv_computed_tokens": snapshot.prompt_tokens,
        "vllm:request_generation_tokens": snapshot.generation_tokens,
        "vllm:request_max_num_generation_tokens": snapshot.generation_tokens,
        "vllm:request_params_n": ended,
        "vllm:e2e_request_latency_seconds": seconds,
        "vllm:request_inference_time_seconds": seconds,
    }
    for name, help_, buckets in families.HISTOGRAMS:
        yield _Family(name, "histogram", help_, _histogram(name, model, buckets, ended, float(sums.get(name, 0.0))))


def _histogram(name: str, labels: Labels, buckets: tuple[str, ...], count: int, total: float) -> tuple[Sample, ...]:
    """All observations lie at their mean: the engine keeps sums, and nobody who reads the page needs more."""
    mean = total / count if count else 0.0
    samples: list[Sample] = []
    for edge in buckets:
        below = count if mean <= float(edge) else 0
        samples.append((f"{name}_bucket", tuple(sorted((*labels, ("le", edge)))), float(below)))
    return (*samples, (f"{name}_count", labels, float(count)), (f"{name}_sum", labels, total))


def _http(snapshot: EngineSnapshot) -> Iterator[_Family]:
    name = "http_requests_total"
    counts = tuple(
        (name, (("handler", handler), ("method", method), ("status", status)), float(count))
        for (handler, method, status), count in snapshot.http_requests.items()
    )
    yield _Family(name, "counter", "Total number of requests by method, status and handler.", counts)
    handlers: dict[str, int] = {}
    for (handler, _, _), count in snapshot.http_requests.items():
        handlers[handler] = handlers.get(handler, 0) + count
    for name, what in (
        ("http_request_size_bytes", "incoming requests"),
        ("http_response_size_bytes", "outgoing responses"),
    ):
        samples: list[Sample] = []
        for handler, count in handlers.items():
            labels = (("handler", handler),)
            samples += ((f"{name}_count", labels, float(count)), (f"{name}_sum", labels, 0.0))
        yield _Family(name, "summary", f"Content length of {what} by handler.", tuple(samples))
    name, total = "http_request_duration_highr_seconds", sum(spent for _, spent in snapshot.http_seconds.values())
    ended = sum(count for count, _ in snapshot.http_seconds.values())
    help_ = "Latency with many buckets but no API specific labels."
    yield _Family(name, "histogram", help_, _histogram(name, (), families.HTTP_S, ended, total))
    name = "http_request_duration_seconds"
    by_handler: list[Sample] = []
    for (handler, method), (count, spent) in snapshot.http_seconds.items():
        both: Labels = (("handler", handler), ("method", method))
        by_handler += _histogram(name, both, families.HANDLER_S, count, spent)
    yield _Family(name, "histogram", "Latency with only few buckets by handler.", tuple(by_handler))


def _operations(snapshot: EngineSnapshot, started_s: float) -> Iterator[_Family]:
    """Created lazily, at the first operation (0.32+)."""
    if not snapshot.operations_in_flight:
        return
    name, spent = "vllm:sleep_mode_operation_duration_seconds", snapshot.operation_seconds
    samples: list[Sample] = []
    for operation, (count, seconds) in spent.items():
        samples += _histogram(name, (("operation", operation),), families.OPERATION_S, count, seconds)
    yield from _created(
        [_Family(name, "histogram", "Duration of one sleep-mode operation.", tuple(samples))], started_s
    )
    name = "vllm:sleep_mode_operations_in_flight"
    in_flight: Mapping[str, int] = snapshot.operations_in_flight
    gauges = tuple((name, (("operation", operation),), float(count)) for operation, count in in_flight.items())
    yield _Family(name, "gauge", "Sleep-mode operations currently awaited.", gauges)


def _created(some: Iterator[_Family] | list[_Family], started_s: float) -> Iterator[_Family]:
    """Each family, followed by the gauge that says since when it counts."""
    for family in some:
        yield family
        base = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        name = f"{base}_created"
        labels = dict.fromkeys(
            tuple(pair for pair in labels if pair[0] not in ("le", "quantile")) for _, labels, _ in family.samples
        )
        yield _Family(name, "gauge", family.help, tuple((name, one, started_s) for one in labels))


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    """As prometheus_client prints it: Python's shortest form, exponents as Go writes them."""
    text = repr(value)
    dot = text.find(".")
    if value > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return text
