"""Cells in columns, cut at the edge of the screen; colours are put on after cutting, so that they count no columns."""

from __future__ import annotations

from datetime import datetime

from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

NAME_LIMIT = 24


class Columns:
    """A table's heads and rows; the last cell of a row takes what is left of the screen, or goes where none is."""

    def __init__(self, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> None:
        """`right`: the columns whose cells stand to the right: sizes and times."""
        self._heads, self._rows, self._right = heads, rows, right
        columns = list(zip(heads, *rows, strict=True))
        self._widths = [max(map(len, column)) for column in columns[:-1]]

    def render(self, screen: Screen, tones: Sequence[Mapping[int, str]]) -> list[str]:
        """Return the lines; `tones` says for each row which column has which colour."""
        widths = list(self._widths)
        if screen.width is not None:  # a pipe gets whole names: a program may read them
            widths[0] = min(widths[0], NAME_LIMIT)
        left = None if screen.width is None else screen.width - sum(widths) - 2 * len(widths)
        if left is not None and left < 10:  # a narrow screen: the outlook gives way to what is
            left = 0
        bold = dict.fromkeys(range(len(self._heads)), "bold")
        room = (*widths, left)
        lines = [self._line(self._heads, room, screen, bold)]
        return lines + [self._line(row, room, screen, tone) for row, tone in zip(self._rows, tones, strict=True)]

    def _line(
        self, cells: Sequence[str], widths: Sequence[int | None], screen: Screen, tones: Mapping[int, str]
    ) -> str:
        shown, room = [], screen.width
        for column, cell in enumerate(cells):
            last = column == len(cells) - 1
            width = widths[column]
            text = screen.cut(cell, width) if column else screen.cut_middle(cell, width)
            padded = text if last else text.rjust(width or 0) if column in self._right else text.ljust(width or 0)
            padded = screen.cut(padded, room)
            if not padded and column:
                break
            shown.append(screen.paint(padded, tones[column]) if column in tones else padded)
            room = None if room is None else room - len(padded) - 2
        return "  ".join(shown).rstrip()


def render_numbers(
    heads: Sequence[str], rows: Sequence[Sequence[str]], screen: Screen, *, least: Sequence[str]
) -> list[str]:
    """Return the lines of a table of numbers; on a narrow screen without those of the `least` columns, the first named
    first, that keep it from fitting."""
    kept = list(range(len(heads)))
    for head in least:
        widths = [max(len(cells[column]) for cells in (heads, *rows)) for column in kept]
        if screen.width is None or min(widths[0], NAME_LIMIT) + sum(widths[1:]) + 2 * (len(kept) - 1) <= screen.width:
            break
        kept = [column for column in kept if heads[column] != head]
    fitting = [[*(cells[column] for column in kept), ""] for cells in (heads, *rows)]
    return Columns(fitting[0], fitting[1:], range(1, len(kept))).render(screen, [{} for _ in rows])


def age(since: str | None, now_wall_s: float) -> str:
    """Return how long ago that moment (RFC 3339) was."""
    return "-" if since is None else format_duration(max(0, int(now_wall_s - wall_s(since))))


def left(until: str, now_wall_s: float) -> str:
    """Return how long it is until that moment (RFC 3339)."""
    return format_duration(max(0, int(wall_s(until) - now_wall_s)))


def moment(time: str) -> str:
    """Return that moment (RFC 3339) as people read it, to the second: "2026-01-31 08:00:05Z"."""
    return clean(time)[:19].replace("T", " ") + "Z"


def wall_s(time: str) -> float:
    """Return that moment (RFC 3339) in seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()
