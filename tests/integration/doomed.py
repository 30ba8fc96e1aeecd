"""`sleepd run`, killed by its own hand (SIGKILL) at one moment of a transition, as the OOM killer would.

The production daemon knows nothing of this: its disk and its servers are replaced by ones that count. The file named by
SLEEPD_DOOM says the moment once it exists: "before-commit 3" is before the third commit from now on that speaks of a
task; "sent 1" is after the first call to an engine left; "answered 1" after its answer came, before anybody saw it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sleepd.adapters.store import SqliteStore
from sleepd.adapters.vllm_http import VllmServer
from sleepd.cli.daemon import main
from sleepd.core.records import Record, TaskEnded, TaskSaved
from sleepd.service import parts, servers

SENT_WITHIN_S = 0.1
"""After this a call on a unix socket has long left; nobody is told what it came to."""


class Doom:
    """Counts the moments of each kind since the file appeared, and ends the process at the one that it names."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._left: int | None = None
        self._kind = ""

    def is_near(self, kind: str) -> bool:
        """Whether this moment is the one. Counts it."""
        if self._left is None:
            if not self._file.exists():
                return False
            self._kind, _, number = self._file.read_text().partition(" ")
            self._left = int(number)
        if kind != self._kind:
            return False
        self._left -= 1
        return self._left == 0

    def pass_by(self, kind: str) -> None:
        if self.is_near(kind):
            strike()


def strike() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


DOOM = Doom(Path(os.environ["SLEEPD_DOOM"]))


class DoomedStore(SqliteStore):
    async def commit(self, records: Sequence[Record]) -> None:
        counts = any(isinstance(record, TaskSaved | TaskEnded) for record in records)
        if counts:
            DOOM.pass_by("before-commit")
        await super().commit(records)
        if counts:
            DOOM.pass_by("after-commit")


class DoomedServer(VllmServer):
    async def call(self, *arguments: Any, **options: Any) -> Any:
        return await _doomed(super().call(*arguments, **options))

    async def complete(self, *arguments: Any, **options: Any) -> Any:
        return await _doomed(super().complete(*arguments, **options))


async def _doomed(calling: Any) -> Any:
    if DOOM.is_near("sent"):
        task = asyncio.ensure_future(calling)
        await asyncio.sleep(SENT_WITHIN_S)
        task.cancel()
        strike()
    answer = await calling
    DOOM.pass_by("answered")
    return answer


if __name__ == "__main__":
    parts.SqliteStore = DoomedStore  # type: ignore[misc]
    servers.VllmServer = DoomedServer  # type: ignore[misc]
    sys.exit(main())
