"""The real `sleepd run` for a test: its configuration, its host's RAM, its NVML, its process, and what it tells.

It manages the two servers of `fixtures.py` at their unix sockets. NVML is the real pynvml over the stand-in that reads
the servers' ledger; host RAM is a /proc of files, so that a test can make it short.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sleepd.client import ApiProblem, Client, DaemonUnreachable
from tests.fakenvml.build import fool
from tests.integration.ram import write_ram
from tests.integration.waiting import WAIT_LIMIT_S, await_model, wait_until
from tests.realvllm.fixtures import RealPair
from tests.realvllm.server import MIB

AWAKE_BYTES = 3300 * MIB
ASLEEP_BYTES = 300 * MIB
RAM_BYTES = 8192 * MIB
PLENTY_BYTES = 7000 * MIB
SHORT_BYTES = 600 * MIB
CONFIGURATION = """
[daemon]
state_dir = "{root}/state"
poll_every = "200ms"

[api]
socket = "{root}/sleepd.sock"

[gpu]
margin = "200MiB"

[host]
reserve = "256MiB"
proc_root = "{root}/proc"

[model_defaults]
gpus = ["0"]
vram = "3000MiB"
host_ram = "1000MiB"
min_awake = "1s"
"""


class Daemon:
    """One process `sleepd run`, answering on its socket once made."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.client = Client(root / "sleepd.sock", timeout_s=WAIT_LIMIT_S)
        with (root / "sleepd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sleepd.cli.daemon", "run", "--config", str(root / "etc")],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._is_answering, "the daemon to answer")
        except AssertionError:
            self.end(signal.SIGKILL)
            raise

    def told(self, kind: str, model: str | None = None, **data: Any) -> list[dict[str, Any]]:
        """Every event on record of this kind, of this model (None: any), with these data, in their order."""
        return [
            event
            for event in self.client.events(follow=False)
            if event["kind"] == kind
            and model in (None, event["model"])
            and all(event["data"].get(key) == value for key, value in data.items())
        ]

    def await_told(self, kind: str, model: str | None = None, **data: Any) -> dict[str, Any]:
        """Return the first such event, once it is told."""
        return wait_until(lambda: self.told(kind, model, **data), f"event {kind} {model or ''} {data}")[0]

    def _is_answering(self) -> bool:
        assert self._process.poll() is None, f"sleepd ended with status {self._process.returncode}"
        try:
            return bool(self.client.status())
        except DaemonUnreachable:
            return False

    def model(self, name: str) -> dict[str, Any]:
        return self.client.model(name).body

    def await_model(self, name: str, limit_s: float = WAIT_LIMIT_S, **wanted: Any) -> dict[str, Any]:
        """Return the model as the API shows it, once all these fields are so."""
        return await_model(self.client, name, limit_s, **wanted)

    def wake(self, name: str, timeout_s: float = WAIT_LIMIT_S) -> dict[str, Any]:
        """The model is awake: what the API answered."""
        return self.client.wake(name, timeout_s=timeout_s).body

    def sleep(self, name: str, level: int = 1) -> dict[str, Any]:
        """The model is asleep at this level or deeper: what the API answered."""
        return self.client.sleep(name, level=level, timeout_s=WAIT_LIMIT_S).body

    def refuse(self, verb: str, name: str) -> ApiProblem:
        """The refusal of a wish that must not be granted."""
        try:
            answer = getattr(self, verb)(name)
        except ApiProblem as problem:
            return problem
        raise AssertionError(f"{verb} {name} was granted: {answer}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status, the process ended by this signal or within 5 s by SIGKILL."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class DaemonFolder:
    """Where one test's daemons have their configuration, sockets and log; `close` ends them all and leaves no file."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sleepd-", dir="/tmp"))  # short, for the sockets' sake
        self._environ = environ
        self._daemons: list[Daemon] = []
        (self.root / "etc").mkdir()

    def begin(self, models: Iterable[str]) -> Daemon:
        """A daemon that has looked at every model of its configuration, which has these."""
        daemon = Daemon(self.root, self._environ)
        self._daemons.append(daemon)
        for model in models:
            wait_until(lambda name=model: daemon.model(name)["state"] != "unknown", f"{model} to be seen")
        return daemon

    def read_log(self) -> str:
        """What the daemons logged."""
        log = self.root / "sleepd.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.end()
        shutil.rmtree(self.root)


class DaemonHost(DaemonFolder):
    """The machine as one test's daemon finds it."""

    def __init__(self, pair: RealPair, nvml: Path) -> None:
        self.pair = pair
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLEEPD_")}
        super().__init__(kept | fool(pair.ledger.directory, nvml))
        self.set_available_ram(PLENTY_BYTES)

    def set_available_ram(self, available_bytes: int) -> None:
        """What /proc/meminfo says from now on, of 8 GiB."""
        write_ram(self.root / "proc", available_bytes, RAM_BYTES)

    def configure(self, *rules: str, **keys: Mapping[str, Any]) -> None:
        """Write the configuration: both models, these rules, and for a server by its name further keys."""
        lines = [CONFIGURATION.format(root=self.root)]
        for server in self.pair.servers:
            more = keys.get(server.name.replace("-", "_"), {})
            lines += [f"[models.{server.name}]", f'url = "{server.url}"']
            lines += [f"{key} = {value}" for key, value in more.items()]
        (self.root / "etc" / "sleepd.toml").write_text("\n".join([*lines, *rules, ""]))

    def start(self) -> Daemon:
        """A daemon that has looked at every model."""
        return self.begin(server.name for server in self.pair.servers)
