"""`sleepd demo` as its users run it: a process of its own, into a pipe and on a terminal."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from sleepd.sim.demo import hear_ends
from sleepd.sim.demo_summary import quantile
from sleepd.sim.demo_traffic import plan_visits, right_answer
from sleepd.sim.demo_watch import Board

DEMO = (sys.executable, "-m", "sleepd.cli.daemon", "demo")
CTL = (sys.executable, "-m", "sleepd.cli.ctl")


def run_demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Raises TimeoutExpired where it does not end by itself; left alone it goes on for 45 s."""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run([*DEMO, *arguments], env=environ, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.waits_long
def test_into_a_pipe_it_tells_what_happens_in_plain_lines_and_ends_with_its_summary(tmp_path: Path) -> None:
    ended = run_demo(tmp_path, "--seconds", "12", "--speed", "16")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    told, _, closing = ended.stdout.partition("demo ended: ")
    assert "search came back right from level 2" in told
    assert re.search(
        r"code is waking: a request waits .*\n.*is going to sleep at level [12]: makes room for code", told
    )
    assert all(re.match(r" +\d+:\d\d  \S", line) for line in told.splitlines())
    wakes = re.search(r"wakes +(\d+):", closing)
    assert wakes is not None
    assert int(wakes[1]) >= 2
    assert re.search(r"[1-9]\d* answers, all right|1 answer, and right", closing)
    assert re.search(r"failures +none", closing)
    assert max(map(len, closing.splitlines())) <= 80
    assert not list(tmp_path.iterdir()), "everything it made is gone"


@pytest.mark.waits_long
def test_on_a_terminal_it_shows_a_live_table_and_ctrl_c_ends_it_with_the_summary(tmp_path: Path) -> None:
    screen = Terminal(tmp_path, "--keep", "--speed", "16")
    screen.read_until("wake of search ended")  # the level 2 check of the last server: all three are up
    hint = re.search(r"sleepctl --socket (\S+/sleepd\.sock) top", screen.text)
    assert hint is not None
    assert Path(hint[1]).is_socket()
    report = subprocess.run(
        [*CTL, "--socket", hint[1], "report"], capture_output=True, text=True, timeout=40, check=False
    )
    assert report.returncode == 0, report.stderr
    assert re.search(r"^search +\d+\.\d ", report.stdout, re.M), report.stdout
    screen.process.send_signal(signal.SIGINT)
    screen.read_until("demo ended: ")
    assert screen.end() == 0
    for shown in ("MODEL", "GPU 0", "host RAM", "asleep L1", "Ctrl-C ends", "█", "answers"):
        assert shown in screen.text
    assert not list(tmp_path.iterdir())


class Terminal:
    """The demo on a terminal of 80 columns and 24 rows; `text` is what came so far, control sequences taken out."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self._reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environ = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        environ |= {"TMPDIR": str(tmp_path), "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            [*DEMO, *arguments], env=environ, stdin=writer, stdout=writer, stderr=writer, start_new_session=True
        )
        os.close(writer)
        self.text = ""

    def read_until(self, wanted: str, within_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + within_s
        while wanted not in self.text:
            assert time.monotonic() < deadline_s, f"no {wanted!r} in {self.text[-2000:]}"
            assert self._read(), f"it ended without {wanted!r}: {self.text[-2000:]}"

    def end(self) -> int:
        """Return the exit status; what was left to read is in `text`."""
        while self._read():
            pass
        os.close(self._reader)
        return self.process.wait(10)

    def _read(self) -> bool:
        try:
            read = os.read(self._reader, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read.decode(errors="replace"))
        return bool(read)


@pytest.mark.parametrize("wrong", [("--speed", "0"), ("--speed", "fast"), ("--seconds", "nan"), ("--speed", "100")])
def test_wrong_numbers_are_refused_with_what_was_wanted(tmp_path: Path, wrong: tuple[str, str]) -> None:
    ended = run_demo(tmp_path, *wrong)
    assert ended.returncode == 2
    assert "wanted a number from " in ended.stderr
    assert wrong[1] in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_and_a_terminal_that_is_closed_end_it_in_order(number: signal.Signals) -> None:
    told = hear_ends()
    assert signal.getsignal(number) is not signal.SIG_DFL
    os.kill(os.getpid(), number)
    await asyncio.wait_for(told.wait(), 20.0)


async def test_under_nohup_it_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hear_ends()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_reader_that_leaves_ends_it_without_a_word(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen([*DEMO, "--speed", "16"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert demo.stdout is not None
    demo.stdout.readline()
    demo.stdout.close()
    _, told = demo.communicate(timeout=15)
    assert (demo.returncode, told) == (0, b"")
    assert not list(tmp_path.iterdir())


def test_a_place_it_cannot_use_is_one_clear_message(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    ended = run_demo(deep, "--seconds", "5")
    assert ended.returncode == 1
    assert "TMPDIR" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(deep.iterdir())


def test_callers_are_the_same_in_every_run() -> None:
    models = ("a", "b", "c")
    first, second = plan_visits(models), plan_visits(models)
    visits = [next(first) for _ in range(50)]
    assert visits == [next(second) for _ in range(50)]
    assert {visit.model for visit in visits} == set(models)


def test_an_answer_of_other_weights_is_not_right() -> None:
    assert right_answer("chat", "Why?", 8) != right_answer("code", "Why?", 8)
    assert "!" not in right_answer("chat", "Why?", 8)


def test_given_back_are_the_bytes_of_sleepers_over_time() -> None:
    gib = 1 << 30
    gpu = {"awake_bytes": 50 * gib, "asleep_bytes": 2 * gib}
    asleep = {"name": "a", "level": 1, "gpus": [gpu]}
    awake = {"name": "b", "level": 0, "gpus": [gpu]}
    board = Board()
    board.take_status({"models": [asleep, awake]}, 100.0)
    board.take_status({"models": [asleep, awake]}, 100.0 + 3600)
    assert board.tally.given_back_gib_h == pytest.approx(48.0)
    assert board.tally.awake_gib_h == pytest.approx(100.0)


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.95) == 4.0
    assert quantile([7.0], 0.5) == 7.0
