"""The worker's memory, block by block: what cuMem maps, what is backed up, and what a failure leaves behind.

Each operation is a generator that yields the seconds its next block takes and raises WorkerFailure where vLLM's worker
would. It changes the world between yields, so neighbours on the GPU see half-done work, as they do on a real one.
Source: vLLM device_allocator/cumem.py, csrc/cumem_allocator.cpp and v1/worker/gpu_worker.py, 0.8.5 to 0.33.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_faults import FaultQueue
from sleepd.sim.vllm_types import GIB, EngineSpec, GpuMemory, HostRam, HostRamExhausted, OutOfMemory, WorkerFailure

WEIGHTS, KV_CACHE = "weights", "kv_cache"
OUT_OF_MEMORY = "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:163"
DOUBLE_MAP = "CUDA Error: invalid argument at /workspace/csrc/cumem_allocator.cpp:122"
ILLEGAL_ACCESS = "CUDA error: an illegal memory access was encountered"

Steps = Generator[float, None, None]


@dataclass(slots=True)
class Block:
    """One allocation of a pool. `mapped` has physical memory behind it, `backed_up` a copy in pinned host RAM."""

    tag: str
    bytes_: int
    mapped: bool = True
    backed_up: bool = False


class Worker:
    """One rank's memory; ranks of a tensor-parallel engine move together, so one stands for all."""

    def __init__(self, spec: EngineSpec, dialect: Dialect, gpu: GpuMemory, host: HostRam, faults: FaultQueue) -> None:
        self._spec, self._dialect, self._gpu, self._host, self._faults = spec, dialect, gpu, host, faults
        self._blocks: list[Block] = []
        self._fixed_bytes = spec.residual_bytes  # context, graphs, NCCL: never in a pool
        if spec.sleep_mode:
            self._blocks = _split(WEIGHTS, spec.weights_bytes, spec.blocks) + _split(
                KV_CACHE, spec.kv_bytes, spec.blocks
            )
        else:
            self._fixed_bytes += spec.weights_bytes + spec.kv_bytes
        self._leaked_bytes = 0
        self._pinned_bytes = 0
        self._weights_loaded = True
        self._weights_skewed = False  # a reload brought back other bits that answer alike
        self._weights_broken = False  # a reload stopped half-way
        self._buffers_right = True
        self._buffers_saved = False
        self._sticky: str | None = None  # a CUDA context does not survive an illegal access
        self.weights_id = spec.weights_id or spec.name
        self.adapters = {name: f"/adapters/{name}" for name in spec.adapters}
        """Where each LoRA adapter was loaded from."""
        self.lost_adapters: set[str] = set()
        self._editions: Counter[str] = Counter()
        self._pool_is_empty = False  # what it holds was never put into a pool: a sleep frees nothing
        self.desynced = False  # a reply nobody read is still in the queue; the next step reads it
        self._claim()

    # what can be seen

    @property
    def held_bytes(self) -> int:
        """What this engine holds on each of its GPUs."""
        return self._fixed_bytes + self._leaked_bytes + sum(b.bytes_ for b in self._blocks if b.mapped)

    @property
    def pinned_bytes(self) -> int:
        """Host RAM pinned so far; PyTorch keeps it until the process ends."""
        return self._pinned_bytes

    @property
    def answers_right(self) -> bool:
        """The tensors hold what the checkpoint says."""
        return self._weights_loaded and self._buffers_right

    def answers_from(self, adapter: str) -> str:
        """What the answers of this adapter derive from; the base model's where there is none, or where it was lost."""
        if adapter not in self.adapters or adapter in self.lost_adapters:
            return self.weights_id
        return f"{self.weights_id}/{self.adapters[adapter]}#{self._editions[adapter]}"

    @property
    def computes(self) -> bool:
        """A forward pass survives: everything is mapped, and nothing poisoned the process."""
        healthy = self._sticky is None and not self._weights_broken and not self.desynced
        return healthy and all(b.mapped for b in self._blocks)

    def mapped_blocks(self) -> dict[str, tuple[int, int]]:
        """pool -> (mapped blocks, all blocks)."""
        pools = {tag: [b for b in self._blocks if b.tag == tag] for tag in (WEIGHTS, KV_CACHE)}
        return {tag: (sum(b.mapped for b in blocks), len(blocks)) for tag, blocks in pools.items()}

    # what can be done

    def load_adapter(self, name: str, root: str) -> None:
        self.adapters[name] = root
        self._editions[name] += 1
        self.lost_adapters.discard(name)

    def unload_adapter(self, name: str) -> None:
        del self.adapters[name]
        self.lost_adapters.discard(name)

    def sleep(self, level: int) -> Steps:
        """The pools are unmapped; level 1 backs the weights up, level 2 saves only the buffers, anything else nothing.
        A failure keeps the blocks it had reached unmapped. Raises WorkerFailure."""
        self._check_sticky()
        fault = self._faults.take("fail_sleep")
        if self._faults.take("free_nothing"):
            # As with expandable segments, whose memory is in no pool (vLLM #11743): a wake finds nothing to map either.
            self._pool_is_empty = True
            yield self._spec.timing.sleep_s or 0.0
            return
        free_before = self._gpu.free_bytes()
        if level == 2 and self._blocks:
            if not self._all_mapped(WEIGHTS):
                self._poison()  # saving the buffers reads unmapped memory
            self._buffers_saved = True
        first_pinning = level == 1 and self._pinned_bytes == 0
        for n, block in enumerate(self._blocks):
            if fault and n >= fault.blocks:
                raise WorkerFailure("CUDA error: injected fault in sleep")
            if not block.mapped:
                if self._dialect.reentrant_blocks:
                    continue
                raise WorkerFailure(DOUBLE_MAP)
            yield self._unmap_s(block, level, first_pinning)
            self._back_up(block, level)
            block.mapped = False
            self._claim()
        if fault:
            raise WorkerFailure("CUDA error: injected fault in sleep")
        if not self._spec.sleep_mode:
            return
        if level != 1:
            scales_kept = self._dialect.keeps_kv_scales or not self._spec.kv_cache_dtype.startswith("fp8")
            self._buffers_right = self._buffers_right and level == 2 and scales_kept
            self.lost_adapters |= set() if self._dialect.keeps_adapters else set(self.adapters)
        self._fixed_bytes += self._spec.residual_growth_bytes
        free_after = self._gpu.free_bytes()
        if free_before is not None and free_after is not None and free_after < free_before:
            raise WorkerFailure("Memory usage increased after sleeping.")

    def wake_up(self, tags: tuple[str, ...] | None) -> Steps:
        """The blocks of `tags` (None: all) are mapped and restored. A failure keeps what it mapped: there is no
        rollback in any release. Before 0.28 a block mapped earlier fails the call for ever, and leaks. Raises
        WorkerFailure."""
        self._check_sticky()
        fault = self._faults.take("fail_wake")
        mapped = 0
        for block in self._blocks:
            if tags is not None and block.tag not in tags:
                continue
            if block.mapped and (self._dialect.reentrant_blocks or self._pool_is_empty):
                continue
            if fault and mapped >= fault.blocks:
                raise WorkerFailure(OUT_OF_MEMORY)
            yield self._map_s(block)
            self._map(block)
            mapped += 1
        if fault:
            raise WorkerFailure(OUT_OF_MEMORY)
        self._pool_is_empty = False
        self._restore_buffers(tags)
        if mapped and self._faults.take("corrupt_wake"):
            self._weights_loaded = False
        if mapped and self._faults.take("lose_adapters"):
            self.lost_adapters |= set(self.adapters)

    def checksums(self) -> Generator[float, None, dict[str, str]]:
        """What `/weight_checker` says of the parameters (no buffers): by rank and name, SHA-256 of what they hold.
        Reading weights that sleep is an illegal access. Raises WorkerFailure."""
        self._check_sticky()
        if not self._all_mapped(WEIGHTS):
            self._poison()
        timing = self._spec.timing  # all weights are gone through, as in a reload
        yield timing.reload_s if timing.reload_s is not None else self._spec.weights_bytes / GIB / timing.hash_gib_s
        held = f"{self.weights_id} {self._weights_loaded} {self._weights_skewed}"
        ranks = range(self._spec.tensor_parallel_size)
        names = ("model.embed_tokens.weight", "lm_head.weight")
        return {f"dp0:pp0:pcp0:tp{n}:{name}": _sha256(f"{held} {n} {name}") for n in ranks for name in names}

    def zero_weights(self) -> Steps:
        """Every parameter is zero (`/weight_checker`'s reset); writing to weights that sleep is an illegal access."""
        self._check_sticky()
        if not self._all_mapped(WEIGHTS):
            self._poison()
        yield 0.0
        self._weights_loaded = False

    def discard_kv_cache(self) -> Steps:
        """The KV pool is unmapped, the weights stay (`/release_kv_cache_memory`, 0.31+)."""
        self._check_sticky()
        for block in self._blocks:
            if block.tag == KV_CACHE and block.mapped:
                yield block.bytes_ / GIB / self._spec.timing.map_gib_s
                block.mapped = False
                self._claim()

    def reload_weights(self, weights_path: str | None = None) -> Steps:
        """The weights hold the checkpoint again (`weights_path`: another one); lost buffers stay lost. Raises
        WorkerFailure, and leaves weights the next forward pass dies of, when the files cannot be read. While the
        weights sleep it is an illegal access, which no CUDA context survives."""
        self._check_sticky()
        if not self._all_mapped(WEIGHTS):
            self._poison()  # it writes to unmapped addresses
        timing = self._spec.timing
        try:
            self._gpu.claim(self.held_bytes + self._spec.reload_peak_bytes)
        except OutOfMemory as error:
            raise WorkerFailure(OUT_OF_MEMORY) from error
        yield timing.reload_s if timing.reload_s is not None else self._spec.weights_bytes / GIB / timing.reload_gib_s
        self._claim()
        if self._faults.take("fail_reload"):
            self._weights_broken, self._weights_loaded = True, False
            raise WorkerFailure(f"Cannot find any model weights with `{self._spec.model_path or self._spec.name}`")
        # Before 0.16 quantized weights are not processed anew.
        right = self._spec.quantization is None or self._dialect.reload_requantizes
        self._weights_loaded, self._weights_broken = right, False
        self._weights_skewed = self._faults.take("skew_reload") is not None
        # From 0.28 a reload drops the adapters, and their next request loads them again.
        if self._dialect.reentrant_blocks:
            self.lost_adapters.clear()
        self.weights_id = weights_path or self.weights_id

    # how it is done

    def _all_mapped(self, tag: str) -> bool:
        return all(b.mapped for b in self._blocks if b.tag == tag)

    def _check_sticky(self) -> None:
        if self._sticky:
            raise WorkerFailure(self._sticky)

    def _poison(self) -> None:
        self._sticky = ILLEGAL_ACCESS
        raise WorkerFailure(ILLEGAL_ACCESS)

    def _claim(self) -> None:
        self._gpu.claim(self.held_bytes)

    def _back_up(self, block: Block, level: int) -> None:
        if block.tag != WEIGHTS:
            return
        if level != 1:
            self._weights_loaded = False
            block.backed_up = False
            return
        block.backed_up = True
        wanted = int(sum(b.bytes_ for b in self._blocks if b.backed_up) * self._spec.pinned_factor)
        wanted *= self._spec.tensor_parallel_size
        if wanted <= self._pinned_bytes:
            return
        try:
            self._host.pin(wanted)
        except HostRamExhausted as error:
            block.backed_up = False
            raise WorkerFailure(str(error)) from error
        self._pinned_bytes = wanted

    def _map(self, block: Block) -> None:
        # cuMemCreate comes first, so a block mapped twice costs its bytes before cuMemMap refuses the address
        leaks = block.mapped
        if leaks:
            self._leaked_bytes += block.bytes_
        block.mapped = True
        try:
            self._claim()
        except OutOfMemory as error:
            block.mapped = leaks
            self._leaked_bytes -= block.bytes_ if leaks else 0
            raise WorkerFailure(OUT_OF_MEMORY) from error
        if leaks:
            raise WorkerFailure(DOUBLE_MAP)
        block.backed_up = False  # the copy goes back to PyTorch's cache, still pinned

    def _restore_buffers(self, tags: tuple[str, ...] | None) -> None:
        if not self._buffers_saved:
            return
        if self._dialect.restores_buffers_with_weights and tags is not None and WEIGHTS not in tags:
            return
        if not self._all_mapped(WEIGHTS):
            self._poison()
        self._buffers_saved = False

    def _unmap_s(self, block: Block, level: int, first_pinning: bool) -> float:
        timing = self._spec.timing
        factor = timing.first_sleep_factor if first_pinning else 1.0
        if timing.sleep_s is not None:
            return timing.sleep_s * factor / len(self._blocks)
        if level == 1 and block.tag == WEIGHTS:
            return block.bytes_ / GIB / timing.offload_gib_s * factor
        return block.bytes_ / GIB / timing.map_gib_s

    def _map_s(self, block: Block) -> float:
        timing = self._spec.timing
        if timing.wake_s is not None:
            return timing.wake_s / self._spec.blocks if block.tag == WEIGHTS else 0.0
        rate = timing.restore_gib_s if block.backed_up else timing.map_gib_s
        return block.bytes_ / GIB / rate


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _split(tag: str, bytes_: int, count: int) -> list[Block]:
    size, rest = divmod(bytes_, count)
    return [Block(tag, size + (n < rest)) for n in range(count)]
