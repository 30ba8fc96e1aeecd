"""`sleepctl status`: what every model does, why, and what the GPUs and the host have left, in 80 columns."""

from __future__ import annotations

from sleepd.cli.columns import Columns, age
from sleepd.cli.meters import Meter, gpu_meter, host_meter
from sleepd.cli.model_cells import held_bytes, idle_cell, outlook, state_cell
from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.answers import Status
    from sleepd.wire.shapes import Model

_BAR_WIDTH = 24


def render_status(status: Status, screen: Screen, now_wall_s: float) -> list[str]:
    """Return the lines of the table; no line is longer than the screen is wide."""
    rows = [_Row(model, screen, now_wall_s) for model in status["models"]]
    lines = _render_rows(rows, screen) if rows else ["no model is configured"]
    host = host_meter(status["host"])
    meters = [*map(gpu_meter, status["gpus"]), *([] if host is None else [host])]
    drawn = [_draw(meter, screen) for meter in meters]
    notes = [screen.paint(screen.cut(clean(f"! {note}"), screen.width), "yellow") for note in status["notes"]]
    return lines + ([""] if drawn or notes else []) + drawn + notes


class _Row:
    """One model's cells, uncoloured."""

    def __init__(self, model: Model, screen: Screen, now_wall_s: float) -> None:
        self.name = clean(model["name"])
        self.state, self.colour = state_cell(model, screen.unicode)
        self.since = age(model["since"], now_wall_s)
        self.idle = idle_cell(model)
        held = held_bytes(model)
        self.vram = "-" if held is None else format_size(held)
        self.text, self.wrong = outlook(model)

    def cells(self) -> tuple[str, ...]:
        return self.name, self.state, self.since, self.idle, self.vram, self.text

    def tones(self) -> dict[int, str]:
        return {1: self.colour, 5: "red" if self.wrong else "dim"} | ({3: "green"} if self.idle == "busy" else {})


def _render_rows(rows: list[_Row], screen: Screen) -> list[str]:
    heads = ("NAME", "STATE", "SINCE", "IDLE", "VRAM", "NEXT")
    columns = Columns(heads, [row.cells() for row in rows], right=(2, 3, 4))
    return columns.render(screen, [row.tones() for row in rows])


def _draw(meter: Meter, screen: Screen) -> str:
    """Return "GPU 0  ██████░░░░  61.2GiB of 80GiB, free …"."""
    full = round(meter.share * _BAR_WIDTH)
    solid, empty = ("█", "░") if screen.unicode else ("#", ".")
    head, text = f"{meter.name:<7}", f"  {meter.text}"
    if screen.width is not None:
        text = screen.cut(text, screen.width - len(head) - _BAR_WIDTH)
    bar = screen.paint(solid * full, meter.colour) + screen.paint(empty * (_BAR_WIDTH - full), "dim")
    return f"{head}{bar}{text}"
