"""`sleepctl status`: what every model does, why, and what the GPUs and the host have left, in 80 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sleepd.cli.columns import Columns, age
from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.answers import Status
    from sleepd.wire.shapes import Gpu, Host, Model

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
_UID = re.compile(r" \(uid \d+\)")
"""In a table the name is enough."""


def render_status(status: Status, screen: Screen, now_wall_s: float) -> list[str]:
    """Return the lines of the table; no line is longer than the screen is wide."""
    rows = [_Row(model, screen, now_wall_s) for model in status["models"]]
    lines = _render_rows(rows, screen) if rows else ["no model is configured"]
    meters = [_gpu_meter(gpu, screen) for gpu in status["gpus"]] + _host_meters(status["host"], screen)
    notes = [screen.paint(screen.cut(clean(f"! {note}"), screen.width), "yellow") for note in status["notes"]]
    return lines + ([""] if meters or notes else []) + meters + notes


class _Row:
    """One model's cells, uncoloured."""

    def __init__(self, model: Model, screen: Screen, now_wall_s: float) -> None:
        mark, ascii_mark, self.colour = _MARKS.get(model["state"], _UNKNOWN)
        state = clean(model["state"]).replace("_", " ")
        depth = f" L{model['level']}" if model["level"] else ""
        self.name = clean(model["name"])
        self.state = f"{mark if screen.unicode else ascii_mark} {state}{depth}"
        self.since = age(model["since"], now_wall_s)
        self.idle = _idle(model)
        self.vram = _held_bytes(model)
        self.text, self.wrong = _outlook(model)

    def cells(self) -> tuple[str, ...]:
        return self.name, self.state, self.since, self.idle, self.vram, self.text

    def tones(self) -> dict[int, str]:
        return {1: self.colour, 5: "red" if self.wrong else "dim"} | ({3: "green"} if self.idle == "busy" else {})


def _render_rows(rows: list[_Row], screen: Screen) -> list[str]:
    heads = ("NAME", "STATE", "SINCE", "IDLE", "VRAM", "NEXT")
    columns = Columns(heads, [row.cells() for row in rows], right=(2, 3, 4))
    return columns.render(screen, [row.tones() for row in rows])


def _idle(model: Model) -> str:
    if model["idle_s"] is None:
        return "-"
    if _is_busy(model):
        return "busy"
    return "held" if model["holds"] else format_duration(int(model["idle_s"]))


def _is_busy(model: Model) -> bool:
    return bool(model["in_flight"] or model["running"] or model["waiting"])


def _held_bytes(model: Model) -> str:
    """What its processes hold now, as learned: nothing is shown where nobody knows, or between two states."""
    if model["state"] in ("stopped", "lost"):
        return "-"
    if model["level"] is None:
        return "-"
    found = [gpu["asleep_bytes"] if model["level"] else gpu["awake_bytes"] for gpu in model["gpus"]]
    known = [held for held in found if held is not None]
    return format_size(sum(known)) if found and len(known) == len(found) else "-"


def _outlook(model: Model) -> tuple[str, bool]:
    """What comes next, else why it is as it is; and whether somebody should look at it."""
    if model["failure"]:
        return f"{clean(model['failure']['code'])}: {clean(model['failure']['detail'])}", True
    if model["queued"]:
        return f"{model['queued']} waiting; {clean(model['reason'])}", False
    coming = model["next"]
    if coming:
        when = "now" if coming["in_s"] <= 0 else f"in {format_duration(round(coming['in_s']))}"
        would = "would " if model["mode"] == "observe" else ""
        return f"{would}{clean(coming['action'])} {when} ({clean(coming['rule'])})", False
    if model["state"] == "asleep" and model["eta_s"] is not None:
        return f"wakes in {format_duration(model['eta_s'])} when asked", False
    if model["state"] == "awake" and model["holds"]:
        return _held_by(model["holds"]), False
    if model["state"] == "awake" and model["pinned"]:
        return "pinned", False
    return _without_state(clean(model["reason"]), model["state"]), model["state"] == "lost"


def _held_by(holds: Sequence[str]) -> str:
    """Return "held: a, b and 3 more": `sleepctl holds` has the rest."""
    shown = holds if len(holds) <= 3 else holds[:2]
    more = f" and {len(holds) - 2} more" if len(holds) > 3 else ""
    return f"held: {', '.join(clean(hold) for hold in shown)}{more}"


def _without_state(reason: str, state: str) -> str:
    """Return the reason without the state it begins with: that stands two columns before."""
    head, colon, rest = reason.partition(": ")
    shown = rest if colon and head == state.replace("_", " ") else reason
    return _UID.sub("", shown)


def _gpu_meter(gpu: Gpu, screen: Screen) -> str:
    total, free, margin = gpu["total_bytes"], gpu["free_bytes"], gpu["margin_bytes"]
    reserved = min(gpu["reserved_bytes"], max(0, free - margin))
    note = f"free {format_size(max(0, free - margin - reserved))} + margin {format_size(margin)}"
    note += f" + reserved {format_size(gpu['reserved_bytes'])}" if gpu["reserved_bytes"] else ""
    name = f"GPU {gpu['index']}" if gpu["mig_of"] is None else f"MIG {gpu['mig_of']}.{gpu['index'] % 1000}"
    return _meter(name, total - free, total, note, screen, short=free < margin)


def _host_meters(host: Host, screen: Screen) -> list[str]:
    total, available, reserve = host["total_bytes"], host["available_bytes"], host["reserve_bytes"]
    if total is None or available is None:
        return []
    note = f"free {format_size(max(0, available - reserve))} + reserve {format_size(reserve)}"
    return [_meter("RAM", total - available, total, note, screen, short=available < reserve)]


def _meter(label: str, used: int, total: int, note: str, screen: Screen, *, short: bool) -> str:
    """Return "GPU 0  ██████░░░░  61.2GiB of 80GiB, free …"; red where the margin itself is being eaten."""
    share = min(1.0, used / total) if total else 0.0
    full = round(share * _BAR_WIDTH)
    solid, empty = ("█", "░") if screen.unicode else ("#", ".")
    colour = "red" if short else "yellow" if share > 0.9 else "cyan"
    head, text = f"{label:<7}", f"  {format_size(used)} of {format_size(total)}, {note}"
    if screen.width is not None:
        text = screen.cut(text, screen.width - len(head) - _BAR_WIDTH)
    return f"{head}{screen.paint(solid * full, colour)}{screen.paint(empty * (_BAR_WIDTH - full), 'dim')}{text}"
