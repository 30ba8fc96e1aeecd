"""A replay's outcome as text: a table of models, and lines that compare two policies."""

from collections.abc import Mapping, Sequence

from sleepd.core.units import format_duration
from sleepd.replay.outcome import Outcome, Row

HEADS = (
    *("MODEL", "REQUESTS", "WAITED", "P50", "P95", "P99", "MAX", "REFUSED", "WAKES L1/L2", "AWAKE"),
    *("GPU GIB-H", "KWH", "HOST GIB-H"),
)
COMPARED = ("", "REQUESTS", "WAITED", "P95 OF THESE", "REFUSED", "WAKES", "AWAKE GPU GIB-H", "HOST GIB-H", "ENERGY")


def rows_of(outcome: Outcome) -> list[tuple[str, ...]]:
    """One row a model, the most used first, and one for all."""
    models = sorted(outcome["models"].items(), key=lambda named: (-named[1]["requests"], named[0]))
    return [*(row_of(name, row) for name, row in models), row_of("all", outcome["total"])]


def row_of(name: str, row: Row) -> tuple[str, ...]:
    waits = row["waiting_s"]
    told = (waits["p50"], waits["p95"], waits["p99"], waits["max"])
    return (
        name,
        str(row["requests"]),
        share(row),
        *(format_seconds(found) if row["waited"] else "-" for found in told),
        str(row["refused"]),
        f"{row['wakes']['1']}/{row['wakes']['2']}",
        f"{row['awake_h']:.1f} h",
        f"{row['awake_gpu_gib_h']:.0f}",
        f"{row['energy_kwh']:.1f}",
        f"{row['host_gib_h']:.0f}",
    )


def compared_rows(outcomes: Mapping[str, Outcome]) -> list[tuple[str, ...]]:
    """One row for each policy; the later ones with their ratio to the first."""
    first = next(iter(outcomes.values()))
    return [_compared(name, outcome, first) for name, outcome in outcomes.items()]


def _compared(name: str, outcome: Outcome, first: Outcome) -> tuple[str, ...]:
    row, base = outcome["total"], first["total"]
    wakes, base_wakes = sum(row["wakes"].values()), sum(base["wakes"].values())
    energy = f"{outcome['energy_kwh']:.1f} kWh"
    if outcome is first:
        return (
            name,
            str(row["requests"]),
            share(row),
            format_seconds(row["waiting_s"]["p95"]),
            str(row["refused"]),
            str(wakes),
            f"{row['awake_gpu_gib_h']:.0f}",
            f"{row['host_gib_h']:.0f}",
            energy,
        )
    return (
        name,
        str(row["requests"]),
        share(row) + _ratio(row["waited"], base["waited"]),
        format_seconds(row["waiting_s"]["p95"]) + _ratio(row["waiting_s"]["p95"], base["waiting_s"]["p95"]),
        str(row["refused"]),
        str(wakes) + _ratio(wakes, base_wakes),
        f"{row['awake_gpu_gib_h']:.0f}" + _ratio(row["awake_gpu_gib_h"], base["awake_gpu_gib_h"]),
        f"{row['host_gib_h']:.0f}",
        energy + _ratio(outcome["energy_kwh"], first["energy_kwh"]),
    )


def _ratio(value: float, base: float) -> str:
    return f" (x{value / base:.2f})" if base else ""


def share(row: Row) -> str:
    """How many of those that were served had waited."""
    return f"{100 * row['waited_share']:.1f}%"


def format_seconds(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 100 else format_duration(round(seconds))


def sentences(outcome: Outcome, remarks: Sequence[str], what: str) -> list[str]:
    """What was played and what came of it, as sentences."""
    total = outcome["total"]
    refused = f"; {total['refused']} were turned away" if total["refused"] else ""
    left = total["requests"] - total["served"] - total["refused"]
    waits = f"; {left} still waited when the trace ended" if left else ""
    return [
        what,
        f"{total['waited']} of {total['served']} served requests waited for a wake ({share(total)}){refused}{waits}.",
        f"Awake models held {total['awake_gpu_gib_h']:.0f} GiB-hours of GPU memory, backups {total['host_gib_h']:.0f}"
        f" of host RAM; about {outcome['energy_kwh']:.1f} kWh by the watts that the host description declares,"
        f" {outcome['nobody_kwh']:.1f} of them drawn by GPUs on which no model was awake.",
        *(f"Note: {remark}." for remark in remarks),
    ]
