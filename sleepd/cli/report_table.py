"""`sleepctl report`: what sleeping gave back and what it cost, in 80 columns."""

from __future__ import annotations

from sleepd.cli.columns import Columns
from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.history_shapes import HistoryReport, ReportRow

PERCENTILES = "P50, P95: how long requests waited; half, and 95 of 100, no longer"
_NAME_WIDTH = 14
_HEADS = ("GIB-HOURS", "ASLEEP", "WAKES", "P50", "P95", "REFUSED", "FAILED")


def render_report(report: HistoryReport, screen: Screen) -> list[str]:
    """Return the report: a few sentences, a table by model, and one by what put models to sleep."""
    if not report["models"]:
        return [f"nothing is on record from {_told(report['since'])} to {_told(report['until'])}"]
    lines = summary(report)
    if screen.width is not None:
        lines = [part for line in lines for part in screen.wrap(line, indent=0)]
    lines += ["", *_table("MODEL", report["models"], screen)]
    if report["by"]:
        lines += ["", *_table("PUT TO SLEEP", report["by"], screen)]
    return [*lines, "", screen.cut(PERCENTILES, screen.width)]


def summary(report: HistoryReport) -> list[str]:
    """Return the report's first sentences: the span, what was given back, wakes and waits, what went wrong."""
    total = report["total"]
    lines = [
        f"{_told(report['since'])} to {_told(report['until'])}",
        f"given back: {gib_hours(total)} GiB-hours of GPU memory",
        f"wakes: {total['wakes']}; requests that waited: {total['waits']}{_waited(total)}",
        f"refused after waiting: {total['refused']}; failed sleeps and wakes: {total['failures']}",
    ]
    if report["gpus"]:
        lines.append(f"energy of the GPUs: {format_energy(sum(gpu['energy_j'] for gpu in report['gpus']))}")
    if total["unmeasured_s"]:
        unmeasured = format_duration(round(total["unmeasured_s"]))
        lines.append(f"not counted: {unmeasured} asleep of models whose memory was not measured yet")
    return lines


def _table(head: str, rows: Sequence[ReportRow], screen: Screen) -> list[str]:
    energy = any(row["energy_j"] is not None for row in rows)
    heads = (head, *_HEADS, "ENERGY") if energy else (head, *_HEADS)
    limit = None if screen.width is None else max(_NAME_WIDTH, screen.width - (66 if energy else 58))
    cells = [_cells(row, screen.cut_middle(clean(row["name"]), limit), energy) for row in rows]
    columns = Columns((*heads, ""), [(*each, "") for each in cells], right=range(1, len(heads)))
    return columns.render(screen, [{0: "bold"}] * len(rows))


def _cells(row: ReportRow, name: str, energy: bool) -> tuple[str, ...]:
    waits = [seconds_or_dash(row["wait_p50_s"]), seconds_or_dash(row["wait_p95_s"])]
    found = (name, gib_hours(row), format_duration(round(row["asleep_s"])), str(row["wakes"]), *waits)
    last = (_energy(row),) if energy else ()
    return (*found, str(row["refused"]), str(row["failures"]), *last)


def gib_hours(row: ReportRow) -> str:
    """Return what a row gave back, without its unit."""
    return f"{row['given_back_gib_h']:,.1f}"


def _waited(row: ReportRow) -> str:
    if row["wait_p50_s"] is None or row["wait_p95_s"] is None:
        return ""
    return (
        f", half of them no longer than {seconds_or_dash(row['wait_p50_s'])}, 95% {seconds_or_dash(row['wait_p95_s'])}"
    )


def seconds_or_dash(value: float | None) -> str:
    """Return how long; "-" where nobody waited."""
    return "-" if value is None else format_duration(value)


def _energy(row: ReportRow) -> str:
    return "-" if row["energy_j"] is None else format_energy(row["energy_j"])


def format_energy(joules: float) -> str:
    """Return an amount of energy for people: "0.3Wh", "12Wh", "3.4kWh"."""
    hours = joules / 3600
    if hours < 9.95:
        return f"{hours:.1f}Wh"
    return f"{hours / 1000:.1f}kWh" if hours >= 1000 else f"{hours:.0f}Wh"


def _told(moment: str) -> str:
    return clean(moment)[:16].replace("T", " ") + "Z"
