"""The live table: what the board knows, for eyes. Sizes and times stand right, names left, colours mean one thing."""

import re
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from sleepd.cli.screen import clean
from sleepd.core.units import GIB, Bytes, Seconds, format_duration, format_size
from sleepd.sim.demo_bars import Part, draw_bar
from sleepd.sim.demo_summary import clock, number_line
from sleepd.sim.demo_traffic import Served
from sleepd.sim.demo_watch import Board, Json, Told

WIDEST = 110
_COLOURS = ("cyan", "magenta", "blue")
"""One for each model, the same in every bar."""
_STATES = {
    "awake": ("●", "*", "green"),
    "asleep": ("○", "o", "bright_black"),
    "unknown": ("?", "?", "bright_black"),
    "failed": ("✗", "!", "red"),
    "lost": ("✗", "!", "red"),
}
_MOVING = ("◐", "~", "yellow")
_TOLD = {
    "pressure": "yellow",
    "kept_awake": "yellow",
    "wake_refused": "yellow",
    "pressure_over": "green",
    "level2_proven": "green",
    "failure": "red",
    "foreign": "red",
    "answer_wrong": "red",
}
_FIXED_ROWS = 10
"""Rows of everything but the events, with one to spare for the cursor."""
_COLUMNS = 5 * 2 + 8 + 16 + 7 + 6 + 19


class LiveTable:
    """Renders the board as it is at that moment, as wide as the terminal and no higher."""

    def __init__(
        self, board: Board, served: Served, *, speed: float, left_s: Callable[[], Seconds | None], unicode: bool
    ) -> None:
        self._board, self._served, self._speed, self._left_s, self._unicode = board, served, speed, left_s, unicode
        self._colour = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        self._colour = console.color_system is not None and not console.no_color
        yield self._heading(width)
        yield Text()
        status = self._board.status
        if status is None:
            yield Text("the daemon starts", style="bright_black")
            return
        yield from self._models(status, width)
        yield Text()
        yield from self._meters(status, width)
        yield Text()
        yield Text(number_line(self._board.tally, self._served, width), no_wrap=True)
        yield Text()
        rows = max(1, console.size.height - _FIXED_ROWS - 2 * len(status["models"]))
        colours = dict(zip((model["name"] for model in status["models"]), _COLOURS, strict=False))
        for told in list(self._board.told)[-rows:]:
            yield _event(told, colours, width)

    def _heading(self, width: int) -> Text:
        left_s = self._left_s()
        ends = "Ctrl-C ends" if left_s is None else f"{max(0.0, left_s):.0f}s left"
        times = f"{clock(self._board.now_s)} at {self._speed:g}x, {ends}"
        what = Text("sleepd demo", style="bold")
        what.append("  three servers, a GPU for one and a half", style="not bold bright_black")
        return _row([what, Text(times, style="bright_black")], [max(1, width - len(times) - 2), -len(times)])

    def _bar(self, parts: Sequence[Part], total: float, width: int) -> Text:
        return draw_bar(parts, total, width, unicode=self._unicode, colour=self._colour)

    def _models(self, status: Json, width: int) -> RenderResult:
        bar_width = _bar_width(width)
        widths = [8, 16, bar_width, -7, -6, 19]
        yield _row(
            [Text(head, style="bright_black") for head in ("MODEL", "STATE", "VRAM", "", "IDLE", "NEXT")], widths
        )
        held = held_bytes(status)
        total = status["gpus"][0]["total_bytes"] if status["gpus"] else 1
        for model, colour in zip(status["models"], _COLOURS, strict=False):
            bytes_ = held.get(model["name"])
            cells = [
                Text(clean(model["name"]), style=f"bold {colour}"),
                self._state(model),
                self._bar([Part(bytes_ or 0, colour)], total, bar_width),
                Text("-" if bytes_ is None else format_size(bytes_)),
                _idle(model),
                Text(outlook(model, status["tasks"])),
            ]
            yield _row(cells, widths)
            yield _row([Text(), Text(clean(model["reason"]), style="bright_black")], [8, max(1, width - 10)])

    def _state(self, model: Json) -> Text:
        mark, ascii_mark, colour = _STATES.get(model["state"], _MOVING)
        level = f" L{model['level']}" if model["level"] else ""
        shown = mark if self._unicode else ascii_mark
        return Text(f"{shown} {clean(model['state']).replace('_', ' ')}{level}", style=colour)

    def _meters(self, status: Json, width: int) -> RenderResult:
        """Same columns and, for GPUs, the same scale as the models' own bars above."""
        held = held_bytes(status)
        for gpu in status["gpus"]:
            total, used = gpu["total_bytes"], gpu["total_bytes"] - gpu["free_bytes"]
            colours = zip(status["models"], _COLOURS, strict=False)
            parts = [Part(held.get(model["name"]) or 0, colour) for model, colour in colours]
            parts.append(Part(used - sum(part.amount for part in parts), "white"))
            note = f"{format_size(max(0, gpu['free_bytes'] - gpu['margin_bytes']))} to give"
            yield self._meter(f"GPU {gpu['index']}", parts, used, total, Text(note, style="bright_black"), width)
        host = status["host"]
        if host["total_bytes"] is not None:
            total, used = host["total_bytes"], host["total_bytes"] - host["available_bytes"]
            short = self._board.ram_is_short
            note = "short: sleep at level 2 where proven" if short else f"{format_size(total - used)} to give"
            told = Text(note, style="yellow" if short else "bright_black")
            yield self._meter("host RAM", [Part(used, "yellow" if short else "white")], used, total, told, width)

    def _meter(self, label: str, parts: Sequence[Part], used: Bytes, total: Bytes, note: Text, width: int) -> Text:
        bar_width = _bar_width(width)
        amount = Text(f"{used / GIB:.0f} of {format_size(total)}")
        cells = [Text(label), amount, self._bar(parts, total, bar_width), note]
        return _row(cells, [8, 16, bar_width, max(1, width - bar_width - 30)])


def _bar_width(width: int) -> int:
    return max(8, width - _COLUMNS)


def _row(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """One line of cells, two columns apart, each cut or filled to its width; a negative one stands to the right."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for cell, width in zip(cells, widths, strict=True):
        cell.truncate(abs(width), overflow="ellipsis")
        (cell.pad_left if width < 0 else cell.pad_right)(abs(width) - cell.cell_len)
        line.append_text(cell).append("  ")
    line.right_crop(2)
    return line


def held_bytes(status: Json) -> dict[str, Bytes | None]:
    """What each model holds on the GPU: as learned where it stands still; of the one in transition, what is left."""
    held: dict[str, Bytes | None] = {}
    for model in status["models"]:
        key = {0: "awake_bytes", 1: "asleep_bytes", 2: "asleep_bytes"}.get(model["level"])
        held[model["name"]] = next((gpu[key] for gpu in model["gpus"]), None) if key else None
    unknown = [name for name, bytes_ in held.items() if bytes_ is None]
    if len(unknown) == 1 and status["gpus"]:
        used = sum(gpu["total_bytes"] - gpu["free_bytes"] for gpu in status["gpus"])
        held[unknown[0]] = max(0, used - sum(bytes_ or 0 for bytes_ in held.values()))
    return held


def _idle(model: Json) -> Text:
    if model["running"] or model["waiting"] or model["in_flight"]:
        return Text("busy", style="green")
    return Text("-" if model["idle_s"] is None else format_duration(int(model["idle_s"])))


def outlook(model: Json, tasks: Sequence[Json]) -> str:
    """What happens to the model next: the step it is at, who waits for it, what a rule will do, or its price."""
    queued = model["queued"]
    waiting = f"{queued} caller{'s wait' if queued > 1 else ' waits'}" if queued else ""
    task = next((task for task in tasks if task["model"] == model["name"]), None)
    if task is not None and task["step"] is not None and task["victim"] is None:
        return str(task["step"])
    if waiting:
        return waiting
    coming = model["next"]
    if coming is not None:
        when = "now" if coming["in_s"] < 1 else f"in {format_duration(round(coming['in_s']))}"
        return f"{clean(coming['action'])} {when}"
    if model["state"] == "asleep" and model["eta_s"] is not None:
        return f"wakes in {format_duration(model['eta_s'])}"
    return ""


def _event(told: Told, colours: Mapping[str, str], width: int) -> Text:
    text = Text(clean(told.text), style=_TOLD.get(told.kind, "default"))
    for name, colour in colours.items():
        text.highlight_regex(rf"\b{re.escape(name)}\b", style=colour)
    return _row([Text(clock(told.at_s), style="bright_black"), text], [-6, max(1, width - 8)])
