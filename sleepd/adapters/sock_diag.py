"""The kernel's list of sockets, by netlink: what /proc/net does not tell, without privileges.

Source: Linux include/uapi/linux/{sock_diag,inet_diag,unix_diag,tcp}.h, man 7 sock_diag. TCP sockets tell how long ago
they last sent and received; of unix sockets the list tells who is connected with whom.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _DUMP = 4, 20, 0x301
_DONE, _ERROR = 3, 2
_ESTABLISHED, _LISTEN = 1, 10
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_INFO, _INFO_LAST_SENT, _INFO_LAST_RECEIVED = 2, 44, 52
_UNIX_NAME, _UNIX_PEER, _SHOW_NAME, _SHOW_PEER = 0, 2, 0x1, 0x4
TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """One end of a connection, or a listener. `quiet_s`: since bytes last went either way; 0 of a listener."""

    local: tuple[str, int]
    remote: tuple[str, int]
    listens: bool
    inode: int
    quiet_s: float


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One end of a connection over a unix socket; the end that was accepted carries the path."""

    path: str
    inode: int
    peer_inode: int


def tcp_sockets() -> Iterator[TcpSocket]:
    """Every TCP socket of this network namespace that listens or is connected. Raises OSError."""
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        states = 1 << _ESTABLISHED | 1 << _LISTEN
        request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, states) + bytes(48)
        for message in _dump(request):
            local_port, remote_port = struct.unpack_from("!HH", message, 4)
            local, remote = (_address(family, message[at : at + size]) for at in (8, 24))
            info = _attributes(message, 72).get(_INFO, b"")
            quiet_ms = 0
            if len(info) >= _INFO_LAST_RECEIVED + 4:
                quiet_ms = min(struct.unpack_from("=I", info, at)[0] for at in (_INFO_LAST_SENT, _INFO_LAST_RECEIVED))
            listens = message[1] == _LISTEN
            inode = struct.unpack_from("=I", message, 68)[0]
            quiet_s = 0.0 if listens else quiet_ms / 1000
            yield TcpSocket((local, local_port), (remote, remote_port), listens, inode, quiet_s)


def unix_sockets() -> Iterator[UnixSocket]:
    """Every connected unix stream socket. Raises OSError."""
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 1 << _ESTABLISHED, 0, _SHOW_NAME | _SHOW_PEER, 0, 0)
    for message in _dump(request):
        if message[1] != socket.SOCK_STREAM:
            continue
        found = _attributes(message, 16)
        path = found.get(_UNIX_NAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
        peer = found.get(_UNIX_PEER, bytes(4))
        yield UnixSocket(path, struct.unpack_from("=I", message, 4)[0], struct.unpack("=I", peer)[0])


def _dump(request: bytes) -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(TIMEOUT_S)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP, 1, 0) + request)
        while True:
            data, at = netlink.recv(1 << 17), 0
            while at < len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                    raise OSError(number, "the kernel does not list its sockets (sock_diag)")
                yield data[at + _HEADER.size : at + length]
                at += _padded(length)


def _attributes(message: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        found[kind] = message[at + _ATTRIBUTE.size : at + length]
        at += max(_padded(length), _ATTRIBUTE.size)
    return found


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _address(family: int, raw: bytes) -> str:
    """As text; an IPv4 address behind an IPv6 socket as what it is."""
    if family == socket.AF_INET6 and raw.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(family, raw)
