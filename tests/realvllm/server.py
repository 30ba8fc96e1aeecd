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
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sleepd.sim.ledger import Ledger, is_running
from tests.realvllm.wire import Answer, Listener, ask

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = Path(__file__).resolve().parent / "plugin"
MIB = 1024 * 1024
START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0


class ServerFailed(Exception):
    """The server did not do what was asked; the text ends with the last lines of its log."""


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


class RealServer:
    """One `vllm serve` of a tiny model, in a process group of its own.

    It listens on the unix socket `directory/NAME.sock`, or on 127.0.0.1 when a port is given. Its log is
    `directory/NAME.log`. `sleep_s` and `wake_s` are how long a full sleep and wake take.
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
        self.name = name
        self.directory = directory
        self.ledger = ledger
        self.gpu = gpu
        self.footprint = footprint or Footprint()
        self.listener = Listener(port=port) if port else Listener(socket=directory / f"{name}.sock")
        self.log = directory / f"{name}.log"
        self._model = model or name
        self._fault = directory / f"{name}.fault"
        self._sleep_s = sleep_s
        self._wake_s = wake_s
        self._start_gate = start_gate
        self._sleep_mode = sleep_mode
        self._dev_mode = dev_mode
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As `[models.X] url` in sleepd's configuration takes it."""
        return self.listener.url

    @property
    def pid(self) -> int:
        """The API server's process: what a unit's MainPID would be."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_started(self) -> bool:
        """Whether the API server's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """The processes are on their way; wait_healthy says when they answer. What an earlier run left is removed."""
        self.stop()
        install = find_install()
        (self.directory / f"{self.name}.tmp").mkdir(parents=True, exist_ok=True)
        if self.listener.socket:
            self.listener.socket.unlink(missing_ok=True)  # vLLM leaves it behind and refuses to start on it
        self._fault.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(install),
                env=self.environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_healthy(self, limit_s: float = START_LIMIT_S) -> None:
        """/health answers 200. Raises ServerFailed when the server ended, or after `limit_s`."""
        assert self._process is not None, f"{self.name} was never started"
        deadline = time.monotonic() + limit_s
        while not self.is_healthy():
            if (status := self._process.poll()) is not None:
                raise ServerFailed(f"{self.name} ended with status {status} while starting\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} was not healthy after {limit_s:.0f} s\n{self._log_end()}")
            time.sleep(0.1)

    def is_healthy(self) -> bool:
        """Whether /health answers 200 now; False also when nobody listens."""
        try:
            return self.request("GET", "/health", timeout_s=5).status == 200
        except OSError:
            return False

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """No process of this server is left: SIGTERM, and after `limit_s` SIGKILL to the whole group."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(limit_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._end_group()
        self._process = None

    def kill_engine(self) -> None:
        """SIGKILL to EngineCore, which holds the GPU's memory. vLLM's API server notices and ends by itself."""
        os.kill(self.engine_pid, signal.SIGKILL)

    def kill_api_server(self) -> None:
        """SIGKILL to the API server. EngineCore lives on, holding the GPU's memory, until stop() is called."""
        os.kill(self.pid, signal.SIGKILL)

    def wait_ended(self, limit_s: float = STOP_LIMIT_S) -> int:
        """The API server has ended; its exit status. Raises ServerFailed after `limit_s`."""
        assert self._process is not None, f"{self.name} was never started"
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{self.name} was still running after {limit_s:.0f} s\n{self._log_end()}") from None

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

    @property
    def engine_pid(self) -> int:
        """EngineCore's process, as the ledger (and so NVML) lists it. Raises ServerFailed when it is gone."""
        assert self._process is not None, f"{self.name} was never started"
        held = self._held_bytes()
        if not held:
            raise ServerFailed(f"no process of {self.name} holds memory on GPU {self.gpu}\n{self._log_end()}")
        return next(iter(held))

    def used_bytes(self) -> int:
        """What this server's processes hold on its GPU now."""
        return sum(self._held_bytes().values())

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float = 60.0) -> Answer:
        """One request on a connection of its own. Raises OSError when nobody answers within `timeout_s`."""
        return ask(self.listener, method, path, body, timeout_s=timeout_s)

    def chat(self, prompt: str, *, max_tokens: int = 8, pace_ms: float = 0, timeout_s: float = 60.0) -> str:
        """The greedy answer. Raises ServerFailed for any status but 200."""
        answer = self.request(
            "POST",
            "/v1/chat/completions",
            {
                "model": self.name,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": max_tokens,
                "temperature": 0,
                "vllm_xargs": {"pace_ms": pace_ms},
            },
            timeout_s=timeout_s,
        )
        if answer.status != 200:
            raise ServerFailed(f"{self.name} answered {answer.status}: {answer.body}")
        return str(answer.body["choices"][0]["message"]["content"])

    def count_calls(self, path: str) -> int:
        """How often this path was called with success since the server started, by its own metrics."""
        page = str(self.request("GET", "/metrics").body).splitlines()
        counted = [line for line in page if line.startswith("http_requests_total{") and f'handler="{path}"' in line]
        return sum(round(float(line.split()[-1])) for line in counted if 'status="2xx"' in line)

    def read_log(self) -> str:
        """All that the server wrote, over every start."""
        return self.log.read_text(errors="replace")

    def is_sleeping(self) -> bool:
        return bool(self.request("GET", "/is_sleeping").body["is_sleeping"])

    def _held_bytes(self) -> dict[int, int]:
        used_by_pid = next(use.used_by_pid for use in self.ledger.read() if use.index == self.gpu)
        return {pid: held for pid, held in used_by_pid.items() if _process_group(pid) == self.pid}

    def command(self, install: Path) -> list[str]:
        """What start() runs."""
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
        footprint = self.footprint
        return kept | {
            "PYTHONPATH": f"{PLUGIN}:{ROOT}",
            "TMPDIR": str(self.directory / f"{self.name}.tmp"),  # where vLLM leaves its litter
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

    def _end_group(self) -> None:
        deadline = time.monotonic() + STOP_LIMIT_S
        while members := [pid for pid in psutil.pids() if _process_group(pid) == self.pid and is_running(pid)]:
            for pid in members:
                _kill(pid)
            if time.monotonic() > deadline:
                raise ServerFailed(f"processes {members} of {self.name} outlived SIGKILL for {STOP_LIMIT_S:.0f} s")
            time.sleep(0.02)

    def _log_end(self) -> str:
        return f"the end of {self.log}:\n{self.read_log()[-4000:]}"


def _process_group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
