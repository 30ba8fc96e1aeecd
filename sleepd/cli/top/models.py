"""The table of models: a row for each, as many as fit around the one that is chosen."""

from __future__ import annotations

from sleepd.cli.columns import age
from sleepd.cli.model_cells import held_bytes, idle_cell, outlook, state_cell
from sleepd.cli.screen import clean
from sleepd.cli.top.bars import model_bar
from sleepd.cli.top.lines import Line, Piece, cells, cut, cut_middle, fill, pad
from sleepd.cli.top.rows import chosen_index, rate_per_min
from sleepd.core.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.cli.top.view import View
    from sleepd.wire.shapes import Model

_HEADS = {"name": "NAME", "state": "STATE", "vram": "VRAM", "idle": "IDLE", "rate": "REQ/M", "next": "NEXT"}


class _Widths:
    """How the columns share the screen; what comes next takes what is left."""

    def __init__(self, width: int, models: list[Model]) -> None:
        longest = max((cells(clean(model["name"])) for model in models), default=4)
        roomy = width >= 100
        self.name = min(max(longest, 4), 28 if roomy else 14 if width >= 70 else 10)
        self.state, self.held, self.idle, self.rate = (16 if roomy else 11), 7, 6, 6
        self.since = 7 if roomy else 0
        self.bar = 20 if roomy else 8 if width >= 70 else 0
        taken = 1 + self.name + self.state + self.held + self.idle + self.rate + self.since + self.bar
        self.next = max(0, width - taken - 6 - bool(self.since) - bool(self.bar))


def draw_models(view: View, models: list[Model], width: int, rows: int) -> list[Line]:
    """Return a line of heads and at most `rows` lines of models, of which the chosen one is among."""
    widths, chosen = _Widths(width, models), chosen_index(models, view)
    first = min(max(0, chosen - rows // 2), max(0, len(models) - rows))
    shown = models[first : first + rows]
    lines = [_heads(view, widths, width, first, len(shown), len(models))]
    for index, model in enumerate(shown, start=first):
        lines.append(_row(view, model, widths, width, chosen=index == chosen))
    return lines


def _heads(view: View, widths: _Widths, width: int, first: int, shown: int, total: int) -> Line:
    arrow = ("↑" if view.turned else "↓") if view.unicode else ("^" if view.turned else "v")
    told = {key: head + (arrow if key == view.sort else "") for key, head in _HEADS.items()}
    text = " " + pad(told["name"], widths.name) + " " + pad(told["state"], widths.state) + " "
    text += pad("SINCE", widths.since, right=True) + " " if widths.since else ""
    text += pad(told["vram"], widths.bar) + " " if widths.bar else ""
    text += pad("" if widths.bar else told["vram"], widths.held, right=True) + " "
    text += pad(told["idle"], widths.idle, right=True) + " " + pad(told["rate"], widths.rate, right=True)
    text += "  " + told["next"]
    where = f"{first + 1}-{first + shown} of {total}" if shown < total else ""
    if where and cells(text) + len(where) + 1 <= width:
        text = pad(text, width - len(where)) + where
    return (Piece(pad(cut(text, width, view.unicode), width), "reverse"),)


def _row(view: View, model: Model, widths: _Widths, width: int, *, chosen: bool) -> Line:
    assert view.status is not None
    unicode = view.unicode
    state, tone = state_cell(model, unicode)
    held, idle = held_bytes(model), idle_cell(model)
    text, wrong = outlook(model)
    name = cut_middle(clean(model["name"]), widths.name, unicode)
    mark = (">" if not unicode else "▶") if chosen else " "
    pieces = [Piece(mark, "bold"), Piece(pad(name, widths.name), "bold" if chosen else "")]
    pieces += [Piece(" "), Piece(pad(_short(state, widths.state, unicode), widths.state), tone), Piece(" ")]
    if widths.since:
        pieces.append(Piece(pad(age(model["since"], view.now_wall_s), widths.since, right=True) + " ", "dim"))
    if widths.bar:
        pieces += [*model_bar(model, view.status, widths.bar, unicode), Piece(" ")]
    pieces.append(Piece(pad("-" if held is None else format_size(held), widths.held, right=True) + " "))
    pieces.append(Piece(pad(idle, widths.idle, right=True), "green" if idle == "busy" else ""))
    pieces.append(Piece(" " + pad(_rate(rate_per_min(view, model["name"])), widths.rate, right=True)))
    pieces.append(Piece(f"  {cut(text, widths.next, unicode)}", "red" if wrong else ""))
    line = fill(pieces, width, unicode)
    if not chosen:
        return line
    rest = width - sum(cells(piece.text) for piece in line)
    return (*(Piece(piece.text, f"{piece.tone} chosen".strip()) for piece in line), Piece(" " * rest, "chosen"))


def _short(state: str, width: int, unicode: bool) -> str:
    """Return the state in words that fit: "falling asleep" is longer than any other."""
    return cut(state if cells(state) <= width else state.replace("falling asleep", "to sleep"), width, unicode)


def _rate(per_min: float | None) -> str:
    if per_min is None:
        return "-"
    if per_min >= 999.5:
        return f"{per_min / 1000:.1f}k" if per_min < 9950 else f"{per_min / 1000:.0f}k"
    return f"{per_min:.0f}" if per_min >= 9.95 or per_min == 0 else f"{per_min:.1f}"
