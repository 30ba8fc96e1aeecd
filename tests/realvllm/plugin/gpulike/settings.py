"""What the environment says about the make-believe GPU and this server's share of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    ledger: Path  # SLEEPD_LEDGER: the directory, see sleepd/sim/ledger.py
    gpu: int  # SLEEPD_LEDGER_GPU: index of the GPU there
    context_bytes: int  # SLEEPD_CONTEXT_BYTES: what stays while asleep (CUDA context, graphs)
    weights_bytes: int  # SLEEPD_WEIGHTS_BYTES
    weights_blocks: int  # SLEEPD_WEIGHTS_BLOCKS: in how many pieces the weights are mapped and unmapped
    kv_bytes: int  # SLEEPD_KV_BYTES
    kv_blocks: int  # SLEEPD_KV_BLOCKS
    sleep_s: float  # SLEEPD_SLEEP_S: how long unmapping everything takes, spread over the blocks
    wake_s: float  # SLEEPD_WAKE_S: the same for mapping everything
    fault: Path | None  # SLEEPD_FAULT: a file, see faults.py
    start_gate: Path | None  # SLEEPD_START_GATE: the GPU is first touched once this file exists

    @classmethod
    def read(cls) -> Settings:
        """The environment as it is now. Raises KeyError without SLEEPD_LEDGER, ValueError for what is not a number."""
        known = os.environ.get
        fault, gate = known("SLEEPD_FAULT"), known("SLEEPD_START_GATE")
        return cls(
            ledger=Path(os.environ["SLEEPD_LEDGER"]),
            gpu=int(known("SLEEPD_LEDGER_GPU", "0")),
            context_bytes=int(known("SLEEPD_CONTEXT_BYTES", str(300 * MIB))),
            weights_bytes=int(known("SLEEPD_WEIGHTS_BYTES", str(1000 * MIB))),
            weights_blocks=int(known("SLEEPD_WEIGHTS_BLOCKS", "4")),
            kv_bytes=int(known("SLEEPD_KV_BYTES", str(2000 * MIB))),
            kv_blocks=int(known("SLEEPD_KV_BLOCKS", "4")),
            sleep_s=float(known("SLEEPD_SLEEP_S", "0")),
            wake_s=float(known("SLEEPD_WAKE_S", "0")),
            fault=Path(fault) if fault else None,
            start_gate=Path(gate) if gate else None,
        )
