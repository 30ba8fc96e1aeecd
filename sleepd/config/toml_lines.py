"""Which line of a TOML text each key stands on: tomllib tells values, not places.

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
_PLAIN = re.compile(r"""[^"'#\[\]{}\n]+""")


def find_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every table header and key; elements of [[x]] are named by their index.

    Keys inside an inline table are not listed: look up the nearest listed prefix.
    """
    return _Scan(text).run()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}
        self.line_no = 1
        self.line_at = 0

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return self.lines
            if self.text[self.at] == "[":
                table = self._read_header()
            else:
                line = self._line()
                key = self._read_key()
                self._note(table + key, line)
                self._skip_value()

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

    def _skip_value(self) -> None:
        depth = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\n" and depth <= 0:
                return
            string = _STRING.match(self.text, self.at) if char in "\"'" else None
            if string:
                self.at = string.end()
            elif char == "#":
                self._skip(_BLANK)
                if depth <= 0:
                    return
            elif plain := _PLAIN.match(self.text, self.at):
                self.at = plain.end()
            else:
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(char, 0)
                self.at += 1

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


def _unquote(key: str) -> str:
    return str(tomllib.loads(f"x = {key}")["x"]) if key[0] in "\"'" else key
