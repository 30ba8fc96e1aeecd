"""Connections that are not ours, on real sockets of this kernel; and what is said where they cannot be seen."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sleepd.adapters.direct import DirectConnections, own_inodes
from sleepd.adapters.sock_diag import TcpSocket, UnixSocket, tcp_sockets, unix_sockets
from sleepd.core.seen import DirectSeen

PORT = 8001
URL = f"http://127.0.0.1:{PORT}"


def strangers() -> DirectConnections:
    """A look by somebody to whom every connection of this process is a stranger's."""
    return DirectConnections(own=frozenset)


def until_quiet(look: DirectConnections, url: str, quiet_s: float) -> DirectSeen:
    end_s = time.monotonic() + 20
    while (found := look.read(url)).quiet_s < quiet_s and time.monotonic() < end_s:
        time.sleep(0.05)
    return found


@pytest.fixture(params=["127.0.0.1", "::1", "0.0.0.0"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        made = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.fail(f"this machine has no {request.param}")
    with made:
        yield made


def test_a_connection_that_is_quiet_is_counted_with_its_age_and_one_that_speaks_is_young(
    listener: socket.socket,
) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{port}"
    look = strangers()
    assert look.read(url) == DirectSeen()
    with closing(socket.create_connection((host.replace("0.0.0.0", "127.0.0.1"), port))) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\n\r\n")
            found = until_quiet(look, url, 0.4)
            assert (found.count, found.missing) == (1, "")
            assert 0.4 <= found.quiet_s < 30.0
            client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            server.recv(100)
            assert look.read(url).quiet_s < found.quiet_s
            assert DirectConnections().read(url) == DirectSeen(), "this process's own connection is no stranger's"
    assert look.read(url).count == 0


def test_a_unix_socket_tells_who_is_connected_and_its_age_counts_from_the_first_look(tmp_path: Path) -> None:
    path, now_s = tmp_path / "s.sock", 100.0
    look = DirectConnections(own=frozenset, clock=lambda: now_s)
    with closing(socket.socket(socket.AF_UNIX)) as listener, closing(socket.socket(socket.AF_UNIX)) as client:
        listener.bind(str(path))
        listener.listen()
        assert look.read(f"unix:{path}") == DirectSeen()
        client.connect(str(path))
        server, _ = listener.accept()
        with server:
            assert look.read(f"unix:{path}") == DirectSeen(1, 0.0)
            now_s += 7.0
            assert look.read(f"unix:{path}") == DirectSeen(1, 7.0)
            assert DirectConnections().read(f"unix:{path}") == DirectSeen()
    assert look.read(f"unix:{path}") == DirectSeen()


def test_the_kernel_lists_our_own_sockets() -> None:
    a, b = socket.socketpair()
    with a, b, closing(socket.create_server(("127.0.0.1", 0))) as listener:
        inodes = own_inodes()
        assert any(s.inode in inodes and s.peer_inode in inodes for s in unix_sockets())
        assert any(s.listens and s.local == listener.getsockname() for s in tcp_sockets())


def tcp(local: str, remote: str, *, inode: int = 1, quiet_s: float = 9.0) -> TcpSocket:
    def pair(text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        return host, int(port)

    return TcpSocket(pair(local), pair(remote), remote == "0.0.0.0:0", inode, quiet_s)


HERE = tcp("127.0.0.1:8001", "0.0.0.0:0")


@pytest.mark.parametrize(
    ("sockets", "count"),
    [
        ((HERE, tcp("127.0.0.1:8001", "127.0.0.1:5000")), 1),
        # Both ends of one connection on this host are one connection.
        ((HERE, tcp("127.0.0.1:8001", "127.0.0.1:5000"), tcp("127.0.0.1:5000", "127.0.0.1:8001")), 1),
        # Ours: its other end is a socket of this process.
        ((HERE, tcp("127.0.0.1:8001", "127.0.0.1:5000"), tcp("127.0.0.1:5000", "127.0.0.1:8001", inode=7)), 0),
        # Not accepted yet: nobody holds a request of it.
        ((HERE, tcp("127.0.0.1:8001", "127.0.0.1:5000", inode=0)), 0),
        # Another server on another address of this port, and a client of a server elsewhere.
        ((HERE, tcp("10.0.0.1:8001", "0.0.0.0:0"), tcp("10.0.0.1:8001", "10.0.0.2:5000")), 0),
        ((HERE, tcp("10.0.0.1:5000", "10.0.0.2:8001")), 0),
        # A wildcard listener is reached at any address that has no listener of its own.
        ((tcp("0.0.0.0:8001", "0.0.0.0:0"), tcp("10.0.0.1:8001", "10.0.0.2:5000")), 1),
    ],
)
def test_what_counts_as_a_strangers_connection(sockets: tuple[TcpSocket, ...], count: int) -> None:
    look = DirectConnections(tcp=lambda: sockets, own=lambda: frozenset({7}))
    assert look.read(URL).count == count


def test_what_cannot_be_seen_is_said() -> None:
    def refused() -> Iterator[TcpSocket | UnixSocket]:
        raise PermissionError(13, "Permission denied")

    look = DirectConnections(tcp=refused, unix=refused)  # type: ignore[arg-type]
    for url in (URL, "unix:/run/x.sock"):
        assert look.read(url) == DirectSeen(missing="connections to it cannot be seen: Permission denied")
    elsewhere = DirectConnections(tcp=lambda: ()).read(URL)
    assert elsewhere.missing == f"connections to it cannot be seen: nobody on this host listens at {URL}"
