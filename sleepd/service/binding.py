"""Sockets for what listens beside the API: bound together, and their files taken away again."""

import socket
from collections.abc import Iterable
from pathlib import Path

from sleepd.api.sockets import SocketFiles, SocketTaken, bind_socket
from sleepd.config.listen import Listen


def bind(addresses: Iterable[Listen], mode: int, key: str) -> list[socket.socket]:
    """Return a bound socket for each address, unix ones with this mode. Raises SocketTaken, naming `key`."""
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            if address.path:
                bound.append(bind_socket(Path(address.path), mode, key=key))
            else:
                bound.append(_bind_tcp(address.host, address.port, key))
    except BaseException:
        for each in bound:
            each.close()
        raise
    return bound


def _bind_tcp(host: str, port: int, key: str) -> socket.socket:
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        hint = f"set {key} to a free address of this host"
        raise SocketTaken(f"cannot listen on {host}:{port}: {error.strerror or error}; {hint}") from None


def files_of(addresses: Iterable[Listen]) -> SocketFiles:
    """Return the files of the unix sockets among these addresses, which were bound."""
    return SocketFiles(Path(address.path) for address in addresses if address.path)
