"""Numbers and lines for people: the one under the live table, the plain ones without a terminal, the closing ones."""

from collections.abc import Sequence

from sleepd.cli.screen import clean
from sleepd.core.units import Seconds, format_duration
from sleepd.sim.demo_traffic import Served
from sleepd.sim.demo_watch import Tally, Told

_LABEL_WIDTH = 12


def clock(seconds: Seconds) -> str:
    """Return minutes and seconds: "4:07"."""
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    ranked = sorted(values)
    rank = -int(-share * len(ranked) // 1)
    return ranked[max(0, rank - 1)]


def plain_line(told: Told) -> str:
    return f"{clock(told.at_s):>6}  {clean(told.text)}"


def number_line(tally: Tally, served: Served, width: int) -> str:
    """Return the numbers so far in one line, as many of them as fit."""
    wakes = tally.wakes.total()
    parts = [f"{wakes} wake{'' if wakes == 1 else 's'}"]
    if served.waits_s:
        parts.append(f"wait p50 {_seconds(served.waits_s, 0.5)} p95 {_seconds(served.waits_s, 0.95)}")
    parts.append(_answers(served))
    parts.append(f"{tally.given_back_gib_h:.1f} GPU-GiB-h back")
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 3 + len(part) <= width:
            line += f"   {part}"
    return line


def summary(tally: Tally, served: Served, *, demo_s: Seconds, took_s: Seconds) -> list[str]:
    """Return the closing lines."""
    waits = "nobody had to wait"
    if served.waits_s:
        waits = f"p50 {_seconds(served.waits_s, 0.5)}, p95 {_seconds(served.waits_s, 0.95)}"
    waits += f" ({len(served.waits_s)} waited, {served.found_awake} found their model awake)"
    given = f"{tally.given_back_gib_h:.1f} GPU-GiB-hours"
    if tally.awake_gib_h:
        given += f", {tally.given_back_gib_h / tally.awake_gib_h:.0%} of what three awake servers hold"
    refused = ", ".join(f"{count} {kind}" for kind, count in sorted(served.refused.items()))
    rows = [
        ("wakes", f"{tally.wakes.total()}: {tally.wakes[1]} from level 1, {tally.wakes[2]} from level 2"),
        ("waits", waits),
        ("sleeps", f"{tally.sleeps.total()}: {tally.sleeps[1]} at level 1, {tally.sleeps[2]} at level 2"),
        ("", _causes(tally)),
        ("victims", f"{tally.causes['victim']} put to sleep to make room for another"),
        ("given back", given),
        ("refused", refused or "nobody"),
        ("failures", str(tally.failures) if tally.failures else "none"),
        ("answers", _answers(served)),
    ]
    head = f"demo ended: {format_duration(demo_s)} of a GPU host in {format_duration(round(took_s))}"
    return [head, *(f"  {label:<{_LABEL_WIDTH}}{text}" for label, text in rows)]


def is_right(served: Served) -> bool:
    """Whether no caller got a wrong answer or none."""
    return not served.wrong and not served.unanswered


def _answers(served: Served) -> str:
    count = served.right + served.wrong + served.unanswered
    if not count:
        return "no answers"
    if is_right(served):
        return f"{count} answers, all right" if count != 1 else "1 answer, and right"
    return f"{count} answers: {served.wrong} WRONG, {served.unanswered} broken off"


def _causes(tally: Tally) -> str:
    said = {
        "rule": "by rule",
        "victim": "to make room",
        "check": "checked",
        "operator": "at set-up",
    }
    return ", ".join(f"{tally.causes[cause]} {text}" for cause, text in said.items() if tally.causes[cause])


def _seconds(values: Sequence[Seconds], share: float) -> str:
    return format_duration(quantile(values, share))
