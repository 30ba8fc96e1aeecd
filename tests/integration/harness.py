"""A make-believe host on which the real `sleepd run` drives real `sleepd fake-vllm` processes.

Everything is a process of its own on unix sockets below one short directory: GPUs are a ledger that the servers write
and that a stand-in for libnvidia-ml.so.1 reads, host RAM is a /proc of files. Readiness is told, never guessed: a
server prints a line, the daemon sends READY=1.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sleepd.client import Client
from sleepd.sim.dialects import dialect_of
from sleepd.sim.ledger import Ledger, LedgerGpu, LedgerUse
from tests.integration.fake_server import FakeServer
from tests.integration.nursery import Child
from tests.integration.ram import write_ram
from tests.integration.waiting import WAIT_LIMIT_S, Events, await_model, wait_until
from tests.integration.wire import Answer, send

GIB = 1 << 30
GPU_BYTES = 80 * GIB
AWAKE_BYTES = 47 * GIB
"""What one server of these tests holds: 16 GiB of weights, 30 of KV cache, 1 that stays while it sleeps."""
ASLEEP_BYTES = 1 * GIB
START_LIMIT_S = 20.0
SERVER_OPTIONS = (
    *("--weights", "16GiB", "--kv", "30GiB", "--residual", "1GiB"),
    *("--sleep-seconds", "0.05", "--wake-seconds", "0.05", "--reload-seconds", "0.05"),
)
SLEEPD = "sleepd.cli.daemon"


class _Process:
    """A child process whose words go to a log file; it can be killed, ended, and is never left behind."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        log: Path,
        environ: Mapping[str, str],
        *,
        told: bool,
        program: str = SLEEPD,
        executed: bool = False,
    ) -> None:
        self.log = log
        environ = {**os.environ, **environ}
        self.child: Child | subprocess.Popen[bytes]
        if executed:
            with log.open("ab") as sink:
                command = [sys.executable, "-m", program, *arguments]
                self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environ)
        else:
            self.child = Child(program, arguments, log, environ, told=told)

    @property
    def pid(self) -> int:
        return self.child.pid

    def kill(self) -> None:
        """End it as the OOM killer would."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """End it as systemd would, and return its exit status."""
        return self._end(signal.SIGTERM)

    def wait(self, limit_s: float = WAIT_LIMIT_S) -> int:
        """Return the exit status of a process that ends by itself."""
        return self.child.wait(limit_s)

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def _end(self, number: signal.Signals) -> int:
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(WAIT_LIMIT_S)
        finally:
            if self.child.poll() is None:
                self.child.kill()
                self.child.wait()
            if self.child.stdout is not None:
                self.child.stdout.close()


class Server(_Process, FakeServer):
    """One simulated vLLM server, answering when made."""

    def __init__(self, host: Host, name: str, version: str, options: tuple[str, ...], gpus: tuple[int, ...]) -> None:
        FakeServer.__init__(self, name, host.root / f"{name}.sock", host.root / f"{name}.ctl")
        self.version, self._host = version, host
        where = ("--uds", str(self.path), "--control-uds", str(self._control), "--ledger", str(host.ledger.directory))
        ranks = (word for index in gpus for word in ("--gpu", str(index)))
        arguments = ("fake-vllm", *where, *ranks, "--name", name, "--version", version, *options)
        for stale in (self.path, self._control):
            stale.unlink(missing_ok=True)
        _Process.__init__(self, arguments, host.root / f"{name}.log", {}, told=True)

    def await_ready(self) -> None:
        """Return when it has printed that it listens."""
        assert self.child.stdout is not None
        ready, _, _ = select.select([self.child.stdout], [], [], START_LIMIT_S)
        line = self.child.stdout.readline() if ready else b""
        assert line.startswith(b"sleepd fake-vllm:"), f"server {self.name} did not start: {self.words()}"

    def needs_restart(self) -> bool:
        """Whether a call of a release that cannot repeat it failed half-way, which nothing but a restart mends."""
        failed = any("5xx" in self.calls(path) for path in ("/sleep", "/wake_up", "/collective_rpc"))
        return failed and not dialect_of(self.version).reentrant_blocks

    def held_bytes(self, gpu: int = 0) -> int:
        return self._host.gpu(gpu).used_by_pid.get(self.pid, 0)

    def calls(self, path: str) -> dict[str, int]:
        """How often a handler answered, by status class: {"2xx": 1}."""
        marker, counts = f'handler="{path}"', {}
        for line in self.ask("GET", "/metrics").text.splitlines():
            if line.startswith("http_requests_total{") and marker in line:
                counts[line.partition('status="')[2][:3]] = int(float(line.rpartition(" ")[2]))
        return counts


class Daemon(_Process):
    """One real `sleepd run`, or a program that is one but for how it ends."""

    def __init__(self, host: Host, program: str, environ: Mapping[str, str], *, executed: bool = False) -> None:
        self.path = host.socket
        self.client = Client(self.path, timeout_s=WAIT_LIMIT_S)
        self._ear_path = host.root / f"notify{host.next_number()}"
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(self._ear_path))
        self.heard: list[str] = []
        self._events: Events | None = None
        environ = {**host.nvml, "NOTIFY_SOCKET": str(self._ear_path), **environ}
        arguments = ("run", "--config", str(host.etc))
        log = host.root / "sleepd.log"
        super().__init__(arguments, log, environ, told=False, program=program, executed=executed)

    def hear(self, wanted: str, limit_s: float = WAIT_LIMIT_S) -> str:
        """Return the first datagram from now on that has a line beginning with `wanted`."""
        deadline_s = time.monotonic() + limit_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._ear.settimeout(min(left_s, 0.2))
            try:
                message = self._ear.recv(65536).decode()
            except TimeoutError:
                assert self.child.poll() is None, f"sleepd ended with {self.child.returncode}: {self.words()}"
                continue
            self.heard.append(message)
            if any(line.startswith(wanted) for line in message.splitlines()):
                return message
        raise AssertionError(f"never heard {wanted!r}: {self.heard}")

    def forget(self) -> None:
        """Drop what was told so far: the next hear() is about what comes."""
        self.heard.clear()
        self._ear.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._ear.recv(65536)

    def await_ready(self) -> None:
        """Return when it has told that it is ready and every model was looked at."""
        self.hear("READY=1", START_LIMIT_S)
        wait_until(lambda: send(self.path, "GET", "/readyz").status == 200, "every model to be looked at")

    @property
    def events(self) -> Events:
        if self._events is None:
            self._events = Events(self.path)
        return self._events

    def model(self, name: str) -> dict[str, Any]:
        return self.client.model(name).body

    def await_plan(self, name: str) -> dict[str, Any]:
        """Return what a wake would do, once nobody's turn has just begun: it lasts a second at least."""

        def plan() -> dict[str, Any] | None:
            found: dict[str, Any] = self.client.plan_wake(name).body["plan"]
            return None if found["would"] == "wait" else found

        return wait_until(plan, f"a wake of {name} that need not wait")

    def await_model(self, name: str, limit_s: float = WAIT_LIMIT_S, **wanted: Any) -> dict[str, Any]:
        """Return the model as the API shows it, once all these fields are so."""
        return await_model(self.client, name, limit_s, **wanted)

    def watch_use(self, server: Server) -> str:
        """Return a direct request's answer, once the daemon has seen that there was one (at its next poll)."""
        began_s = time.monotonic()
        text = server.complete()
        wait_until(lambda: self.model(server.name)["idle_s"] < time.monotonic() - began_s, "the request to be seen")
        return text

    def ask(self, method: str, target: str, body: Any = None, *, limit_s: float = WAIT_LIMIT_S) -> Answer:
        return send(self.path, method, target, body, limit_s=limit_s)

    def _end(self, number: signal.Signals) -> int:
        try:
            return super()._end(number)
        finally:
            self._ear.close()
            self._ear_path.unlink(missing_ok=True)
            if self._events is not None:
                self._events.join()


class Host:
    """The machine: GPUs, RAM, servers, and the daemon that looks after them. `close` leaves nothing behind."""

    def __init__(self, root: Path, library: Path) -> None:
        self.root, self.etc, self.socket = root, root / "etc", root / "s.sock"
        self.ledger = Ledger.create(root / "gpus", [LedgerGpu("GPU-0000", GPU_BYTES)])
        self.nvml = {"LD_LIBRARY_PATH": str(library.parent), "SLEEPD_FAKE_NVML": str(self.ledger.directory)}
        self.processes: list[_Process] = []
        self._number = 0
        self.etc.mkdir()
        (root / "cgroup").mkdir()
        (root / "cgroup" / "cgroup.controllers").write_text("memory\n")
        self.set_ram(200 * GIB)

    def set_ram(self, available_bytes: int) -> None:
        """Let the kernel's files say that this much of 256 GiB is available."""
        write_ram(self.root / "proc", available_bytes)

    def set_unit(self, unit: str, pid: int, used_bytes: int, limit_bytes: int) -> None:
        """Let the kernel's files say that this unit has one process, and that it may use so much RAM."""
        group = self.root / "cgroup" / "system.slice" / unit
        group.mkdir(parents=True, exist_ok=True)
        files = {
            "cgroup.procs": f"{pid}\n",
            "memory.current": f"{used_bytes}\n",
            "memory.stat": f"anon {used_bytes}\nshmem 0\nactive_file 0\ninactive_file 0\n",
            "memory.high": "max\n",
            "memory.max": f"{limit_bytes}\n",
        }
        for name, text in files.items():
            scratch = group / f".{name}"
            scratch.write_text(text)
            scratch.replace(group / name)

    def refuse_process_lists(self) -> None:
        """From now on NVML does not say who holds how much (NVML_ERROR_NO_PERMISSION), as on WSL."""
        (self.ledger.directory / "nvml_error").write_text("4 nvmlDeviceGetComputeRunningProcesses")

    def gpu(self, index: int = 0) -> LedgerUse:
        return self.ledger.read()[index]

    def set_gpus(self, *gpus: LedgerGpu) -> None:
        """Have these GPUs instead of one; before any server starts."""
        self.ledger = Ledger.create(self.ledger.directory, gpus)

    def configure(self, *models: str, idle: str = "1h", extra: str = "", **model_keys: Mapping[str, Any]) -> None:
        """Write the configuration: these models with short times, a nap rule, and whatever `extra` TOML says."""
        lines = [
            *("[daemon]", f'state_dir = "{self.root}/state"', 'poll_every = "100ms"'),
            *("[api]", f'socket = "{self.socket}"'),
            *("[host]", 'reserve = "8GiB"', f'proc_root = "{self.root}/proc"', f'cgroup_root = "{self.root}/cgroup"'),
            *("[model_defaults]", 'gpus = ["0"]', 'min_awake = "0s"', 'host_ram = "16GiB"'),
        ]
        for name in models:
            keys = {"url": f"unix:{self.root}/{name}.sock", **model_keys.get(name, {})}
            lines += [f"[models.{name}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]
        lines += ["[[rules]]", 'name = "nap"', f'when = {{ idle = "{idle}" }}', "then = { sleep = 1 }"]
        scratch = self.root / "sleepd.toml.new"
        scratch.write_text("\n".join([*lines, extra, ""]))
        scratch.replace(self.etc / "sleepd.toml")

    def start_servers(
        self, *names: str, version: str = "0.32.0", options: tuple[str, ...] = (), gpus: tuple[int, ...] = (0,)
    ) -> list[Server]:
        """Return servers that answer, each a rank on each of these GPUs; they start at the same time."""
        servers = [Server(self, name, version, (*SERVER_OPTIONS, *options), gpus) for name in names]
        self.processes += servers
        for server in servers:
            server.await_ready()
        return servers

    def start_daemon(
        self, *, ready: bool = True, program: str = SLEEPD, executed: bool = False, **environ: str
    ) -> Daemon:
        """Return the daemon, by default once it has looked at every model. `executed`: from nothing, as systemd would,
        rather than from the nursery."""
        daemon = Daemon(self, program, environ, executed=executed)
        self.processes.append(daemon)
        if ready:
            daemon.await_ready()
        return daemon

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def logs(self) -> Iterator[tuple[str, str]]:
        for path in sorted(self.root.glob("*.log")):
            yield path.name, path.read_text(errors="replace")[-20_000:]

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | list) else f'"{value}"'
