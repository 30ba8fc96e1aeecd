"""What is wrong with a configuration, said once, with the place it was found."""

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a value came from: a file and a line in it; line 0 where there is none (the environment, a folder).

    `column`, from 1, where more than one thing stands on the line; else 0.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to change, as one sentence at one place."""

    place: Place
    message: str

    def __str__(self) -> str:
        column = f"column {self.place.column}: " if self.place.column else ""
        return f"{self.place}: {column}{self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. `problems` names everything that is wrong, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(found: str, known: Collection[str]) -> str:
    """Return '; did you mean "x"?' for the nearest known word, or an empty text where none is near."""
    near = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def quote_key(key: str | int) -> str:
    """Return the key as TOML writes it: quoted where it must be."""
    text = str(key)
    bare = text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    return text if bare else '"' + shorten(text).replace('"', '\\"') + '"'


def show(value: object) -> str:
    """Return the value as it would stand in TOML, on one short line."""
    if isinstance(value, str):
        return f'"{shorten(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        flat = not any(isinstance(item, (list, dict)) for item in value)
        return shorten(f"[{', '.join(show(item) for item in value[:20])}]") if flat else "a nested list"
    return shorten(str(value))


def shorten(text: str, limit: int = 60) -> str:
    """Return the text as one printable line of at most `limit` characters."""
    printable = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"
