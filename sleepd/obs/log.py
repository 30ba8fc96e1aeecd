"""Logs: sentences for people on a terminal, messages with fields in the journal, plain lines elsewhere."""

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TextIO, cast

import structlog

from sleepd.core.model import CauseKind
from sleepd.core.turn import Note
from sleepd.obs.journal import Journal
from sleepd.obs.rations import Rations
from sleepd.obs.secrets import mask

IDENTIFIER = "sleepd"
_TAKEN = frozenset({"event", "level", "kind", "model", "timestamp", "gpu"})
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_WARNINGS = frozenset(
    {"failure", "foreign", "unanswered", "answer_wrong", "not_recordable", "gpus_missing", "host_missing"}
)
_OWN_FIELDS = ("model", "task", "rule", "gpu")
"""What is asked for most has a short name in the journal; everything else begins with SLEEPD_."""
VALUE_LIMIT = 2000

_rations = Rations()


def configure(environ: Mapping[str, str] | None = None) -> None:
    """Send logs to stderr in the form that suits where it leads, or to the journal where that is the journal."""
    global _rations
    _rations = Rations()
    environ = os.environ if environ is None else environ
    stderr = cast(TextIO, _Stderr(sys.stderr))
    factory: Any = structlog.PrintLoggerFactory(stderr)
    if _leads_to_journal(environ):
        tail: list[Any] = [_for_journal]
        factory = _JournalLogger(Journal(), stderr)
    elif sys.stderr.isatty():
        tail = [structlog.processors.TimeStamper("%H:%M:%S", utc=False), structlog.dev.ConsoleRenderer()]
    else:
        tail = [structlog.processors.TimeStamper("iso"), _plain_line]
    structlog.configure(
        processors=[structlog.processors.add_log_level, _mask_all, *tail],
        logger_factory=factory,
        # Each change of state is an event on the socket; the log tells what was begun, what ended and what failed.
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)


def log_note(note: Note, gpus: Sequence[str] = ()) -> None:
    """One line for one note; state changes in between are left to whoever watches events. `gpus`: the model's."""
    log = structlog.get_logger()
    if note.kind == "state":
        return
    write = log.warning if note.kind in _WARNINGS else log.info
    # Evidence may use words that the log has a meaning for: those get the note's own prefix.
    fields = {f"note_{key}" if key in _TAKEN else key: _plain(value) for key, value in note.data.items()}
    cause, _, who = str(note.data.get("cause", "")).partition(":")
    if cause == CauseKind.RULE and who and "rule" not in fields:
        fields["rule"] = who
    if gpus:
        fields["gpu"] = tuple(gpus)
    _write(write, note.text, (note.kind, note.model), **fields, model=note.model or None, kind=note.kind)


def say_error(text: str) -> None:
    """Why the daemon does not run, to whoever started it: the words alone, line by line; errors in the journal."""
    _say(text, "error")


def say_warning(text: str) -> None:
    """What is odd about the configuration, likewise."""
    _say(text, "warning")


def _say(text: str, level: str) -> None:
    for line in text.splitlines():
        if _leads_to_journal(os.environ):
            getattr(structlog.get_logger(), level)(line)
        else:
            sys.stderr.write(f"{line}\n")


def _write(write: Any, text: str, sort: tuple[str, str], **fields: object) -> None:
    withheld = _rations.take(sort)
    if withheld is None:
        return
    if withheld:
        text = f"{text} (after {withheld} more lines of this sort, which were withheld)"
    write(text, **{key: value for key, value in fields.items() if value is not None})


class _FromLibraries(logging.Handler):
    """What libraries say by Python's logging: asyncio of tasks that failed, aiohttp of requests it could not answer."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        write = log.error if record.levelno >= logging.ERROR else log.warning
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        _write(write, text, ("library", record.name), kind="library", library=record.name, traceback=trace)


def _plain(value: object) -> object:
    """What every form of log can carry: numbers stay numbers, the rest is text."""
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:VALUE_LIMIT]


def _mask_all(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = mask(value)
    return event


def _leads_to_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr is the stream the manager connected to the journal: systemd.exec(5), $JOURNAL_STREAM."""
    try:
        device, inode = environ.get("JOURNAL_STREAM", "").split(":")
        found = os.fstat(sys.stderr.fileno())
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (ValueError, OSError):
        return False


def _plain_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """Time, level, the sentence, then the fields, in one line."""
    when, level, text = event.pop("timestamp"), event.pop("level"), event.pop("event")
    fields = [f"{key}={_one_line(_words(value))}" for key, value in event.items()]
    return f"{when} {level:7} {_one_line(str(text))}" + (f" [{' '.join(fields)}]" if fields else "")


def _words(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _for_journal(logger: Any, method: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The fields of the message, each name as often as it has values."""
    fields = [("MESSAGE", str(event.pop("event"))), ("PRIORITY", str(_PRIORITY[event.pop("level")]))]
    fields.append(("SYSLOG_IDENTIFIER", IDENTIFIER))
    for key, value in event.items():
        name = key.upper() if key in _OWN_FIELDS else f"SLEEPD_{re.sub('[^A-Z0-9_]', '_', key.upper())}"[:64]
        fields += [(name, str(one)) for one in (value if isinstance(value, tuple) else (value,))]
    return (fields,), {}


class _Stderr(io.TextIOBase):
    """Standard error, whose reader may be gone: what is said then is lost, and whoever says it goes on."""

    def __init__(self, stderr: TextIO) -> None:
        self._stderr = stderr

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stderr.flush()


class _JournalLogger:
    """Takes what _for_journal made. What the journal does not take goes to stderr, with its priority before it."""

    def __init__(self, journal: Journal, otherwise: TextIO) -> None:
        self._journal, self._otherwise = journal, otherwise

    def __call__(self, *args: Any) -> "_JournalLogger":
        """Be the factory of itself: there is one way to the journal."""
        return self

    def msg(self, fields: list[tuple[str, str]]) -> None:
        if not self._journal.send(fields):
            values = dict(fields)
            print(f"<{values['PRIORITY']}>{_one_line(values['MESSAGE'])}", file=self._otherwise, flush=True)

    debug = info = warning = error = critical = msg
