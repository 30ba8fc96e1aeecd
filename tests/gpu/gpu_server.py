"""Real vLLM servers on a real GPU, and what NVIDIA's driver says that they hold.

Wanted: an NVIDIA GPU, and a vLLM with sleep mode: the program `vllm` on the PATH, or where $SLEEPD_GPU_VLLM says.
docs/real-vllm.md lists the variables.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pynvml

from tests.realvllm.vllm_server import ServerFailed, VllmServer

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ("1", "2")
MIB, GIB = 1 << 20, 1 << 30
UTILIZATION = 0.55
"""Of the GPU for each server: one awake beside one asleep, not two awake."""
MAKING_LIMIT_S = 600


@dataclass(frozen=True)
class Gpu:
    """The GPU under test, asked through NVML by index."""

    index: int

    @classmethod
    def find(cls) -> Gpu:
        """Raises ServerFailed when there is none."""
        index = int(os.environ.get("SLEEPD_GPU_INDEX", "0"))
        try:
            pynvml.nvmlInit()
            pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            raise ServerFailed(f"wanted an NVIDIA GPU with index {index}, found none: {error}") from None
        return cls(index)

    @property
    def uuid(self) -> str:
        return str(pynvml.nvmlDeviceGetUUID(self._handle))

    @property
    def total_bytes(self) -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    def free_bytes(self) -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).free)

    def used_by_pid(self) -> dict[int, int]:
        """What each process holds. One whose bytes the driver does not tell fails the test that asked."""
        listed = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return {process.pid: int(process.usedGpuMemory) for process in listed}

    @property
    def _handle(self) -> object:
        return pynvml.nvmlDeviceGetHandleByIndex(self.index)


@dataclass(frozen=True)
class Vllm:
    """An installed vLLM and the models made for it."""

    program: Path
    models: Path

    @classmethod
    def find(cls, gpu: Gpu) -> Vllm:
        """Both models made, if they were not there. Raises ServerFailed when there is no vLLM."""
        named = os.environ.get("SLEEPD_GPU_VLLM") or shutil.which("vllm")
        if not named or not Path(named).is_file():
            raise ServerFailed(
                f"wanted the program vllm on the PATH or in SLEEPD_GPU_VLLM, found {named or 'neither'}: install vLLM "
                "(docs.vllm.ai), then SLEEPD_GPU_VLLM=/path/to/venv/bin/vllm make test-gpu"
            )
        models = Path(os.environ.get("SLEEPD_GPU_MODELS", ROOT / ".cache" / "gpu-models"))
        gib = os.environ.get("SLEEPD_GPU_GIB") or f"{gpu.total_bytes / 6 / GIB:.1f}"
        found = cls(Path(named), models / f"{gib}GiB")
        found.run_python("-m", "tests.gpu.random_model", str(found.models), gib, *SEEDS)
        return found

    @property
    def python(self) -> str:
        """The interpreter that vLLM is installed in, by the program's first line."""
        return self.program.read_text().splitlines()[0].removeprefix("#!").strip()

    def run_python(self, *words: str) -> str:
        """What the words printed, run in vLLM's Python. Raises ServerFailed when that failed."""
        done = subprocess.run(
            [self.python, *words],
            env=clean_environment() | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=MAKING_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"{' '.join(words)} ended with status {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout


def clean_environment() -> dict[str, str]:
    """This process's variables without those that could confuse a server."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("VLLM_", "SLEEPD_", "PYTHON"))}


class GpuServer(VllmServer):
    """A random model of `vllm.models` on a GPU that it shares."""

    def __init__(self, seed: str, directory: Path, gpu: Gpu, vllm: Vllm) -> None:
        super().__init__(f"random-{seed}", directory)
        self.gpu = gpu
        self._vllm = vllm

    def words(self) -> list[str]:
        return [
            *(str(self._vllm.program), "serve", str(self._vllm.models / self.name), *self.listener.options),
            *("--served-model-name", self.name, "--max-model-len", "4096", "--max-num-seqs", "32"),
            *("--gpu-memory-utilization", str(UTILIZATION), "--enable-sleep-mode"),
            *shlex.split(os.environ.get("SLEEPD_GPU_ARGS", "--enforce-eager")),
        ]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {
            "CUDA_VISIBLE_DEVICES": self.gpu.uuid,
            "TMPDIR": str(self.directory / f"{self.name}.tmp"),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_SERVER_DEV_MODE": "1",
        }

    def held_bytes(self) -> Mapping[int, int]:
        return self.own(self.gpu.used_by_pid())


class Job:
    """Somebody else's CUDA process that holds `held_bytes` of the GPU beside its context; a `with` block long."""

    PROGRAM = (
        "import sys, torch; kept = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device='cuda'); "
        "torch.cuda.synchronize(); print('holds', flush=True); sys.stdin.read()"
    )

    def __init__(self, vllm: Vllm, gpu: Gpu, held_bytes: int) -> None:
        self._words = [vllm.python, "-c", self.PROGRAM, str(held_bytes)]
        self._environ = clean_environment() | {"CUDA_VISIBLE_DEVICES": gpu.uuid}

    def __enter__(self) -> Job:
        self._process = subprocess.Popen(
            self._words, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "holds\n", "the CUDA process did not get its memory"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    @property
    def pid(self) -> int:
        return self._process.pid


def main() -> int:
    """Say what the tests will run on, the models made; or what is missing."""
    try:
        gpu = Gpu.find()
        vllm = Vllm.find(gpu)
    except ServerFailed as missing:
        print(missing, file=sys.stderr)
        return 1
    print(f"GPU {gpu.index} ({gpu.uuid}, {gpu.total_bytes / GIB:.0f} GiB), {vllm.program}, models in {vllm.models}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
