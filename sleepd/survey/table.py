"""All processes of this host, looked at once for everybody who asks which of them are what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil

INIT = 1
"""The first process: who sees its command line sees those of all others (proc(5), hidepid)."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """What anybody may see of a process, where /proc is not mounted with hidepid."""

    pid: int
    parent: int
    name: str
    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """Every process that is seen, by pid. `hides`: the kernel shows this caller some processes only."""

    rows: Mapping[int, ProcessRow]
    hides: bool = False

    def __iter__(self) -> Iterator[ProcessRow]:
        return iter(self.rows.values())

    def __len__(self) -> int:
        return len(self.rows)


def read_table() -> ProcessTable:
    """Return all processes. Reads /proc, some tens of milliseconds on a busy host."""
    rows, hides = {}, True
    for process in psutil.process_iter(["ppid", "name", "cmdline"]):
        told = process.info
        # None: this one may not be read, or is a zombie.
        rows[process.pid] = ProcessRow(process.pid, told["ppid"] or 0, told["name"] or "", told["cmdline"] or ())
        hides = hides and not (process.pid == INIT and told["cmdline"])
    return ProcessTable(rows, hides)
