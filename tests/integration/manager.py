"""What systemd is to sleepd's own unit: it opens its sockets, restarts it, keeps descriptors from one run to the next.

Whether it restarts or stops a run is asked over a real bus (tests/fakesystemd); tests/system has the real systemd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from sleepd.client import Client
from tests.fakesystemd.systemd import FakeSystemd
from tests.integration.harness import SLEEPD, Host
from tests.integration.waiting import WAIT_LIMIT_S, wait_until
from tests.integration.wire import send

_ACTIVATE = """
import fcntl, os, sys
passed, words = [int(word) for word in sys.argv[1].split(",") if word], sys.argv[2:]
high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 600) for descriptor in passed]
for at, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + at)
    os.close(descriptor)
for descriptor in passed:
    if descriptor >= 3 + len(passed):
        os.close(descriptor)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", *words])
"""
"""Passes descriptors from 3 on, to a process that keeps its pid (sd_listen_fds(3))."""
PASSED_MOST = 400
START_LIMIT_S = 90.0
"""On a machine that does much else: a fresh Python imports everything."""


class ServiceManager:
    """Runs one daemon over a host's configuration, on sockets of its own."""

    def __init__(self, host: Host, *, stop_s: float = 60.0, program: str = SLEEPD) -> None:
        self.gateway, self.api = host.root / "g.sock", host.socket
        self._host, self._program = host, program
        self._sockets = {"gateway": _listen(self.gateway), "api": _listen(self.api)}
        self.stored: list[tuple[str, int]] = []
        """What the running daemon lets us keep, by name."""
        self._news = threading.Condition()
        self._ready = 0
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(host.root / "manager"))
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self.systemd = FakeSystemd(host.root / "bus")
        # Its own watch starts dead processes again; a run that ends here ended because it was told to.
        self.unit = self.systemd.add("sleepd.service", self._spawn, restarts=False)
        self.unit.stop_usec, self.unit.kept_most = int(stop_s * 1e6), PASSED_MOST
        self.client = Client(self.api, timeout_s=WAIT_LIMIT_S)

    @property
    def pid(self) -> int:
        assert self.unit.process is not None
        return self.unit.process.pid

    def start(self) -> None:
        """Return once the daemon is ready and every model was looked at."""
        self._start()
        wait_until(lambda: send(self.api, "GET", "/readyz").status == 200, "every model to be looked at")

    def _start(self) -> None:
        before = self._ready
        self.systemd.start(self.unit)
        with self._news:
            assert self._news.wait_for(lambda: self._ready > before, START_LIMIT_S), "the daemon did not start"

    def restart(self) -> None:
        """systemctl restart: return once the next run is ready."""
        self._end("restart")
        self._start()

    def stop(self) -> None:
        """systemctl stop: nothing is kept."""
        self._end("stop")
        for _, descriptor in self.stored:
            os.close(descriptor)
        self.stored.clear()

    def close(self) -> None:
        """Nothing is left running or open."""
        with contextlib.suppress(ProcessLookupError, AssertionError):
            os.kill(self.pid, signal.SIGKILL)
        self.systemd.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"END", str(self._host.root / "manager"))
        self._listening.join(WAIT_LIMIT_S)
        self._ear.close()
        for each in self._sockets.values():
            each.close()
        for _, descriptor in self.stored:
            os.close(descriptor)

    def _end(self, verb: str) -> None:
        process = self.unit.process
        assert process is not None
        self.unit.job = (1, verb)
        self.unit.active, self.unit.sub = "deactivating", "stop-sigterm"
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(self.unit.stop_usec / 1e6)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            self.unit.job = None
            self.unit.active, self.unit.sub = "inactive", "dead"
        assert status == 0, f"sleepd ended with {status}"

    def _spawn(self) -> subprocess.Popen[bytes]:
        passed = [(name, each.fileno()) for name, each in self._sockets.items()] + self.stored
        environ = {
            **os.environ,
            **self._host.nvml,
            "DBUS_SYSTEM_BUS_ADDRESS": self.systemd.bus.address,
            "NOTIFY_SOCKET": str(self._host.root / "manager"),
            "LISTEN_FDS": str(len(passed)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
        }
        descriptors = [descriptor for _, descriptor in passed]
        words = [self._program, "run", "--config", str(self._host.etc)]
        command = [sys.executable, "-S", "-c", _ACTIVATE, ",".join(map(str, descriptors)), *words]
        with (self._host.root / "sleepd.log").open("ab") as sink:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environ, pass_fds=descriptors
            )
        for _, descriptor in self.stored:
            os.close(descriptor)
        self.stored.clear()
        return child

    def _listen(self) -> None:
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._ear, 65536, 253)
            words = message.decode().split("\n")
            if words[0] == "END":
                return
            if words[0] == "BARRIER=1":
                for descriptor in descriptors:
                    os.close(descriptor)
            elif words[0] == "FDSTORE=1":
                self.stored += [(words[1].removeprefix("FDNAME="), descriptor) for descriptor in descriptors]
            elif words[0] == "READY=1":
                with self._news:
                    self._ready += 1
                    self._news.notify_all()


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen(1024)
    return listening
