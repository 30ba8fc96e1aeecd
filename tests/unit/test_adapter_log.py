"""Logs: one line a note in the form that suits where stderr leads."""

import array
import io
import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from sleepd.core.turn import Note
from sleepd.obs import log
from sleepd.obs.journal import Journal
from sleepd.obs.rations import BURST, Rations
from sleepd.obs.secrets import mask


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Journald:
    """Takes datagrams as systemd-journald does, and reads them into fields."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(5.0)

    def read(self) -> list[tuple[str, str]]:
        data, control, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, rights in control:
            (fd,) = array.array("i", rights)
            with open(fd, "rb") as file:
                file.seek(0)
                data = file.read()
        fields = []
        while data:
            line, _, data = data.partition(b"\n")
            name, is_short, value = line.partition(b"=")
            if not is_short:
                (length,) = struct.unpack_from("<Q", data)
                value, data = data[8 : 8 + length], data[9 + length :]
            fields.append((name.decode(), value.decode()))
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    """Stderr leads to the journal, and the journal is ours."""
    monkeypatch.setattr(log, "_leads_to_journal", lambda environ: True)
    server = Journald(tmp_path / "journal")
    opened = Journal(server.path)
    monkeypatch.setattr(log, "Journal", lambda: opened)
    yield server
    opened.close()
    server.close()


class Closed(io.StringIO):
    """Standard error whose reader is gone: a pipe that was closed, a journal that was stopped."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("to_journal", [True, False])
def test_a_log_that_nobody_reads_any_more_stops_nothing(
    to_journal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_leads_to_journal", lambda environ: to_journal)
    unheard = Journal(str(tmp_path / "nobody"))
    monkeypatch.setattr(log, "Journal", lambda: unheard)
    monkeypatch.setattr(sys, "stderr", Closed())
    log.configure()
    log.log_note(Note("task_begun", "chat", "chat is falling asleep", {}))
    unheard.close()


def test_the_journal_gets_the_sentence_and_fields_to_ask_for(journald: Journald, capfd: Any) -> None:
    log.configure()
    data = {"task": 7, "cause": "rule:nap", "level": 1, "seconds": 0.25, "event": "x"}
    log.log_note(Note("task_begun", "chat", "chat is falling asleep", data), gpus=("0", "1"))
    assert journald.read() == [
        ("MESSAGE", "chat is falling asleep"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "sleepd"),
        ("TASK", "7"),
        ("SLEEPD_CAUSE", "rule:nap"),
        ("SLEEPD_NOTE_LEVEL", "1"),
        ("SLEEPD_SECONDS", "0.25"),
        ("SLEEPD_NOTE_EVENT", "x"),
        ("RULE", "nap"),
        ("GPU", "0"),
        ("GPU", "1"),
        ("MODEL", "chat"),
        ("SLEEPD_KIND", "task_begun"),
    ]
    assert capfd.readouterr().err == ""


def test_the_journal_gets_warnings_as_such_and_no_states(journald: Journald) -> None:
    log.configure()
    log.log_note(Note("state", "chat", "chat is awake", {}))
    log.log_note(Note("foreign", "chat", "somebody\nelse", {}))
    found = dict(journald.read())
    assert (found["MESSAGE"], found["PRIORITY"], found["MODEL"]) == ("somebody\nelse", "4", "chat")


def test_errors_at_the_start_are_errors_in_the_journal(journald: Journald) -> None:
    log.configure()
    log.say_error("a.toml:1: wrong\na.toml:2: wrong")
    found = [dict(journald.read()) for _ in range(2)]
    assert [(f["MESSAGE"], f["PRIORITY"]) for f in found] == [("a.toml:1: wrong", "3"), ("a.toml:2: wrong", "3")]


def test_a_message_too_large_for_a_datagram_goes_as_a_file(journald: Journald) -> None:
    text = "long\n" * 200_000
    sender = Journal(journald.path)
    assert sender.send([("MESSAGE", text), ("PRIORITY", "6")])
    sender.close()
    assert journald.read() == [("MESSAGE", text), ("PRIORITY", "6")]


def test_what_the_journal_does_not_take_goes_to_stderr(journald: Journald, capfd: Any) -> None:
    log.configure()
    os.unlink(journald.path)
    log.log_note(Note("started", "", "two\nlines", {}))
    assert capfd.readouterr().err == "<6>two\\nlines\n"


def test_plain_lines_where_nobody_reads_along(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure({})
    data = {"code": "wake_refused", "level": 1, "event": "x"}
    log.log_note(Note("failure", "chat", "'wake' failed:\nOOM", data), gpus=("0", "1"))
    when, _, line = capsys.readouterr().err.strip().partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", when)
    wanted = (
        "warning 'wake' failed:\\nOOM [code=wake_refused note_level=1 note_event=x gpu=0,1 model=chat kind=failure]"
    )
    assert line == wanted


def test_the_journal_is_known_by_its_stream(capfd: Any) -> None:
    found = os.fstat(sys.stderr.fileno())
    assert log._leads_to_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not log._leads_to_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})


@pytest.mark.parametrize("stream", ["", "1:2", "odd", "1:2:3"])
def test_a_journal_that_is_not_ours_gets_nothing(capsys: pytest.CaptureFixture[str], stream: str) -> None:
    log.configure({"JOURNAL_STREAM": stream})
    log.log_note(Note("started", "", "sleepd runs", {}))
    assert " info    sleepd runs [kind=started]" in capsys.readouterr().err


def test_people_get_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal: Any = sys.stderr
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    log.configure({})
    log.log_note(Note("started", "", "sleepd runs", {}))
    assert "sleepd runs" in capsys.readouterr().err


def test_what_libraries_say_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure({})
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Unhandled exception")
    logging.getLogger("aiohttp.server").info("nothing")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "error   Unhandled exception: ValueError: odd [kind=library library=aiohttp.server traceback=" in line


@pytest.mark.parametrize(
    ("told", "masked"),
    [
        ("Authorization: Bearer sk-123, Accept: x", "Authorization: Bearer ***, Accept: x"),
        ("{'authorization': 'Basic dXNlcjpw'}", "{'authorization': 'Basic ***'}"),
        ("sent Bearer sk-123 in vain", "sent Bearer *** in vain"),
        ("vllm serve m --api-key sk-123 --uds x", "vllm serve m --api-key *** --uds x"),
        ("x-api-key=sk-123", "x-api-key=***"),
        ('"api_key": ["sk-123"]', '"api_key": ["***"]'),
        ("api_key_file of chat: /etc/key cannot be read", "api_key_file of chat: /etc/key cannot be read"),
        ("set [gateway] api_keys_file", "set [gateway] api_keys_file"),
    ],
)
def test_keys_never_stand_in_a_log(capsys: pytest.CaptureFixture[str], told: str, masked: str) -> None:
    assert mask(told) == masked
    log.configure({})
    log.log_note(Note("failure", "chat", told, {"detail": told}))
    line = capsys.readouterr().err
    assert f"{masked} [detail={masked} " in line
    assert "sk-123" not in line


def test_one_sort_of_line_cannot_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure({})
    for _ in range(BURST + 500):
        log.log_note(Note("hold", "chat", "uid 1000 holds chat awake", {}))
    log.log_note(Note("failure", "chat", "another sort", {}))
    lines = capsys.readouterr().err.splitlines()
    assert BURST < len(lines) < BURST + 100
    assert "another sort" in lines[-1]


def test_what_was_withheld_is_told() -> None:
    now_s = [0.0]
    rations = Rations(lambda: now_s[0])
    assert [rations.take(("hold", "a")) for _ in range(BURST + 2)] == [0] * BURST + [None, None]
    assert rations.take(("hold", "b")) == 0
    now_s[0] = 1.0
    assert [rations.take(("hold", "a")) for _ in range(3)] == [2, 0, None]
