"""Processes that begin with sleepd imported already.

To start Python and import the daemon is a second of processor time, and these tests start hundreds of daemons and
servers. A process of the standard library's forkserver has done that once: what it forks is a process of its own, with
a pid, files, signals and an end of its own, that runs a program as `python -m` would. How the installed command itself
starts is shown by the tests that execute it (test_daemon.py, test_demo.py).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

IMPORTED = ["sleepd.service.process", "sleepd.cli.fake_vllm"]
_CONTEXT = multiprocessing.get_context("forkserver")


def open_nursery(environ: Mapping[str, str]) -> None:
    """Let what is started from now on begin with the imports done, in this environment.

    What the dynamic linker reads must be in it: that happens when a program is executed, not when it forks.
    """
    _CONTEXT.set_forkserver_preload(IMPORTED)
    kept = dict(os.environ)
    os.environ.update(environ)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(kept)


class Child:
    """A process as `subprocess.Popen` is one. Both outputs go to `log`; with `told`, what it prints to `stdout`."""

    def __init__(self, program: str, arguments: tuple[str, ...], log: Path, environ: Mapping[str, str], *, told: bool):
        heard, tells = _CONTEXT.Pipe(duplex=False) if told else (None, None)
        # A daemonic process is ended with whoever started it.
        self._process = _CONTEXT.Process(target=_be, args=(program, arguments, log, dict(environ), tells), daemon=True)
        self._process.start()
        if tells is not None:
            tells.close()
        self.stdout = os.fdopen(os.dup(heard.fileno()), "rb") if heard is not None else None
        if heard is not None:
            heard.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        """Its exit status, as far as it ended; negative: the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises TimeoutExpired where it goes on for longer."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _be(
    program: str, arguments: tuple[str, ...], log: Path, environ: Mapping[str, str], tells: Connection | None
) -> None:
    """In the new process: be that program."""
    os.environ.clear()
    os.environ.update(environ)
    with log.open("ab") as sink:
        os.dup2(sink.fileno(), 2)
        os.dup2(sink.fileno() if tells is None else tells.fileno(), 1)
    if tells is not None:
        tells.close()
    sys.argv = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
