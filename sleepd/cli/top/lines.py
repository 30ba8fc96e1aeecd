"""Lines of a screen: pieces of text, each with a tone, as wide as terminals draw them."""

from __future__ import annotations

from dataclasses import dataclass
from unicodedata import category, east_asian_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

Line: TypeAlias = "tuple[Piece, ...]"


@dataclass(frozen=True, slots=True)
class Piece:
    """`tone`: words such as "bold red"; empty for plain text."""

    text: str
    tone: str = ""


def cells(text: str) -> int:
    """Return how many columns a terminal gives to the text (Unicode UAX #11; marks that combine take none)."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(char: str) -> int:
    if category(char) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def cut(text: str, width: int, unicode: bool = True) -> str:
    """Return the text in at most `width` columns, the last one telling that there was more."""
    if cells(text) <= width:
        return text
    return _beginning(text, width - 1) + ("…" if unicode else "~") if width > 0 else ""


def _beginning(text: str, width: int) -> str:
    """Return as much of the text as `width` columns take."""
    used = 0
    for index, char in enumerate(text):
        used += _cells_of(char)
        if used > width:
            return text[:index]
    return text


def cut_middle(text: str, width: int, unicode: bool = True) -> str:
    """Return the text in at most `width` columns with both its ends: names often differ at the second."""
    if cells(text) <= width or width < 3:
        return cut(text, width, unicode)
    tail = text[len(text) - (width - 1) // 2 :]
    return cut(text, width - cells(tail), unicode) + tail


def fold(text: str, width: int) -> list[str]:
    """Return the text in lines of at most `width` columns, broken between words where that can be."""
    lines, line = list[str](), ""
    for number, word in enumerate(text.split(" ")):
        joined = f"{line} {word}" if number else word
        if cells(joined) <= width:
            line = joined
            continue
        if line.strip():
            lines.append(line)
        line = word
        while cells(line) > max(2, width):
            head = _beginning(line, max(2, width))
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return the text in exactly `width` columns, where it is not wider already."""
    space = " " * max(0, width - cells(text))
    return space + text if right else text + space


def fill(pieces: Iterable[Piece], width: int, unicode: bool = True) -> Line:
    """Return a line of at most `width` columns: what is beyond is cut."""
    kept, room = [], width
    for piece in pieces:
        if room <= 0:
            break
        text = cut(piece.text, room, unicode)
        kept.append(Piece(text, piece.tone))
        room -= cells(text)
    return tuple(kept)


def spread(left: str, right: str, width: int, tone: str, unicode: bool = True) -> Line:
    """Return one text at the left and one at the right edge; the right one gives way where there is no room."""
    if cells(left) + cells(right) + 1 > width:
        right = ""
    left = cut(left, width, unicode)
    return (Piece(pad(left, width - cells(right)) + right, tone),)


def plain(line: Line) -> str:
    """Return what a line says, without its tones."""
    return "".join(piece.text for piece in line)


def in_ascii(line: Line) -> Line:
    """Return the line for a terminal that shows nothing else: a question mark for each other column."""
    return tuple(
        Piece("".join(c if c.isascii() else "?" * _cells_of(c) for c in piece.text), piece.tone) for piece in line
    )


def greyed(line: Line) -> Line:
    """Return the line as one that is not of now."""
    return tuple(Piece(piece.text, "dim") for piece in line)
