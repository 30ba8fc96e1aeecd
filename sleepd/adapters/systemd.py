"""The service manager: sd_notify(3), the watchdog's interval, and sockets it passes (sd_listen_fds(3))."""

import os
import socket
import time
from collections.abc import Mapping

from sleepd.core.units import Seconds

FIRST_PASSED_FD = 3


class SystemdNotifier:
    """Tells the service manager how we are. Without NOTIFY_SOCKET nothing is sent; a send never blocks or fails."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self._last_status = ""
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        if text != self._last_status and self._send(f"STATUS={text.replace(chr(10), ' ')}"):
            self._last_status = text

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def extend(self, timeout_s: Seconds) -> None:
        """Ask for so much time from now for what goes on: the start, a reload or the end."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(timeout_s * 1e6)}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> bool:
        """Return whether it was taken: not where the manager is restarting or its queue is full."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True


def watchdog_interval_s(environ: Mapping[str, str], pid: int) -> Seconds | None:
    """Seconds within which the manager wants a sign of life; None where it watches nobody or somebody else."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or int(usec) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(usec) / 1e6


def passed_descriptors(environ: Mapping[str, str], pid: int) -> dict[str, tuple[int, ...]]:
    """The descriptors passed by the service manager, by their names; empty without any.

    Sockets of socket units go by FileDescriptorName=, all ListenStream= of one by the same, and what an earlier run let
    the manager keep by its FDNAME=.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdigit():
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, tuple[int, ...]] = {}
    for offset in range(int(count)):
        fd = FIRST_PASSED_FD + offset
        os.set_inheritable(fd, False)
        name = names[offset] if offset < len(names) and names[offset] else f"unnamed-{offset}"
        found[name] = (*found.get(name, ()), fd)
    return found
