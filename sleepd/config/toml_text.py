"""Values as they would stand in a TOML file."""

import re
from collections.abc import Iterator
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT_WIDTH = 108
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def write_value(value: Any) -> str:
    """Return the value on one line; tables inline. What a file said is what the text says."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(write_value(item) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{write_key(key)} = {write_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return _write_string(value) if isinstance(value, str) else str(value)


def write_key(key: str) -> str:
    """Return the key, quoted where it must be."""
    return key if _BARE.fullmatch(key) else _write_string(key)


def write_comment(sentence: str) -> Iterator[str]:
    """Give the sentence as lines of a comment. What servers and paths are called may hold anything, and a comment ends
    with its line: of what cannot be printed nothing is left."""
    line = "#"
    for word in "".join(char if char.isprintable() else " " for char in sentence).split():
        if len(line) + 1 + len(word) > _COMMENT_WIDTH:
            yield line
            line = "#  "
        line = f"{line} {word}"
    yield line


def _write_string(value: str) -> str:
    return f'"{"".join(_ESCAPES.get(char) or _printable(char) for char in value)}"'


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
