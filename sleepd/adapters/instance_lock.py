"""One daemon per state directory: a second one would drive the same engines against the first."""

import fcntl
import os
from pathlib import Path


class AlreadyRunning(Exception):
    """Another daemon holds the state directory. The message names it and says what to do."""


class InstanceLock:
    """Held while the daemon lives; the kernel lets go when the process ends, however it ends."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Hold the lock. Raises AlreadyRunning, or OSError where the directory cannot be used."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise AlreadyRunning(
                f"wanted to be the only sleepd on {self._path.parent}, found another one (pid {holder}): stop it, or"
                " give this one its own [daemon] state_dir"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
