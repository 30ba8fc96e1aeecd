"""The bus's side of D-Bus: the SASL handshake, framing, Hello, AddMatch; what is asked of systemd goes to a handler.

Messages are read and written by dbus-fast's own marshalling (D-Bus specification, "Message Protocol").
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageFlag, MessageType
from dbus_fast._private.unmarshaller import Unmarshaller

ROOT = "/org/freedesktop/systemd1"
SYSTEMD = "org.freedesktop.systemd1"
_BUS = "org.freedesktop.DBus"
HANDSHAKE = "the handshake"
Reply = tuple[str, list[Any]]


class Refusal(Exception):
    """The method answers with this error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Bus:
    """Listens at `path`; every connection has a thread of its own."""

    def __init__(self, path: Path, handle: Callable[[Message], Reply]) -> None:
        self.address, self._handle = f"unix:path={path}", handle
        self._path = path
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.asked: list[str] = []
        """The members that were called, in order."""
        self.owner = ":1.0"
        """The unique name of whoever owns systemd's name."""
        self.deaf: frozenset[str] = frozenset()
        """Members that are taken and never answered; HANDSHAKE: whoever connects gets no word at all."""
        self.clients: list[socket.socket] = []
        """Every connection that its client has not closed, also one that was never answered."""
        self.open()

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(8)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Everybody is disconnected, and nobody comes in: as if the bus had been stopped."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._path.unlink(missing_ok=True)
        with self._lock:
            self._connections = []
            clients = list(self.clients)
        for connection in clients:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def signal(self, member: str, signature: str, body: list[Any], sender: str | None = None) -> None:
        """systemd, or who is named as the sender, tells everybody who listens."""
        self._tell(ROOT, f"{SYSTEMD}.Manager", member, sender or self.owner, signature, body)

    def change_owner(self, owner: str) -> None:
        """systemd comes back to the bus under another unique name, as after a daemon-reexec."""
        was, self.owner = self.owner, owner
        for old, new in ((was, ""), ("", owner)):
            self._tell("/org/freedesktop/DBus", _BUS, "NameOwnerChanged", _BUS, "sss", [SYSTEMD, old, new])

    def _tell(self, path: str, interface: str, member: str, sender: str, signature: str, body: list[Any]) -> None:
        message = Message(
            path=path,
            interface=interface,
            member=member,
            message_type=MessageType.SIGNAL,
            signature=signature,
            body=body,
            serial=1,
        )
        raw = _stamp(message, sender)
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.sendall(raw)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.clients.append(connection)
        with connection, contextlib.suppress(OSError, EOFError):
            while HANDSHAKE in self.deaf:
                _read(connection, 1)
            _shake_hands(connection)
            with self._lock:
                self._connections.append(connection)
            while True:
                self._answer(connection, _read_message(connection))
        with self._lock:
            self.clients.remove(connection)

    def _answer(self, connection: socket.socket, message: Message) -> None:
        if message.member in self.deaf:
            return
        if message.destination == _BUS:
            told = {"Hello": ":1.1", "GetNameOwner": self.owner}.get(str(message.member))
            signature, body = ("s", [told]) if told else ("", [])
            reply = Message.new_method_return(message, signature, body)
        else:
            self.asked.append(str(message.member))
            try:
                signature, body = self._handle(message)
                reply = Message.new_method_return(message, signature, body)
            except Refusal as refusal:
                reply = Message.new_error(message, refusal.name, str(refusal))
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            return
        reply.destination, reply.serial = ":1.1", message.serial
        with self._lock:
            connection.sendall(bytes(reply._marshall(False)))


def _stamp(message: Message, sender: str) -> bytes:
    """The message as a bus hands it on, with the header field SENDER, which clients cannot write."""
    raw = bytes(message._marshall(False))
    fields_end = 16 + struct.unpack_from("<I", raw, 12)[0]
    body_begin = (fields_end + 7) // 8 * 8
    field = struct.pack("<B3sI", 7, b"\x01s\x00", len(sender)) + sender.encode() + b"\x00"
    fields = raw[16:fields_end].ljust(body_begin - 16, b"\x00") + field
    return raw[:12] + struct.pack("<I", len(fields)) + fields + bytes(-len(fields) % 8) + raw[body_begin:]


def _shake_hands(connection: socket.socket) -> None:
    """AUTH EXTERNAL, as a server that takes everybody (D-Bus specification, "Authentication Protocol")."""
    assert connection.recv(1) == b"\0"
    for line in iter(lambda: _read_line(connection), b"BEGIN"):
        if line.startswith(b"AUTH EXTERNAL") or line == b"DATA":
            connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        else:
            connection.sendall(b"ERROR\r\n")


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += _read(connection, 1)
    return line[:-2]


def _read_message(connection: socket.socket) -> Message:
    head = _read(connection, 16)
    body_bytes, _, fields_bytes = struct.unpack("<III", head[4:])
    rest = _read(connection, (fields_bytes + 7) // 8 * 8 + body_bytes)
    message = Unmarshaller(io.BytesIO(head + rest), negotiate_unix_fd=False).unmarshall()
    assert message is not None
    return message


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
