"""Which processes a server consists of: what NVML's per-process bytes are matched with.

From its cgroup, which anybody may read; without one, the owner of its listening socket and the descendants, which
takes the same user or root. Sources: kernel cgroup-v2 doc (cgroup.procs), vLLM's process tree (docs/vllm.md).
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from sleepd.adapters.cgroup import group_dirs
from sleepd.adapters.owners import SharedLook
from sleepd.core.model import ModelSpec

SAME_START_S = 1.0
"""A process's start reaches us as ticks since boot plus the time of boot, by two libraries that both round."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told from a later one of the same pid by when it started."""

    pid: int
    created_s: float

    def is_running(self) -> bool:
        """Whether it lives; a zombie has ended. One read in /proc."""
        try:
            found = psutil.Process(self.pid)
            return found.create_time() == self.created_s and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True


class ProcessFinder:
    """Finds pids in a thread; empty where they cannot be seen, and then only device totals are compared."""

    def __init__(self, cgroup_root: Path) -> None:
        self._cgroup_root = cgroup_root
        self._owners = SharedLook()

    async def find(self, spec: ModelSpec) -> tuple[int, ...]:
        """Return the server's pids. Waits for one or two looks at all of /proc where its cgroup names none."""
        found = await asyncio.to_thread(self._members, spec)
        return tuple(sorted(found or (await self._owners.take()).of(spec.url)))

    async def find_started(self, pids: Sequence[int], started_s: float) -> Process | None:
        """Return which of these processes started then (seconds since the epoch); None where none can be seen."""
        return await asyncio.to_thread(_find_started, pids, started_s)

    def _members(self, spec: ModelSpec) -> set[int]:
        return {pid for directory in group_dirs(self._cgroup_root, spec) for pid in _members(directory)}


def _find_started(pids: Sequence[int], started_s: float) -> Process | None:
    for pid in pids:
        try:
            created_s = psutil.Process(pid).create_time()
        except psutil.Error:
            continue
        if abs(created_s - started_s) < SAME_START_S:
            return Process(pid, created_s)
    return None


def _members(directory: Path) -> Iterator[int]:
    """Pids of a cgroup and everything below it."""
    try:
        for listing in directory.rglob("cgroup.procs"):
            yield from (int(line) for line in listing.read_text().split() if line.isdigit())
    except OSError:
        return


def process_tree(pid: int) -> tuple[int, ...]:
    """Return this process and its descendants, as far as they can be seen."""
    try:
        return (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True)))
    except psutil.Error:
        return (pid,)
