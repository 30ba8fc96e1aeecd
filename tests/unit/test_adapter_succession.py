"""Descriptors left to the next run: whether one follows is systemd's word, and what is sent arrives whole."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.systemd_succession import AT_ONCE, SystemdSuccession
from sleepd.adapters.systemd_units import LONGEST_STOP_S, SystemdUnits
from sleepd.ports import Succession
from tests.fakesystemd.systemd import FakeSystemd, Unit


class Self:
    """The test's own process as the main process of a unit."""

    pid = os.getpid()

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> int:
        raise subprocess.TimeoutExpired("self", timeout or 0.0)

    def send_signal(self, number: int) -> None:
        raise AssertionError(number)

    def kill(self) -> None:
        """It goes on."""


class Ear:
    """The manager's side of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.stored: list[tuple[str, int]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 253)
            if message == b"END":
                return
            if message.startswith(b"FDSTORE=1\n"):
                name = message.decode().partition("FDNAME=")[2]
                self.stored += [(name, descriptor) for descriptor in descriptors]
            else:
                assert message == b"BARRIER=1"
                for descriptor in descriptors:
                    os.close(descriptor)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"END", self.address)
        self._thread.join(10.0)
        self._socket.close()
        for _, descriptor in self.stored:
            os.close(descriptor)


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[tuple[FakeSystemd, Unit]]:
    systemd = FakeSystemd(tmp_path / "bus")
    unit = systemd.add("sleepd.service", Self)
    systemd.start(unit)
    yield systemd, unit
    unit.process = None
    systemd.close()


@pytest.mark.parametrize(
    ("job", "stop_usec", "wanted"),
    [
        ("restart", 90_000_000, Succession(90.0, 8200)),
        ("try-restart", 2**64 - 1, Succession(LONGEST_STOP_S, 8200)),
        ("stop", 90_000_000, None),
        ("", 90_000_000, None),
    ],
)
async def test_another_run_follows_where_systemd_restarts_us(
    unit: tuple[FakeSystemd, Unit], job: str, stop_usec: int, wanted: Succession | None
) -> None:
    systemd, own = unit
    own.job, own.stop_usec, own.kept_most = (7, job) if job else None, stop_usec, 8200
    units = SystemdUnits(SystemClock(), systemd.bus.address)
    assert await SystemdSuccession(units, {"NOTIFY_SOCKET": "/run/notify"}).announced() == wanted
    assert await SystemdSuccession(units, {}).announced() is None, "nobody would keep anything"
    await units.close()


async def test_without_a_bus_or_a_unit_no_run_follows(unit: tuple[FakeSystemd, Unit], tmp_path: Path) -> None:
    systemd, own = unit
    units = SystemdUnits(SystemClock(), f"unix:path={tmp_path}/nobody")
    assert await SystemdSuccession(units, {"NOTIFY_SOCKET": "/run/notify"}).announced() is None
    await units.close()
    own.process = None
    units = SystemdUnits(SystemClock(), systemd.bus.address)
    assert await SystemdSuccession(units, {"NOTIFY_SOCKET": "/run/notify"}).announced() is None
    await units.close()


async def test_what_is_kept_arrives_however_much_it_is(tmp_path: Path) -> None:
    ear = Ear(tmp_path / "notify")
    pipes = [os.pipe() for _ in range(AT_ONCE // 2 + 2)]
    sent = array.array("i", [end for pipe in pipes for end in pipe])
    succession = SystemdSuccession(SystemdUnits(SystemClock()), {"NOTIFY_SOCKET": ear.address})
    try:
        assert await succession.keep("things", list(sent))
        assert await succession.keep("state", [sent[0]])
        assert [name for name, _ in ear.stored] == ["things"] * len(sent) + ["state"]
        inodes = [os.fstat(descriptor).st_ino for _, descriptor in ear.stored]
        assert inodes == [os.fstat(descriptor).st_ino for descriptor in (*sent, sent[0])]
    finally:
        ear.close()
        for descriptor in sent:
            os.close(descriptor)


async def test_where_nobody_listens_nothing_is_kept(tmp_path: Path) -> None:
    succession = SystemdSuccession(SystemdUnits(SystemClock()), {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not await succession.keep("things", [0])
