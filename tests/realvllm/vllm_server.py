"""One `vllm serve` as a process group of its own: started, asked, killed, and ended with nothing left behind.

What it runs, in which environment, and who tells what it holds is said by a subclass: `server.py` (a CPU and a ledger),
`tests/gpu/gpu_server.py` (a GPU and NVML).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from sleepd.sim.ledger import is_running
from tests.realvllm.wire import Answer, Listener, ask

START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0


class ServerFailed(Exception):
    """The server did not do what was asked; the text ends with the last lines of its log."""


class VllmServer(ABC):
    """It listens on the unix socket `directory/NAME.sock`, or on 127.0.0.1 when a port is given, and logs to
    `directory/NAME.log`."""

    def __init__(self, name: str, directory: Path, port: int | None = None) -> None:
        self.name = name
        self.directory = directory
        self.listener = Listener(port=port) if port else Listener(socket=directory / f"{name}.sock")
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def words(self) -> list[str]:
        """The command line that start() runs."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What it runs in."""

    @abstractmethod
    def held_bytes(self) -> Mapping[int, int]:
        """What each of its processes holds of its GPU now, by pid."""

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
        (self.directory / f"{self.name}.tmp").mkdir(parents=True, exist_ok=True)
        if self.listener.socket:
            self.listener.socket.unlink(missing_ok=True)  # vLLM leaves it behind and refuses to start on it
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.words(),
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

    @property
    def engine_pid(self) -> int:
        """EngineCore's process, as NVML lists it. Raises ServerFailed when it is gone."""
        assert self._process is not None, f"{self.name} was never started"
        held = self.held_bytes()
        if not held:
            raise ServerFailed(f"no process of {self.name} holds memory on its GPU\n{self._log_end()}")
        return next(iter(held))

    def used_bytes(self) -> int:
        """What this server's processes hold on its GPU now."""
        return sum(self.held_bytes().values())

    def own(self, used_by_pid: Mapping[int, int]) -> dict[int, int]:
        """Those of a GPU's processes that are this server's."""
        return {pid: held for pid, held in used_by_pid.items() if self._process and _group(pid) == self.pid}

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float = 60.0) -> Answer:
        """One request on a connection of its own. Raises OSError when nobody answers within `timeout_s`."""
        return ask(self.listener, method, path, body, timeout_s=timeout_s)

    def chat(self, prompt: str, *, max_tokens: int = 8, timeout_s: float = 60.0, **more: Any) -> str:
        """The greedy answer. Raises ServerFailed for any status but 200."""
        asked = {"model": self.name, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
        answer = self.request("POST", "/v1/chat/completions", asked | {"temperature": 0} | more, timeout_s=timeout_s)
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
        """Raises ServerFailed where the server does not say."""
        answer = self.request("GET", "/is_sleeping")
        if answer.status != 200:
            raise ServerFailed(f"GET /is_sleeping of {self.name}: {answer.status} {answer.body}")
        return bool(answer.body["is_sleeping"])

    def _end_group(self) -> None:
        deadline = time.monotonic() + STOP_LIMIT_S
        while members := [pid for pid in psutil.pids() if _group(pid) == self.pid and is_running(pid)]:
            for pid in members:
                _kill(pid)
            if time.monotonic() > deadline:
                raise ServerFailed(f"processes {members} of {self.name} outlived SIGKILL for {STOP_LIMIT_S:.0f} s")
            time.sleep(0.02)

    def _log_end(self) -> str:
        return f"the end of {self.log}:\n{self.read_log()[-4000:]}"


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
