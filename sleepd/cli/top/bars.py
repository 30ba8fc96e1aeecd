"""Bars: what a model holds and would take of its GPUs, what a GPU and the host have left; readable without colours."""

from __future__ import annotations

from sleepd.cli.meters import gpu_meter, host_meter
from sleepd.cli.model_cells import held_bytes, held_there
from sleepd.cli.top.lines import Piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.cli.meters import Meter
    from sleepd.wire.answers import Status
    from sleepd.wire.shapes import Gpu, Model

HELD, OTHERS, WANTED, FREE = ("█", "#"), ("▓", "%"), ("▒", "="), ("░", ".")
"""Held by models; by somebody else; taken by a wake, or kept for a job; nobody's: in Unicode and in ASCII."""


def draw(parts: Sequence[tuple[float, tuple[str, str], str]], total: float, width: int, unicode: bool) -> list[Piece]:
    """Return `width` columns: each part's share of the total in its own character and tone, the rest as free.

    What is there at all gets a column, as long as there are columns left.
    """
    pieces, used, reached = [], 0, 0.0
    for amount, marks, tone in parts:
        if amount <= 0 or total <= 0:
            continue
        reached += amount
        end = min(width, max(used + 1, round(width * min(1.0, reached / total))))
        pieces.append(Piece(marks[not unicode] * (end - used), tone))
        used = end
    return [*pieces, Piece(FREE[not unicode] * (width - used), "dim")]


def model_bar(model: Model, status: Status, width: int, unicode: bool) -> list[Piece]:
    """Return what the model holds of its GPUs, and what a wake would take beside it."""
    totals = {gpu["uuid"]: gpu["total_bytes"] for gpu in status["gpus"]}
    total = sum(totals.get(gpu["uuid"], 0) for gpu in model["gpus"])
    if not total or not model["gpus"]:
        return [Piece(" " * width)]
    held = held_bytes(model) or 0
    awake = sum(gpu["awake_bytes"] or (gpu["asleep_bytes"] or 0) + (gpu["need_bytes"] or 0) for gpu in model["gpus"])
    tone = "blue" if model["level"] else "green"
    return draw([(held, HELD, tone), (max(0, awake - held), WANTED, "dim")], total, width, unicode)


def gpu_bar(gpu: Gpu, status: Status, width: int, unicode: bool) -> list[Piece]:
    """Return what models hold, what others do, what is kept for jobs, and what is free."""
    meter = gpu_meter(gpu)
    ours = min(meter.used, _held_on(gpu, status))
    parts = [
        (ours, HELD, meter.colour),
        (meter.used - ours, OTHERS, "magenta"),
        (gpu["reserved_bytes"], WANTED, "blue"),
    ]
    return draw(parts, meter.total, width, unicode)


def _held_on(gpu: Gpu, status: Status) -> int:
    """What models hold there; all of it while one of them is between two states, where nobody knows."""
    held = 0
    for model in status["models"]:
        for use in model["gpus"]:
            if use["uuid"] != gpu["uuid"] or model["state"] in ("stopped", "lost"):
                continue
            found = held_there(model, use)
            if found is None:
                return gpu["total_bytes"]
            held += found
    return held


def meters(status: Status, width: int, unicode: bool) -> list[list[Piece]]:
    """Return a strip for each GPU and one for the host's RAM: a bar, and as many words as there is room for."""
    strips = [_strip(gpu_meter(gpu), gpu, status, width, unicode) for gpu in status["gpus"]]
    host = host_meter(status["host"])
    return strips + ([_strip(host, None, status, width, unicode)] if host else [])


def _strip(meter: Meter, gpu: Gpu | None, status: Status, width: int, unicode: bool) -> list[Piece]:
    label = 7 if width >= 44 else 6
    bar_width = max(8, min(32, (width - label) * 2 // 5))
    if gpu is None:
        bar = draw([(meter.used, HELD, meter.colour)], meter.total, bar_width, unicode)
    else:
        bar = gpu_bar(gpu, status, bar_width, unicode)
    tone = "red" if meter.short else ""
    return [Piece(f"{meter.name:<{label}}", "bold"), *bar, Piece(f"  {meter.text}", tone)]
