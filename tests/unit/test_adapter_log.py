"""Logs: one line a note in the form that suits where stderr leads."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sleepd.core.events import Note
from sleepd.obs import log


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_where_nobody_reads_along(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure({})
    log.log_note(Note("failure", "chat", "'wake' failed: OOM", {"code": "wake_refused", "level": 1, "event": "x"}))
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "'wake' failed: OOM",
        "level": "warning",
        "kind": "failure",
        "model": "chat",
        "code": "wake_refused",
        "note_level": 1,
        "note_event": "x",
    }


def test_the_journal_gets_priorities_and_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    found = os.fstat(sys.stderr.fileno())
    log.configure({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    log.log_note(Note("started", "", "two\nlines", {"pid": 7}))
    log.log_note(Note("foreign", "chat", "somebody else", {}))
    log.log_note(Note("state", "chat", "chat is awake", {}))
    assert capfd.readouterr().err.splitlines() == [
        "<6>two lines [pid=7 kind=started]",
        "<4>somebody else [model=chat kind=foreign]",
    ]


@pytest.mark.parametrize("stream", ["", "1:2", "odd", "1:2:3"])
def test_a_journal_that_is_not_ours_gets_json(capsys: pytest.CaptureFixture[str], stream: str) -> None:
    log.configure({"JOURNAL_STREAM": stream})
    log.log_note(Note("started", "", "sleepd runs", {}))
    assert json.loads(capsys.readouterr().err)["event"] == "sleepd runs"


def test_people_get_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal: Any = sys.stderr
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    log.configure({})
    log.log_note(Note("started", "", "sleepd runs", {}))
    assert "sleepd runs" in capsys.readouterr().err
