"""Where in a TOML text each key stands: tomllib tells values, not places.

Works on texts that tomllib accepted, and is no parser of its own: it knows keys, headers, and how to step over a value.
"""

import re
import tomllib

from sleepd.config.errors import KeyPath

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+'
    r"|'''.*?'''+"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BETWEEN = re.compile(r"(?:[ \t\r\n,]+|#[^\n]*)+")
_SCALAR = re.compile(r"[^#,\[\]{}\n]+")


Spot = tuple[int, int]
"""A line and a column in it, both from 1."""


def find_lines(text: str) -> tuple[dict[KeyPath, int], dict[KeyPath, Spot]]:
    """Return the line (from 1) of every table header and key, and where in its line a key of an inline table begins.

    Elements of [[x]] and of lists are named by their index.
    """
    scan = _Scan(text)
    scan.run()
    return scan.lines, scan.inline


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.inline: dict[KeyPath, Spot] = {}
        self.counts: dict[KeyPath, int] = {}
        self.line_no = 1
        self.line_at = 0

    def run(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._read_header()
            else:
                line = self._line()
                key = self._read_key()
                self._note(table + key, line)
                self.at += 1
                self._step_over(table + key)

    def _read_header(self) -> KeyPath:
        line = self._line()
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        key = self._read_key()
        self.at += 2 if is_array else 1
        path = self._resolve(key[:-1]) + key[-1:]
        if is_array:
            self.counts[path] = self.counts.get(path, -1) + 1
        if path in self.counts:
            path += (self.counts[path],)
        self._note(path, line)
        return path

    def _read_key(self) -> KeyPath:
        """Read a dotted key up to the `=` or `]` behind it."""
        parts: list[str | int] = []
        while True:
            self._skip(_SPACE)
            found = _KEY.match(self.text, self.at)
            if not found:  # not TOML after all; whoever parses it says so
                return tuple(parts)
            self.at = found.end()
            parts.append(_unquote(found[0]))
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _step_over(self, path: KeyPath) -> None:
        """Step over a value, noting the keys of inline tables in it."""
        self._skip(_SPACE)
        char = self.text[self.at : self.at + 1]
        if char == "{":
            self._step_over_table(path)
        elif char == "[":
            self._step_over_list(path)
        elif found := (_STRING if char in "\"'" else _SCALAR).match(self.text, self.at):
            self.at = found.end()

    def _step_over_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._at_item("}"):
            place = (self._line(), self._column())
            key = self._read_key()
            for length in range(1, len(key) + 1):
                self.inline.setdefault(path + key[:length], place)
            self.at += 1
            self._step_over(path + key)

    def _step_over_list(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._at_item("]"):
            self._step_over((*path, index))
            index += 1

    def _at_item(self, end: str) -> bool:
        """Go to the next item of a list or inline table and return True, or behind its end and return False."""
        self._skip(_BETWEEN)
        if self.at < len(self.text) and self.text[self.at] != end:
            return True
        self.at += 1
        return False

    def _resolve(self, path: KeyPath) -> KeyPath:
        """Return the path with the index of the newest element behind every array of tables in it."""
        resolved: KeyPath = ()
        for part in path:
            resolved += (part,)
            if resolved in self.counts:
                resolved += (self.counts[resolved],)
        return resolved

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if found := pattern.match(self.text, self.at):
            self.at = found.end()

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _line(self) -> int:
        self.line_no += self.text.count("\n", self.line_at, self.at)
        self.line_at = self.at
        return self.line_no

    def _column(self) -> int:
        return self.at - self.text.rfind("\n", 0, self.at)


def _unquote(key: str) -> str:
    return str(tomllib.loads(f"x = {key}")["x"]) if key[0] in "\"'" else key
