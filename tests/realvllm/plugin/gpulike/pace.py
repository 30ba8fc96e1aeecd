"""A vLLM logits processor that slows requests down: `vllm serve ... --logits-processors gpulike.pace:Pace`.

A request's `"vllm_xargs": {"pace_ms": 30}` makes every engine step that it takes part in last 30 ms longer, so that a
tiny model can have requests long enough to be in flight. It waits, so a slow request costs hardly any CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor


class Pace(AdapterLogitsProcessor):
    def is_argmax_invariant(self) -> bool:
        return False  # vLLM skips argmax-invariant processors at temperature 0

    def new_req_logits_processor(self, params: SamplingParams) -> Callable[..., torch.Tensor] | None:
        pace_ms = float((params.extra_args or {}).get("pace_ms", 0))
        return _Pause(pace_ms) if pace_ms > 0 else None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if self.req_info:  # once a step, not once a request
            time.sleep(max(processor.func.pace_ms for processor in self.req_info.values()) / 1000)
        return logits


class _Pause:
    def __init__(self, pace_ms: float) -> None:
        self.pace_ms = pace_ms

    def __call__(self, output_ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        return logits
