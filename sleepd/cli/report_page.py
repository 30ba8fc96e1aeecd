"""`sleepctl report --html`: the report as a page with charts, made of what the API answered."""

from __future__ import annotations

from math import ceil

from sleepd.charts import Area, Bar, Lane, Section, Span, Table, Window, draw_areas, draw_bars, draw_timeline, make_page
from sleepd.cli.columns import moment, wall_s
from sleepd.cli.report_table import PERCENTILES, gib_hours, seconds_or_dash, summary
from sleepd.core.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.history_shapes import HistoryReport, ReportRow, Timeline
    from sleepd.wire.shapes import Gpu, Task

STEPS = 1600
"""How fine a timeline is asked for: two steps for each pixel that there is."""


def step_of(report: HistoryReport) -> int:
    """Return how long a step of its timeline is, in seconds."""
    return max(1, ceil((wall_s(report["until"]) - wall_s(report["since"])) / STEPS))


def make_report_page(
    report: HistoryReport, timeline: Timeline | None, gpus: Sequence[Gpu], tasks: Sequence[Task]
) -> str:
    """Return the page. `timeline`: of the report's span, None where nothing is on record; `gpus`: those there are now;
    `tasks`: those that sleepd remembers, of which the ones are told that did not come about."""
    if timeline is None:
        return make_page("sleepd report", summary(report)[:1], [Section("Nothing is on record for this time")])
    window = Window(wall_s(report["since"]), wall_s(report["until"]))
    sections = [_states(report, timeline, window)]
    if timeline["gpus"]:
        sections.append(_held(timeline, gpus, window))
    sections.append(_given_back("by-model", "GPU memory given back, by model", "MODEL", report["models"]))
    if report["by"]:
        sections.append(_given_back("by-cause", "By what put models to sleep", "PUT TO SLEEP", report["by"]))
    sections += _wakes(report)
    names = {row["name"] for row in report["models"]}
    misses = [task for task in tasks if task["done"] is False and task["ended"] and task["model"] in names]
    if misses:
        sections.append(_misses(misses))
    return make_page("sleepd report", summary(report), sections)


def _states(report: HistoryReport, timeline: Timeline, window: Window) -> Section:
    lanes = [Lane(each["model"], _spans(each["runs"], timeline)) for each in timeline["models"]]
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


def _spans(runs: Sequence[Sequence[int]], timeline: Timeline) -> list[Span]:
    """Return runs as spans; each lasts until the next begins, and what is not on record is left out."""
    since_s, until_s = wall_s(timeline["since"]), wall_s(timeline["until"])
    ends = [*(since_s + run[0] for run in runs[1:]), until_s]
    spans = []
    for (second, state_at, cause_at), end_s in zip(runs, ends, strict=False):
        state, _, level = timeline["states"][state_at].partition(" ")
        if state:
            cause = timeline["causes"][cause_at]
            spans.append(Span(since_s + second, end_s, state, int(level) if level.isdecimal() else None, cause))
    return spans


def _held(timeline: Timeline, gpus: Sequence[Gpu], window: Window) -> Section:
    known = {gpu["uuid"]: gpu for gpu in gpus}
    since_s = wall_s(timeline["since"])
    areas, rows = [], []
    for each in timeline["gpus"]:
        uuid = each["gpu"]
        peak = max((held for _, held in each["points"]), default=0)
        total = known[uuid]["total_bytes"] if uuid in known else peak
        name = f"GPU {known[uuid]['index']}" if uuid in known else uuid
        areas.append(Area(name, [(since_s + second, held) for second, held in each["points"]], total))
        rows.append((name, uuid, format_size(peak), format_size(total) if uuid in known else "-"))
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


def _misses(misses: Sequence[Task]) -> Section:
    rows = [(moment(task["ended"] or ""), task["model"], task["kind"], task["outcome"] or "") for task in misses]
    heading = "What did not come about"
    about = "Among the last 1,000 sleeps, wakes, starts and stops since sleepd started."
    return Section(heading, about, table=Table(("ENDED", "MODEL", "WHAT", "WHY"), rows, 4))


def _lasted(seconds: float) -> str:
    return format_duration(round(seconds))
