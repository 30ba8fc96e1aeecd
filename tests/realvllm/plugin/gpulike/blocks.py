"""GPU memory as vLLM's sleep mode sees it: blocks that are mapped and unmapped one by one, and can fail in between.

Follows `vllm/device_allocator/cumem.py` of 0.32.0 (the same since 0.28.0): both calls go through the blocks in the
order of their allocation, skip those already in the wanted state, and roll nothing back when one of them fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from gpulike.faults import Faults
from gpulike.settings import Settings
from sleepd.sim.ledger import Ledger, LedgerUse

NO_PINNED_MEMORY = "CUDA error: out of memory (cudaHostAlloc)"
NO_DEVICE_MEMORY = "CUDA Error: out of memory at cumem_allocator.cpp"


@dataclass
class Block:
    tag: str
    size_bytes: int
    is_mapped: bool = False
    has_backup: bool = False


class BlockAllocator:
    """This process's blocks on one GPU of the ledger. The context is taken at once and kept until the process ends."""

    def __init__(self, settings: Settings, faults: Faults) -> None:
        """Raises OutOfMemory when not even the context fits."""
        self._settings = settings
        self._faults = faults
        self._ledger = Ledger(settings.ledger)
        self._blocks: list[Block] = []
        self._claim(0)

    def allocate(self, tag: str, total_bytes: int, count: int) -> None:
        """`count` more blocks of this tag are mapped. Raises OutOfMemory; blocks that did fit stay mapped."""
        for number in range(count):
            block = Block(tag, total_bytes * (number + 1) // count - total_bytes * number // count)
            self._blocks.append(block)
            self._map(block)

    def sleep(self, offload_tags: Collection[str]) -> None:
        """Nothing is mapped; blocks with these tags have a copy on the host, the others are lost."""
        done = 0
        for block in self._blocks:
            if block.is_mapped:
                self._faults.strike("sleep", done, NO_PINNED_MEMORY)
                self._wait(self._settings.sleep_s)
                self._unmap(block, has_backup=block.tag in offload_tags)
                done += 1
        self._faults.strike("sleep", done, NO_PINNED_MEMORY)

    def wake_up(self, tags: Collection[str] | None) -> None:
        """All blocks with these tags (None: all) are mapped. Raises OutOfMemory; blocks that did fit stay mapped."""
        done = 0
        for block in self._blocks:
            if not block.is_mapped and (tags is None or block.tag in tags):
                self._faults.strike("wake_up", done, NO_DEVICE_MEMORY)
                self._wait(self._settings.wake_s)
                self._map(block)
                done += 1
        self._faults.strike("wake_up", done, NO_DEVICE_MEMORY)

    def discard(self, tags: Collection[str]) -> None:
        """Blocks with these tags are unmapped and lost."""
        for block in self._blocks:
            if block.is_mapped and block.tag in tags:
                self._unmap(block, has_backup=False)

    def is_mapped(self, *tags: str) -> bool:
        """Whether every block with one of these tags is mapped."""
        return all(block.is_mapped for block in self._blocks if block.tag in tags)

    def has_lost(self, tag: str) -> bool:
        """Whether a block with this tag is unmapped without a copy."""
        return any(block.tag == tag and not block.is_mapped and not block.has_backup for block in self._blocks)

    def free_bytes(self) -> int:
        """What the whole GPU has left, as cudaMemGetInfo counts it."""
        return self._look().free_bytes

    def _map(self, block: Block) -> None:
        self._claim(block.size_bytes)
        block.is_mapped, block.has_backup = True, False

    def _unmap(self, block: Block, *, has_backup: bool) -> None:
        block.is_mapped, block.has_backup = False, has_backup
        self._claim(0)

    def _claim(self, more_bytes: int) -> None:
        mapped_bytes = sum(block.size_bytes for block in self._blocks if block.is_mapped)
        held_bytes = self._settings.context_bytes + mapped_bytes + more_bytes
        self._ledger.claim(self._settings.gpu, os.getpid(), held_bytes)

    def _look(self) -> LedgerUse:
        return next(use for use in self._ledger.read() if use.index == self._settings.gpu)

    def _wait(self, all_blocks_s: float) -> None:
        if all_blocks_s:
            time.sleep(all_blocks_s / len(self._blocks))
