"""Programs of others that run beside a make-believe host."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

END_LIMIT_S = 40.0


class Program:
    """One that runs until `end`; its words go to a log file in its folder."""

    def __init__(self, command: Sequence[str | Path], root: Path, environ: Mapping[str, str] | None = None) -> None:
        self.log = root / f"{Path(command[0]).name}.log"
        with self.log.open("wb") as sink:
            self.child = subprocess.Popen(
                command, stdout=sink, stderr=sink, cwd=root, env={**os.environ, **(environ or {})}
            )

    def assert_runs(self) -> None:
        """Raises AssertionError with its words where it has ended."""
        assert self.child.poll() is None, self.log.read_text()

    def end(self) -> None:
        self.child.terminate()
        try:
            self.child.wait(END_LIMIT_S)
        finally:
            if self.child.poll() is None:
                self.child.kill()
                self.child.wait()


def free_port() -> int:
    """Return a port of loopback at which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
