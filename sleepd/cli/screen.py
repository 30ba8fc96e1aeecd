"""What a terminal can show: its width, colours, and characters; and text that cannot harm it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


class Screen:
    """`width` None: lines may be as long as they like (a pipe)."""

    __slots__ = ("colour", "unicode", "width")

    def __init__(self, width: int | None, colour: bool, unicode: bool) -> None:
        self.width, self.colour, self.unicode = width, colour, unicode

    def paint(self, text: str, *colours: str) -> str:
        """Return the text in these colours, or unchanged where there are none."""
        if not self.colour or not text.strip():
            return text
        return f"\x1b[{';'.join(_COLOURS[colour] for colour in colours)}m{text}\x1b[0m"

    def cut(self, text: str, width: int | None) -> str:
        """Return the text in at most `width` characters, the last one telling that there was more."""
        if width is None or len(text) <= width:
            return text
        return text[: max(0, width - 1)] + ("…" if self.unicode else "~") if width > 0 else ""

    def cut_middle(self, text: str, width: int | None) -> str:
        """Return the text in at most `width` characters with both its ends: names often differ at the second."""
        if width is None or len(text) <= width:
            return text
        tail = max(0, (width - 1) // 2)
        return self.cut(text, width - tail) + text[len(text) - tail :]

    def wrap(self, text: str, indent: int) -> list[str]:
        """Return the text in lines for a screen whose first `indent` columns are taken; further lines are indented."""
        if self.width is None or self.width - indent < 20:
            return [text]
        from textwrap import wrap

        first, *rest = wrap(text, self.width - indent, break_on_hyphens=False) or [""]
        return [first, *(" " * indent + line for line in rest)]


def look_at(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """Return what this stream can show: colours only on a terminal without NO_COLOR (no-color.org) or TERM=dumb."""
    tty = stream.isatty()
    colour = tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    width = terminal_width(stream, environ) if tty or environ.get("COLUMNS", "").isdigit() else None
    unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
    return Screen(width, colour, unicode)


def terminal_width(stream: TextIO, environ: Mapping[str, str]) -> int:
    """Return $COLUMNS, else what the terminal says, else 80 (shutil would say so too, and costs an import)."""
    columns = environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def clean(text: object) -> str:
    """Return the text on one line without control characters: it may come from a server and go to a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def print_text(text: str) -> None:
    """Print exactly what the API answered, on one line."""
    print(text.rstrip("\n"), flush=True)
