"""What a terminal can show: its width, colours, and characters; and text that cannot harm it."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Screen:
    """`width` None: lines may be as long as they like (a pipe)."""

    width: int | None
    colour: bool
    unicode: bool

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


def look_at(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """Return what this stream can show: colours only on a terminal without NO_COLOR (no-color.org) or TERM=dumb."""
    tty = stream.isatty()
    colour = tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size().columns if tty or environ.get("COLUMNS", "").isdigit() else None
    unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
    return Screen(width, colour, unicode)


def clean(text: object) -> str:
    """Return the text on one line without control characters: it may come from a server and go to a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))
