"""vLLM's CPU platform, with sleep mode allowed, the GPU-like worker, and the process layout of one GPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vllm.platforms.cpu import CpuPlatform

if TYPE_CHECKING:  # vllm.config imports the platform, so the platform cannot import it
    from vllm.config import VllmConfig


class GpuLikePlatform(CpuPlatform):
    def is_sleep_mode_available(self) -> bool:
        return True

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        parallel = vllm_config.parallel_config
        if parallel.worker_cls == "auto":
            parallel.worker_cls = "gpulike.worker.GpuLikeWorker"
        super().check_and_update_config(vllm_config)
        # On one GPU the worker lives in EngineCore, which is then the process that NVML lists. The CPU platform insists
        # on a worker process of its own for the sake of OpenMP's thread binding, which these tests do not need.
        if parallel.world_size == 1:
            parallel.distributed_executor_backend = "uni"
            # Then EngineCore can be forked, which is vLLM's default on a GPU, too, and saves it 8 s of imports.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
