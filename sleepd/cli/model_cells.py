"""What one model shows in a table: its mark, how idle it is, what it holds, what comes next."""

from __future__ import annotations

import re

from sleepd.cli.screen import clean
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.shapes import Model, ModelGpu

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
_UID = re.compile(r" \(uid \d+\)")
"""In a table the name is enough."""


def state_cell(model: Model, unicode: bool) -> tuple[str, str]:
    """Return the state with its mark and level, and its colour."""
    mark, ascii_mark, colour = _MARKS.get(model["state"], _UNKNOWN)
    depth = f" L{model['level']}" if model["level"] else ""
    return f"{mark if unicode else ascii_mark} {clean(model['state']).replace('_', ' ')}{depth}", colour


def idle_cell(model: Model) -> str:
    """Return how long nobody used it, or what keeps it from being idle."""
    if model["idle_s"] is None:
        return "-"
    if is_busy(model):
        return "busy"
    return "held" if model["holds"] else format_duration(int(model["idle_s"]))


def is_busy(model: Model) -> bool:
    """Whether a request is being worked on."""
    return bool(model["in_flight"] or model["running"] or model["waiting"])


def held_bytes(model: Model) -> int | None:
    """What its processes hold now, as learned; None where nobody knows, between two states, and where none run."""
    if model["state"] in ("stopped", "lost"):
        return None
    found = [held_there(model, use) for use in model["gpus"]]
    known = [held for held in found if held is not None]
    return sum(known) if found and len(known) == len(found) else None


def held_there(model: Model, use: ModelGpu) -> int | None:
    """What it holds of one GPU now, while its processes run; None where nobody knows, and between two states."""
    if model["level"] is None:
        return None
    return use["asleep_bytes"] if model["level"] else use["awake_bytes"]


def outlook(model: Model) -> tuple[str, bool]:
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
