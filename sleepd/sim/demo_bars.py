"""Bars for the live table: shares of a whole in eighths of a character, one colour for each holder."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.color import Color
from rich.style import Style
from rich.text import Text

TRACK = "grey23"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FULL, _ASCII_FULL, _ASCII_TRACK = "█", "#", "."


@dataclass(frozen=True, slots=True)
class Part:
    """One holder's share: `amount` of the bar's total."""

    amount: float
    colour: str


def draw_bar(parts: Sequence[Part], total: float, width: int, *, unicode: bool, colour: bool) -> Text:
    """Return a bar of exactly `width` characters. Where two parts meet inside one, it is shared by both colours."""
    ends, end = [], 0.0
    for part in parts:
        end = min(1.0, end + max(0.0, part.amount) / total) if total > 0 else 0.0
        ends.append((round(end * width * 8), part.colour))
    if not (unicode and colour):
        full = round(ends[-1][0] / 8) if ends else 0
        solid, empty = (_FULL, "·") if unicode else (_ASCII_FULL, _ASCII_TRACK)
        return Text(solid * full + empty * (width - full))
    text = Text()
    for cell in range(width):
        text.append(*_cell(cell * 8, ends))
    return text


def _cell(start: int, ends: Sequence[tuple[int, str]]) -> tuple[str, Style]:
    """The character for the eighths `start` to `start + 8`, and its colours before and behind the edge in it."""
    here = next(((end, colour) for end, colour in ends if end > start), None)
    if here is None:
        return " ", _style(None, TRACK)
    end, colour = here
    if end >= start + 8:
        return _FULL, _style(colour, TRACK)
    behind = next((other for other_end, other in ends if other_end > end), TRACK)
    return _EIGHTHS[end - start], _style(colour, behind)


def _style(front: str | None, back: str) -> Style:
    return Style(color=Color.parse(front) if front else None, bgcolor=Color.parse(back))
