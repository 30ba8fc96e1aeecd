"""The journal's own protocol: one message with its fields, as one datagram.

Source: systemd.io/JOURNAL_NATIVE_PROTOCOL. Written here because it is thirty lines: the bindings that speak it want
libsystemd's headers and a compiler at installation.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

SOCKET = "/run/systemd/journal/socket"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Journal:
    """A way to the journal. Nothing is sent before `send`; sending never waits."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, fields: Iterable[tuple[str, str]]) -> bool:
        """Return whether the journal took the message: not while it is restarting, or its queue is full."""
        message = b"".join(_encode(name, value) for name, value in fields)
        try:
            self._socket.sendto(message, self._path)
        except OSError as error:
            # More than a datagram takes (net.core.wmem_max): a sealed file goes in its place.
            return error.errno in _TOO_LARGE and self._send_file(message)
        return True

    def close(self) -> None:
        self._socket.close()

    def _send_file(self, message: bytes) -> bool:
        try:
            with open(os.memfd_create("sleepd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb", buffering=0) as file:
                file.write(message)
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file.fileno()))]
                self._socket.sendmsg([b""], rights, 0, self._path)
        except OSError:
            return False
        return True


_TOO_LARGE = frozenset({errno.E2BIG, errno.EMSGSIZE, errno.ENOBUFS})


def _encode(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", "replace")
    if b"\n" not in raw:
        return name.encode() + b"=" + raw + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
