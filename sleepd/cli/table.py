"""`sleepctl status`: what every model does, why, and what the GPUs and the host have left, in 80 columns."""

from datetime import UTC, datetime
from typing import Any

from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration, format_size

_MARKS = {
    "awake": ("●", "*", "green"),
    "draining": ("◐", "~", "yellow"),
    "falling_asleep": ("◐", "~", "yellow"),
    "asleep": ("○", "o", "blue"),
    "waking": ("◐", "~", "yellow"),
    "starting": ("◐", "~", "yellow"),
    "stopping": ("◐", "~", "yellow"),
    "stopped": ("·", ".", "dim"),
    "lost": ("✗", "!", "red"),
    "failed": ("✗", "!", "red"),
}
_UNKNOWN = ("?", "?", "dim")
_BAR_WIDTH = 24
_NAME_LIMIT = 24


def render_status(status: dict[str, Any], screen: Screen, now_wall_s: float) -> list[str]:
    """Return the lines of the table; no line is longer than the screen is wide."""
    rows = [_Row(model, screen, now_wall_s) for model in status["models"]]
    lines = _render_rows(rows, screen) if rows else ["no model is configured"]
    meters = [_gpu_meter(gpu, screen) for gpu in status["gpus"]] + _host_meters(status["host"], screen)
    notes = [screen.paint(screen.cut(clean(f"! {note}"), screen.width), "yellow") for note in status["notes"]]
    return lines + ([""] if meters or notes else []) + meters + notes


class _Row:
    """One model's cells, uncoloured; colours are put on after cutting, so that they count no columns."""

    def __init__(self, model: dict[str, Any], screen: Screen, now_wall_s: float) -> None:
        mark, ascii_mark, self.colour = _MARKS.get(model["state"], _UNKNOWN)
        state = clean(model["state"]).replace("_", " ")
        depth = f" L{model['level']}" if model["level"] else ""
        idle_s = model["idle_s"]
        self.name = clean(model["name"])
        self.state = f"{mark if screen.unicode else ascii_mark} {state}{depth}"
        self.since = _age(model["since"], now_wall_s)
        self.idle = "-" if idle_s is None else "busy" if _is_busy(model) else format_duration(int(idle_s))
        self.vram = _held_bytes(model)
        self.text, self.wrong = _outlook(model)

    def cells(self) -> tuple[str, str, str, str, str]:
        return self.name, self.state, self.since, self.idle, self.vram


def _render_rows(rows: list[_Row], screen: Screen) -> list[str]:
    heads = ("NAME", "STATE", "SINCE", "IDLE", "VRAM")
    columns = list(zip(*(row.cells() for row in rows), strict=True))
    widths = [max(len(head), *map(len, column)) for head, column in zip(heads, columns, strict=True)]
    widths[0] = min(widths[0], _NAME_LIMIT)
    left = None if screen.width is None else screen.width - sum(widths) - 2 * len(widths)
    if left is not None and left < 10:  # a narrow screen: the outlook gives way to what is
        left = 0
    lines = [_join([*heads, "NEXT" if left != 0 else ""], widths, screen, lambda _, text: screen.paint(text, "bold"))]
    for row in rows:
        outlook = "red" if row.wrong else "dim"
        tones = {1: row.colour, 5: outlook}
        if row.idle == "busy":
            tones[3] = "green"
        lines.append(
            _join(
                [*row.cells(), screen.cut(row.text, left)],
                widths,
                screen,
                lambda column, text, tones=tones: screen.paint(text, tones[column]) if column in tones else text,
            )
        )
    return lines


def _join(cells: list[str], widths: list[int], screen: Screen, paint: Any) -> str:
    """Return the cells in their columns, sizes and times to the right, cut at the edge of the screen."""
    shown, room = [], screen.width
    for column, cell in enumerate(cells):
        width = widths[column] if column < len(widths) else len(cell)
        text = screen.cut(cell, width)
        padded = text.rjust(width) if column in (2, 3, 4) else text.ljust(width)
        if column == len(cells) - 1:
            padded = padded.rstrip()
        padded = screen.cut(padded, room)
        if not padded and column:
            break
        shown.append(paint(column, padded))
        room = None if room is None else room - len(padded) - 2
    return "  ".join(shown).rstrip()


def _is_busy(model: dict[str, Any]) -> bool:
    return bool(model["in_flight"] or model["running"] or model["waiting"])


def _held_bytes(model: dict[str, Any]) -> str:
    """What its processes hold now, as learned: nothing is shown where nobody knows, or between two states."""
    if model["state"] in ("stopped", "lost"):
        return "-"
    key = {0: "awake_bytes", 1: "asleep_bytes", 2: "asleep_bytes"}.get(model["level"])
    found = [gpu[key] for gpu in model["gpus"]] if key else []
    return format_size(sum(found)) if found and None not in found else "-"


def _outlook(model: dict[str, Any]) -> tuple[str, bool]:
    """What comes next, else why it is as it is; and whether somebody should look at it."""
    if model["failure"]:
        return f"{clean(model['failure']['code'])}: {clean(model['failure']['detail'])}", True
    if model["queued"]:
        return f"{model['queued']} waiting; {clean(model['reason'])}", False
    coming = model["next"]
    if coming:
        when = "now" if coming["in_s"] <= 0 else f"in {format_duration(round(coming['in_s']))}"
        return f"{clean(coming['action'])} {when} ({clean(coming['rule'])})", False
    if model["state"] == "asleep" and model["eta_s"] is not None:
        return f"wakes in {format_duration(model['eta_s'])} when asked", False
    return clean(model["reason"]), model["state"] == "lost"


def _age(since: str | None, now_wall_s: float) -> str:
    if since is None:
        return "-"
    then = datetime.strptime(since, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return format_duration(max(0, int(now_wall_s - then.timestamp())))


def _gpu_meter(gpu: dict[str, Any], screen: Screen) -> str:
    total, free, margin = gpu["total_bytes"], gpu["free_bytes"], gpu["margin_bytes"]
    note = f"free {format_size(max(0, free - margin))} + margin {format_size(margin)}"
    return _meter(f"GPU {gpu['index']}", total - free, total, note, screen, short=free < margin)


def _host_meters(host: dict[str, Any], screen: Screen) -> list[str]:
    total, available, reserve = host["total_bytes"], host["available_bytes"], host["reserve_bytes"]
    if total is None:
        return []
    note = f"free {format_size(max(0, available - reserve))} + reserve {format_size(reserve)}"
    return [_meter("RAM", total - available, total, note, screen, short=available < reserve)]


def _meter(label: str, used: int, total: int, note: str, screen: Screen, *, short: bool) -> str:
    """Return "GPU 0  ██████░░░░  61.2GiB of 80GiB, free …"; red where the margin itself is being eaten."""
    share = min(1.0, used / total) if total else 0.0
    full = round(share * _BAR_WIDTH)
    solid, empty = ("█", "░") if screen.unicode else ("#", ".")
    colour = "red" if short else "yellow" if share > 0.9 else "cyan"
    head, text = f"{label:<6} ", f"  {format_size(used)} of {format_size(total)}, {note}"
    if screen.width is not None:
        text = screen.cut(text, screen.width - len(head) - _BAR_WIDTH)
    return f"{head}{screen.paint(solid * full, colour)}{screen.paint(empty * (_BAR_WIDTH - full), 'dim')}{text}"
