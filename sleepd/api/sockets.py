"""Unix sockets to listen on: bound where nobody else does, and their files taken away again."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path


class SocketTaken(Exception):
    """The socket cannot be bound; the message says which, why, and what to do."""


def bind_socket(path: Path, mode: int, *, key: str = "[api] socket") -> socket.socket:
    """Return a socket bound to `path` that only `mode` may connect to; a stale file there is replaced. `key` is where
    the path was chosen.

    Raises SocketTaken where somebody listens on it, where something else lies there, or where it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            bound.bind(str(path))
            path.chmod(mode)  # nobody can connect before listen()
            bound.listen(128)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        hint = f"set {key} to a place that sleepd may write to"
        raise SocketTaken(f"cannot listen on {path}: {error.strerror or error}; {hint}") from None
    return bound


def _remove_stale(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        raise SocketTaken(f"cannot listen on {path}: something that is no socket lies there; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        found = probe.connect_ex(str(path))
    if found == errno.ECONNREFUSED:
        path.unlink()
    elif found in (0, errno.EAGAIN):
        raise SocketTaken(f"cannot listen on {path}: another process does, most likely a second sleepd; stop it")
    elif found != errno.ENOENT:
        raise OSError(found, os.strerror(found))


class SocketFiles:
    """Socket files of ours, each with its inode: one that somebody else put there meanwhile stays."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._files = [(path, path.stat().st_ino) for path in paths]

    def remove(self) -> None:
        """Take away those that are still ours."""
        for path, inode in self._files:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
