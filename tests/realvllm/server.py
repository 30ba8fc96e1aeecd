"""Real vLLM servers for tests: started, asked, made to fail, and ended with nothing left behind.

    host = Ledger.create(directory / "gpus", [LedgerGpu("GPU-0", 4000 * MIB)])
    server = RealServer("tiny-1", directory, host)
    server.start()
    server.wait_healthy()
    print(server.chat("Hello"))
    server.stop()

Needs what install.py makes: in `.cache/realvllm` of the repository, or where $SLEEPD_REALVLLM says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleepd.sim.ledger import Ledger
from tests.realvllm.vllm_server import ServerFailed, VllmServer

__all__ = ["MIB", "Footprint", "RealServer", "ServerFailed", "find_install"]

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = Path(__file__).resolve().parent / "plugin"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Footprint:
    """What a server takes of the make-believe GPU. The context stays while it sleeps."""

    context_bytes: int = 300 * MIB
    weights_bytes: int = 1000 * MIB
    kv_bytes: int = 2000 * MIB
    weights_blocks: int = 4
    kv_blocks: int = 4

    @property
    def awake_bytes(self) -> int:
        return self.context_bytes + self.weights_bytes + self.kv_bytes


def find_install() -> Path:
    """The directory that install.py filled. Raises ServerFailed when there is none."""
    directory = Path(os.environ.get("SLEEPD_REALVLLM", ROOT / ".cache" / "realvllm"))
    if not (directory / ".ready").is_file():
        raise ServerFailed(
            f"wanted a real vLLM in {directory}, found none: run 'make test-vllm', or "
            f"'python3 {PLUGIN.parent / 'install.py'} {directory}'"
        )
    return directory


class RealServer(VllmServer):
    """A tiny model on the CPU build, whose worker keeps a make-believe GPU's ledger.

    `sleep_s` and `wake_s` are how long a full sleep and wake take.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        ledger: Ledger,
        *,
        model: str | None = None,
        port: int | None = None,
        gpu: int = 0,
        footprint: Footprint | None = None,
        sleep_s: float = 0.0,
        wake_s: float = 0.0,
        start_gate: Path | None = None,
        sleep_mode: bool = True,
        dev_mode: bool = True,
        options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, directory, port)
        self.ledger = ledger
        self.gpu = gpu
        self.footprint = footprint or Footprint()
        self._model = model or name
        self._fault = directory / f"{name}.fault"
        self._sleep_s = sleep_s
        self._wake_s = wake_s
        self._start_gate = start_gate
        self._sleep_mode = sleep_mode
        self._dev_mode = dev_mode
        self._options = options

    def start(self) -> None:
        self._fault.unlink(missing_ok=True)
        super().start()

    def chat(
        self, prompt: str, *, max_tokens: int = 8, pace_ms: float = 0, timeout_s: float = 60.0, **more: Any
    ) -> str:
        """The greedy answer, each of its tokens `pace_ms` later than it would be."""
        paced = {"vllm_xargs": {"pace_ms": pace_ms}}
        return super().chat(prompt, max_tokens=max_tokens, timeout_s=timeout_s, **paced, **more)

    def fault(self, words: str) -> None:
        """The next such call goes wrong, once: see plugin/gpulike/faults.py. Replaces a fault that has not struck."""
        scratch = self._fault.with_suffix(".new")
        scratch.write_text(words)
        scratch.replace(self._fault)

    def clear_fault(self) -> None:
        """No fault is waiting."""
        self._fault.unlink(missing_ok=True)

    @property
    def fault_is_waiting(self) -> bool:
        """Whether the last fault has not struck yet."""
        return self._fault.exists()

    def held_bytes(self) -> Mapping[int, int]:
        return self.own(next(use.used_by_pid for use in self.ledger.read() if use.index == self.gpu))

    def words(self) -> list[str]:
        return self.command(find_install())

    def command(self, install: Path) -> list[str]:
        """What start() runs, with vLLM and models where install.py put them."""
        command = [
            *(str(install / "venv" / "bin" / "vllm"), "serve", str(install / "models" / self._model)),
            *self.listener.options,
            *("--served-model-name", self.name, "--dtype", "float32", "--max-model-len", "4096", "--enforce-eager"),
            *("--kv-cache-memory-bytes", str(64 * MIB), "--max-num-seqs", "8"),
            *("--logits-processors", "gpulike.pace:Pace"),
        ]
        if self._sleep_mode:
            command.append("--enable-sleep-mode")
        return [*command, *self._options]

    def environment(self) -> dict[str, str]:
        """What it runs in: this process's own variables, without those that could confuse it, and the server's."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "SLEEPD_", "PYTHON"))
        }
        litter = self.directory / f"{self.name}.tmp"  # vLLM's
        return kept | {"TMPDIR": str(litter)} | self.variables

    @property
    def variables(self) -> dict[str, str]:
        """What the server itself is told, whatever it runs in."""
        footprint = self.footprint
        return {
            "PYTHONPATH": f"{PLUGIN}:{ROOT}",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_SERVER_DEV_MODE": "1" if self._dev_mode else "0",
            "OMP_NUM_THREADS": "1",
            # The first request for logprobs has the CPU platform compile batched_count_greater_than with g++
            # (vllm/v1/sample/ops/logprobs.py, 0.32.0): half a minute with a compiler, a dead engine without one.
            "TORCHDYNAMO_DISABLE": "1",
            "SLEEPD_LEDGER": str(self.ledger.directory),
            "SLEEPD_LEDGER_GPU": str(self.gpu),
            "SLEEPD_CONTEXT_BYTES": str(footprint.context_bytes),
            "SLEEPD_WEIGHTS_BYTES": str(footprint.weights_bytes),
            "SLEEPD_WEIGHTS_BLOCKS": str(footprint.weights_blocks),
            "SLEEPD_KV_BYTES": str(footprint.kv_bytes),
            "SLEEPD_KV_BLOCKS": str(footprint.kv_blocks),
            "SLEEPD_SLEEP_S": str(self._sleep_s),
            "SLEEPD_WAKE_S": str(self._wake_s),
            "SLEEPD_FAULT": str(self._fault),
            "SLEEPD_START_GATE": str(self._start_gate or ""),
        }
