"""Logs: sentences for people on a terminal, lines with their priority for the journal, JSON elsewhere."""

import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from sleepd.core.events import Note

_TAKEN = frozenset({"event", "level", "kind", "model", "timestamp"})
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_WARNINGS = frozenset(
    {"failure", "foreign", "unanswered", "answer_wrong", "not_recordable", "gpus_missing", "host_missing"}
)


def configure(environ: Mapping[str, str] | None = None) -> None:
    """Send logs to stderr in the form that suits where it leads."""
    environ = os.environ if environ is None else environ
    if _leads_to_journal(environ):
        tail: list[Any] = [_for_journal]
    elif sys.stderr.isatty():
        tail = [structlog.processors.TimeStamper("%H:%M:%S", utc=False), structlog.dev.ConsoleRenderer()]
    else:
        tail = [structlog.processors.TimeStamper("iso"), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[structlog.processors.add_log_level, *tail],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # Each change of state is an event on the socket; the log tells what was begun, what ended and what failed.
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )


def log_note(note: Note) -> None:
    """One line for one note; state changes in between are left to whoever watches events."""
    log = structlog.get_logger()
    write = log.warning if note.kind in _WARNINGS else log.debug if note.kind == "state" else log.info
    # Evidence may use words that the log has a meaning for: those get the note's own prefix.
    fields = {f"note_{key}" if key in _TAKEN else key: _plain(value) for key, value in note.data.items()}
    write(note.text, **fields, **({"model": note.model} if note.model else {}), kind=note.kind)


def _plain(value: object) -> object:
    """What every form of log can carry: numbers stay numbers, the rest is text."""
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _leads_to_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr is the stream the manager connected to the journal: systemd.exec(5), $JOURNAL_STREAM."""
    try:
        device, inode = environ.get("JOURNAL_STREAM", "").split(":")
        found = os.fstat(sys.stderr.fileno())
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (ValueError, OSError):
        return False


def _for_journal(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """The sentence behind its syslog priority, then the fields."""
    priority = _PRIORITY.get(str(event.pop("level", "info")), 6)
    text = str(event.pop("event", "")).replace("\n", " ")
    fields = " ".join(f"{key}={value}" for key, value in event.items())
    return f"<{priority}>{text}" + (f" [{fields}]" if fields else "")
