"""vLLM's CPU worker, with memory that is really gone while it sleeps.

- A forward pass, a reload or the saving of buffers on memory that is not mapped is an illegal memory access: vLLM's
  engine dies of it, as on a GPU, and nothing else works in that process any more.
- Level 1 keeps the weights, level 2 replaces them by noise: the model talks nonsense until reload_weights.
- The KV cache is overwritten whenever it was unmapped: who still reads old entries answers wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from vllm.v1.worker.cpu_worker import CPUWorker

from gpulike.blocks import BlockAllocator
from gpulike.faults import Faults
from gpulike.settings import Settings

WEIGHTS = "weights"
KV_CACHE = "kv_cache"
ILLEGAL_ACCESS = "CUDA error: an illegal memory access was encountered"


class GpuLikeWorker(CPUWorker):
    """Follows `vllm/v1/worker/gpu_worker.py` of 0.32.0 in what sleep, wake_up and discard do, and in which order."""

    def init_device(self) -> None:
        self._settings = Settings.read()
        self._faults = Faults(self._settings.fault)
        self._context_is_lost = False
        super().init_device()
        while self._settings.start_gate and not self._settings.start_gate.exists():
            time.sleep(0.05)
        self._memory = BlockAllocator(self._settings, self._faults)

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        self._memory.allocate(WEIGHTS, self._settings.weights_bytes, self._settings.weights_blocks)
        super().load_model(load_dummy_weights=load_dummy_weights)

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        self._memory.allocate(KV_CACHE, self._settings.kv_bytes, self._settings.kv_blocks)
        super().initialize_from_config(kv_cache_config)

    def sleep(self, level: int = 1) -> None:
        self._touch("sleep")
        free_before_bytes = self._memory.free_bytes()
        if level == 2:
            self._touch("saving the buffers", WEIGHTS)  # gpu_worker.sleep: buffer.cpu().clone()
        try:
            self._memory.sleep(offload_tags=(WEIGHTS,) if level == 1 else ())
        finally:
            self._overwrite_lost()
        # A neighbour that took more than was freed makes vLLM give up here, with everything unmapped.
        assert self._memory.free_bytes() >= free_before_bytes, "Memory usage increased after sleeping."

    def wake_up(self, tags: list[str] | None = None) -> None:
        self._touch("wake_up")
        self._memory.wake_up(tags)

    def discard(self, tags: tuple[str, ...]) -> None:
        self._touch("discard")
        try:
            self._memory.discard(tags)
        finally:
            self._overwrite_lost()

    def reload_weights(self, *args: Any, **kwargs: Any) -> None:
        self._touch("reload_weights", WEIGHTS)
        if self._faults.peek("reload_weights"):
            kwargs["weights_iterator"] = self._read_with_faults()
        super().reload_weights(*args, **kwargs)

    def execute_model(self, scheduler_output: Any) -> Any:
        if scheduler_output.total_num_scheduled_tokens:
            self._touch("a forward pass", WEIGHTS, KV_CACHE)
        return super().execute_model(scheduler_output)

    def _touch(self, what: str, *tags: str) -> None:
        """Raises as CUDA does when memory with these tags is not mapped, and always from then on: it is sticky."""
        if self._context_is_lost or not self._memory.is_mapped(*tags):
            self._context_is_lost = True
            raise RuntimeError(f"{ILLEGAL_ACCESS} ({what})")

    def _overwrite_lost(self) -> None:
        if self._memory.has_lost(WEIGHTS):
            noise = torch.Generator().manual_seed(666)
            CPUWorker.reload_weights(
                self,
                weights_iterator=(
                    (name, torch.randn(old.shape, generator=noise)) for name, old in self._read_checkpoint()
                ),
            )
        if self._memory.has_lost(KV_CACHE):
            for cache in self.model_runner.kv_caches:
                cache.fill_(3.0)

    def _read_checkpoint(self) -> Iterator[tuple[str, torch.Tensor]]:
        for path in sorted(Path(self.model_config.model).glob("*.safetensors")):
            with safe_open(path, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a mapping
                    yield name, tensors.get_tensor(name)

    def _read_with_faults(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The checkpoint until the fault: a disk that fails in the middle leaves vLLM's own half-done reload behind."""
        for done, named in enumerate(self._read_checkpoint()):
            self._faults.strike("reload_weights", done, "Input/output error while reading the checkpoint")
            yield named
