"""`sleepctl report --html`: the report as a page with charts, made of what the API answered."""

from __future__ import annotations

from sleepd.charts import Area, Bar, Lane, Section, Span, Table, Window, draw_areas, draw_bars, draw_timeline, make_page
from sleepd.cli.columns import wall_s
from sleepd.cli.history_table import told, why
from sleepd.cli.report_table import PERCENTILES, gib_hours, seconds_or_dash, summary
from sleepd.core.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.history_shapes import History, HistoryReport, ReportRow, StateSpan, TaskSpan
    from sleepd.wire.shapes import Gpu

MISSES_LIMIT = 200
"""So many sleeps and wakes that did not come about are listed, the latest."""


class Chronicle:
    """What a page shows of history's pages, without the requests of every minute."""

    def __init__(self) -> None:
        self.states: dict[str, list[StateSpan]] = {}
        self.held: dict[str, list[tuple[float, float]]] = {}
        self.misses: list[TaskSpan] = []

    def take(self, page: History) -> None:
        """The next page is taken in."""
        for state in page["states"]:
            self.states.setdefault(state["model"], []).append(state)
        for sample in page["vram"]:
            if sample["model"] is None:
                self.held.setdefault(sample["gpu"], []).append((wall_s(sample["minute"]), sample["held_bytes"]))
        missed = [task for task in (*page["wakes"], *page["tasks"]) if task["result"] in ("failed", "refused")]
        self.misses = [*self.misses, *missed][-MISSES_LIMIT:]


def make_report_page(report: HistoryReport, chronicle: Chronicle, gpus: Sequence[Gpu]) -> str:
    """Return the page. `gpus`: those there are now; of others it is not known how much memory they had."""
    window = Window(wall_s(report["since"]), wall_s(report["until"]))
    if not report["models"]:
        return make_page("sleepd report", [*summary(report)[:1], "Nothing is on record for this time."], [])
    sections = [_states(report, chronicle, window)]
    if chronicle.held:
        sections.append(_held(chronicle, gpus, window))
    sections.append(_given_back("by-model", "GPU memory given back, by model", "MODEL", report["models"]))
    if report["by"]:
        sections.append(_given_back("by-cause", "By what put models to sleep", "PUT TO SLEEP", report["by"]))
    sections += _wakes(report)
    if chronicle.misses:
        sections.append(_misses(chronicle.misses))
    return make_page("sleepd report", summary(report), sections)


def _states(report: HistoryReport, chronicle: Chronicle, window: Window) -> Section:
    lanes = [Lane(name, [_span(s, window) for s in spans]) for name, spans in sorted(chronicle.states.items())]
    heading = "What each model was"
    rows = [
        (row["name"], _lasted(row["awake_s"]), _lasted(row["asleep_s"]), str(row["wakes"]), str(row["failures"]))
        for row in report["models"]
    ]
    return Section(
        heading,
        "Full height: awake; half: asleep with the weights in host RAM; less: asleep without. UTC.",
        draw_timeline(lanes, window, name="states", title=heading),
        Table(("MODEL", "AWAKE", "ASLEEP OR STOPPED", "WAKES", "FAILED"), rows),
    )


def _span(state: StateSpan, window: Window) -> Span:
    until_s = window.until_s if state["until"] is None else wall_s(state["until"])
    freed = f", frees {format_size(state['freed_bytes'])}" if state["freed_bytes"] else ""
    return Span(wall_s(state["since"]), until_s, state["state"], state["level"], why(state["by"], state["who"]) + freed)


def _held(chronicle: Chronicle, gpus: Sequence[Gpu], window: Window) -> Section:
    known = {gpu["uuid"]: gpu for gpu in gpus}
    areas, rows = [], []
    for uuid, points in chronicle.held.items():
        peak = max(held for _, held in points)
        total = known[uuid]["total_bytes"] if uuid in known else peak
        name = f"GPU {known[uuid]['index']}" if uuid in known else uuid
        areas.append(Area(name, points, total))
        rows.append((name, uuid, format_size(round(peak)), format_size(round(total)) if uuid in known else "-"))
    heading = "GPU memory held"
    chart = draw_areas(sorted(areas, key=lambda area: area.name), window, name="held", title=heading)
    return Section(heading, "By everybody together.", chart, Table(("GPU", "UUID", "MOST", "TOTAL"), sorted(rows), 2))


def _given_back(name: str, heading: str, head: str, rows: Sequence[ReportRow]) -> Section:
    ordered = sorted(rows, key=lambda row: -row["given_back_gib_h"])
    bars = [Bar(row["name"], row["given_back_gib_h"], f"{gib_hours(row)} GiB-hours") for row in ordered]
    about = "GiB times hours that sleepers did not hold"
    cells = [
        (row["name"], gib_hours(row), _lasted(row["asleep_s"]), _lasted(row["unmeasured_s"]), str(row["wakes"]))
        for row in ordered
    ]
    table = Table((head, "GIB-HOURS", "ASLEEP", "OF THIS NOT MEASURED", "WAKES"), cells)
    return Section(heading, f"{about}.", draw_bars(bars, name=name, title=heading, about=about), table)


def _wakes(report: HistoryReport) -> list[Section]:
    woken = [row for row in report["models"] if row["wakes"] or row["waits"] or row["refused"]]
    if not woken:
        return []
    heading = "Wakes, and how long requests waited for them"
    bars = []
    for row in woken:
        p50, p95 = row["wait_p50_s"], row["wait_p95_s"]
        waited = f"{seconds_or_dash(p50)}, 95% {seconds_or_dash(p95)}" if p50 is not None else "nobody waited"
        bars.append(Bar(row["name"], p50 or 0.0, f"{waited}; {row['wakes']} wakes", p95))
    cells = [
        (
            *(row["name"], str(row["wakes"]), str(row["waits"])),
            *(seconds_or_dash(row["wait_p50_s"]), seconds_or_dash(row["wait_p95_s"]), str(row["refused"])),
        )
        for row in woken
    ]
    about = "bar: half of the requests waited no longer; thin line: 95 of 100"
    table = Table(("MODEL", "WAKES", "WAITED", "P50", "P95", "REFUSED"), cells)
    chart = draw_bars(bars, name="waits", title=heading, about=PERCENTILES)
    return [Section(heading, f"{about.capitalize()}.", chart, table)]


def _misses(misses: Sequence[TaskSpan]) -> Section:
    rows = [
        (told(each["began"]), each["model"], f"{each['kind']} {each['result']}", each["outcome"])
        for each in sorted(misses, key=lambda each: each["began"], reverse=True)
    ]
    return Section("What did not come about", table=Table(("BEGAN", "MODEL", "WHAT", "WHY"), rows, 4))


def _lasted(seconds: float) -> str:
    return format_duration(round(seconds))
