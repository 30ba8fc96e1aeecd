"""Checksums of all weights, as the server works them out: what a reload must bring back bit for bit (vLLM 0.32+)."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

WEIGHT_CHECKER = "/weight_checker"
CHECKSUM_BODY: dict[str, Any] = {"action": "checksum"}
"""Never `reset`, which zeroes the weights (vllm/entrypoints/rl/online/api_router.py, 0.32)."""


def read_checksums(answer: Any) -> str:
    """One digest over the checksums of every parameter of every rank; empty where the answer holds none."""
    sums = answer.get("checksums") if isinstance(answer, Mapping) else None
    if not isinstance(sums, Mapping) or not sums:
        return ""
    if not all(isinstance(name, str) and isinstance(digest, str) for name, digest in sums.items()):
        return ""
    return hashlib.sha256(json.dumps(sorted(sums.items())).encode()).hexdigest()
