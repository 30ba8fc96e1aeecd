"""Percentiles, what a commit costs on a disk, and which machine it was: what every benchmark prints beside its own."""

import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

COMMITS = 200


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of them do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]


def in_ms(values: Sequence[float]) -> str:
    """Return p50 and p99 of seconds, as milliseconds."""
    return f"p50 {percentile(values, 0.5) * 1e3:8.3f} ms   p99 {percentile(values, 0.99) * 1e3:8.3f} ms"


@contextmanager
def without(path: Path) -> Iterator[None]:
    """Remove the file when the block ends, however it ends."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def time_each(times: int, act: Callable[[], object]) -> list[float]:
    """Return the seconds of each of `times` calls."""
    took = []
    for _ in range(times):
        started_s = time.perf_counter()
        act()
        took.append(time.perf_counter() - started_s)
    return took


def fdatasync_costs(directory: Path) -> list[float]:
    """Return the seconds of writing 4 KiB at a file's end and making them durable, `COMMITS` times."""
    path = directory / "fdatasync.probe"
    with without(path), path.open("wb", buffering=0) as file:

        def append() -> None:
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())

        return time_each(COMMITS, append)


def commit_costs(directory: Path) -> list[float]:
    """Return the seconds of one-row commits, as the daemon's store makes them (WAL, synchronous=FULL)."""
    path = directory / "commit.probe"
    with without(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body TEXT)")
        body = "x" * 1000

        def commit() -> None:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT OR REPLACE INTO t VALUES (1, ?)", (body,))
            db.execute("COMMIT")

        return time_each(COMMITS, commit)


def filesystem_of(directory: Path) -> str:
    """Return device, type and options of the mount that holds the directory (/proc/self/mounts)."""
    best, found = -1, "unknown"
    resolved = directory.resolve()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, point, kind, options = line.split()[:4]
        if resolved.is_relative_to(point) and len(point) >= best:
            best, found = len(point), f"{kind} on {device} ({options})"
    return found


def describe_machine() -> str:
    """Return processor, cores, RAM, kernel and Python in one line."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    ram_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {ram_gib:.0f} GiB RAM, {system}"
