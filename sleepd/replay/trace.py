"""Traces of requests: `seconds,model,prompt_tokens,output_tokens`, one line each, plain or gzipped."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeAlias

from sleepd.config.errors import did_you_mean, show
from sleepd.config.values import MODEL_NAME
from sleepd.core.units import Seconds

COLUMNS = ("seconds", "model", "prompt_tokens", "output_tokens")
HEAD = ",".join(COLUMNS)
REQUESTS_LIMIT = 5_000_000
LONGEST_S: Seconds = 366 * 86400.0
TOKENS_LIMIT = 10_000_000
_LINE_LIMIT = 1000
_GZIP = b"\x1f\x8b"
_Buffered: TypeAlias = "BufferedReader[Any]"


class Arrival(NamedTuple):
    """One request: when it came, counted from the begin of the trace, for which model, and how large it is."""

    at_s: Seconds
    model: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order in which they came."""

    arrivals: tuple[Arrival, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that is asked for, by name."""
        return tuple(sorted({arrival.model for arrival in self.arrivals}))

    @property
    def end_s(self) -> Seconds:
        return self.arrivals[-1].at_s if self.arrivals else 0.0

    def between(self, begin_s: Seconds, end_s: Seconds) -> "Trace":
        """The requests of [begin_s, end_s), counted from `begin_s` on."""
        return Trace(tuple(a._replace(at_s=a.at_s - begin_s) for a in self.arrivals if begin_s <= a.at_s < end_s))

    def of(self, models: Iterable[str]) -> "Trace":
        """The requests for these models."""
        wanted = frozenset(models)
        return Trace(tuple(a for a in self.arrivals if a.model in wanted))


class TraceError(Exception):
    """A file that is no trace: one sentence with the file, the line, what was wanted and what was found."""


def read_trace(path: Path) -> Trace:
    """Return the requests of a trace file. Raises TraceError at the first line that is none. Reads the file."""
    try:
        with path.open("rb") as file:
            return parse_trace(str(path), file)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse_trace(source: str, file: BufferedIOBase) -> Trace:
    """Return the requests of an open trace, plain or gzipped; errors name the source. Raises TraceError, OSError."""
    line = 1
    arrivals: list[Arrival] = []
    try:
        with BufferedReader(file) as whole, _unpack(whole) as rows:
            _check_head(_read_line(rows).removeprefix("\ufeff").rstrip())
            line, last_s = 2, 0.0
            while found := _read_line(rows):
                arrival = _parse(found.rstrip("\r\n"), last_s)
                if arrival is not None:
                    last_s = arrival.at_s
                    arrivals.append(arrival)
                if len(arrivals) > REQUESTS_LIMIT:
                    raise ValueError(f"wanted at most {REQUESTS_LIMIT} requests, found more; replay a part of them")
                line += 1
    except ValueError as error:  # UnicodeDecodeError is one
        sentence = "wanted UTF-8 text, found other bytes" if isinstance(error, UnicodeDecodeError) else str(error)
        raise TraceError(f"{source}:{line}: {sentence}") from None
    except EOFError:
        raise TraceError(f"{source}:{line}: wanted a whole gzip file, found one that is cut off behind here") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{source}:{line}: wanted a gzip file, found a damaged one ({error})") from None
    if not arrivals:
        raise TraceError(f"{source}:{line}: wanted at least one request below the line of columns, found none")
    return Trace(tuple(arrivals))


def write_trace(arrivals: Iterable[Arrival], file: TextIO) -> None:
    """Write the requests as `read_trace` reads them; seconds to the millisecond."""
    file.write(HEAD + "\n")
    file.writelines(f"{a.at_s:.3f},{a.model},{a.prompt_tokens},{a.output_tokens}\n" for a in arrivals)


def _unpack(file: _Buffered) -> _Buffered:
    """The file's lines, of a pipe too; gzip is known by how it begins, whatever the file is called."""
    packed = file.peek(len(_GZIP)).startswith(_GZIP)
    return BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file


def _read_line(rows: _Buffered) -> str:
    """The next line, cut where it is far too long; empty at the end. Raises UnicodeDecodeError."""
    return rows.readline(_LINE_LIMIT).decode("utf-8")


def _check_head(head: str) -> None:
    columns = [column.strip().strip('"') for column in head.split(",")]
    if columns == list(COLUMNS):
        return
    for column in columns:
        if column and column not in COLUMNS:
            guess = did_you_mean(column, COLUMNS)
            raise ValueError(f"wanted the columns {HEAD}, found the unknown column {show(column)}{guess}")
    raise ValueError(f"wanted the columns {HEAD} in the first line, found {show(head) if head else 'nothing'}")


def _parse(line: str, last_s: Seconds) -> Arrival | None:
    """The request of one line; None for an empty one. Raises ValueError with what was wanted and found."""
    fields = line.split(",")
    if len(fields) != len(COLUMNS) or '"' in line:
        try:
            fields = next(csv.reader([line]), [])
        except csv.Error:
            raise ValueError(
                f"wanted one request a line, found a line that breaks within itself: {show(line)}"
            ) from None
        if not fields:
            return None
        if len(fields) != len(COLUMNS):
            raise ValueError(f"wanted {len(COLUMNS)} fields ({HEAD}), found {len(fields)}: {show(line)}")
    try:
        at_s = float(fields[0])
    except ValueError:
        raise ValueError(f"seconds: wanted a number, found {show(fields[0])}") from None
    if not math.isfinite(at_s) or not 0 <= at_s <= LONGEST_S:
        raise ValueError(f"seconds: wanted 0 to {LONGEST_S:.0f} (a year), found {show(fields[0])}")
    if at_s < last_s:
        raise ValueError(f"seconds: wanted times in order, found {fields[0]} after {last_s:g}; sort the file")
    model = fields[1].strip()
    if not MODEL_NAME.fullmatch(model):
        wanted = "a model name of a-z, 0-9, '.', '_', '-', beginning with a letter or digit, at most 63"
        raise ValueError(f"model: wanted {wanted}, found {show(model)}")
    return Arrival(at_s, model, _tokens(fields[2], "prompt_tokens"), _tokens(fields[3], "output_tokens"))


def _tokens(text: str, column: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if not 0 <= count <= TOKENS_LIMIT:
        raise ValueError(f"{column}: wanted a whole number from 0 to {TOKENS_LIMIT}, found {show(text)}")
    return count
