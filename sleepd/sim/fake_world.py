"""The world a simulated server stands in when it runs for real: the event loop's clock and the shared GPU ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sleepd.sim import ledger
from sleepd.sim.vllm_types import Cancellable, HostRamExhausted, OutOfMemory


class LoopScheduler:
    """Time as the running event loop knows it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> float:
        """Seconds on the loop's monotonic clock."""
        return self._loop.time()

    def call_later(self, delay_s: float, fn: Callable[[], None], /) -> Cancellable:
        """`fn` runs on the loop, `delay_s` seconds from now."""
        return self._loop.call_later(delay_s, fn)


class LedgerMemory:
    """The GPUs of a ledger directory, held by process `pid`."""

    def __init__(self, book: ledger.Ledger, indices: Sequence[int], pid: int) -> None:
        self._book, self._indices, self._pid = book, tuple(indices), pid
        self._held_bytes = 0

    def claim(self, bytes_: int, /) -> None:
        """Every GPU holds `bytes_` for this process, or none changed and OutOfMemory is raised. Waits for the
        ledger's lock, which is held for microseconds."""
        for n, index in enumerate(self._indices):
            try:
                self._book.claim(index, self._pid, bytes_)
            except ledger.OutOfMemory as error:
                for done in self._indices[:n]:
                    self._book.claim(done, self._pid, self._held_bytes)
                raise OutOfMemory(str(error)) from error
        self._held_bytes = bytes_

    def free_bytes(self) -> int | None:
        """Free bytes on the fullest of the GPUs."""
        return min((gpu.free_bytes for gpu in self._book.read() if gpu.index in self._indices), default=None)


class BoundlessMemory:
    """A GPU nobody else uses and nothing overfills, for servers without a ledger."""

    def claim(self, bytes_: int, /) -> None:
        """Always fits."""

    def free_bytes(self) -> int | None:
        """Cannot be told."""
        return None


class BoundedRam:
    """Host RAM with `limit_bytes` to pin; None: as much as is asked for."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes

    def pin(self, bytes_: int, /) -> None:
        """Raises HostRamExhausted above the limit."""
        if self._limit_bytes is not None and bytes_ > self._limit_bytes:
            raise HostRamExhausted("CUDA error: out of memory (pinned host allocation)")


def open_ledger(directory: str, indices: Sequence[int], pid: int) -> LedgerMemory:
    """The ledger in `directory` with these GPUs. Raises ValueError saying which GPU or directory is missing."""
    try:
        book = ledger.Ledger(directory)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    known = [gpu.index for gpu in book.read()]
    missing = [index for index in indices if index not in known]
    if missing:
        raise ValueError(f"wanted GPU {missing[0]}, found {known or 'none'} in {directory}: name one of these")
    return LedgerMemory(book, indices, pid)
