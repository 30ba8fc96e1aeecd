"""The machine from within: sleepd as its unit, simulated vLLM servers as instances of vllm@.service, one GPU of paper.

Everything is what `make install` put there. Drop-ins replace only what a machine without a GPU lacks: the server's
program, and the library that answers for NVIDIA's.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sleepd.client import Client
from sleepd.sim.ledger import Ledger, LedgerGpu
from tests.integration.fake_server import FakeServer
from tests.integration.ram import write_ram
from tests.integration.waiting import await_model, wait_until
from tests.integration.wire import Answer, send

GIB = 1 << 30
LIMIT_S = 60.0
SOCKET = Path("/run/sleepd/sleepd.sock")
LEDGER = Path("/srv/gpus")
PROC = Path("/srv/proc")
UNITS = Path("/etc/systemd/system")
AWAKE_BYTES, ASLEEP_BYTES = 32 * GIB, GIB

FAKE_NVML = f"""[Service]
Environment=LD_LIBRARY_PATH=/opt/nvml SLEEPD_FAKE_NVML={LEDGER}
ReadWritePaths={LEDGER}
RestartSec=100ms
"""
FAKE_VLLM = f"""[Service]
ExecStart=
ExecStart=/usr/bin/sleepd fake-vllm --uds /run/vllm/%i.sock --control-uds /run/vllm/%i.ctl --ledger {LEDGER} --gpu 0 \\
  --name %i --version 0.32.0 --weights 16GiB --kv 15GiB --residual 1GiB \\
  --sleep-seconds 0.05 --wake-seconds 0.05 --reload-seconds 0.05 $VLLM_ARGS
RestartSec=300ms
"""


def run(*command: str | Path, check: bool = True, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Return the command when it has ended. Raises AssertionError with its words where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    words = " ".join(map(str, command))
    assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def systemctl(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run("systemctl", *words, check=check)


def show(unit: str, key: str) -> str:
    """One property of a unit, as systemd has it now."""
    return systemctl("show", "--value", f"--property={key}", unit).stdout.strip()


def as_user(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Return what a process of this user, in a unit of its own, had to say."""
    return run("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "-p", f"User={user}", *command, check=False)


def journal(*matches: str, since_s: float) -> list[dict[str, Any]]:
    """Messages since then (seconds since the epoch) that have all these fields."""
    run("journalctl", "--sync")
    said = run("journalctl", "--no-pager", "-o", "json", f"--since=@{since_s:.3f}", *matches).stdout
    return [json.loads(line) for line in said.splitlines()]


class Server(FakeServer):
    """One vllm@NAME.service."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Path(f"/run/vllm/{name}.sock"), Path(f"/run/vllm/{name}.ctl"))
        self.unit = f"vllm@{name}.service"

    @property
    def pid(self) -> int:
        return int(show(self.unit, "MainPID"))

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/health").status == 200
        except OSError:
            return False

    def held_bytes(self) -> int:
        return Ledger(LEDGER).read()[0].used_by_pid.get(self.pid, 0)


class System:
    """The machine with sleepd installed. `reset` makes it a fresh one."""

    def __init__(self) -> None:
        self.client = Client(SOCKET, timeout_s=LIMIT_S)
        self.since_s = time.time()

    def install(self) -> None:
        """What the packages' scripts would do, and the drop-ins for a machine without a GPU."""
        run("systemd-sysusers")
        run("systemd-tmpfiles", "--create")
        self.drop_in("sleepd.service", "fake", FAKE_NVML)
        self.drop_in("vllm@.service", "fake", FAKE_VLLM)
        Path("/etc/vllm").mkdir(exist_ok=True)
        LEDGER.mkdir(exist_ok=True)
        Ledger.create(LEDGER, [LedgerGpu("GPU-0000", 80 * GIB)])
        run("chown", "-R", "vllm:sleepd", LEDGER)
        LEDGER.chmod(0o2777)
        for name in ("gpus", "lock"):
            (LEDGER / name).chmod(0o666)
        systemctl("daemon-reload")

    def drop_in(self, unit: str, name: str, text: str) -> Path:
        path = UNITS / f"{unit}.d" / f"{name}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def reset(self) -> None:
        """Nothing runs, nothing is remembered, nothing is configured."""
        systemctl("stop", "sleepd.service", "sleepd.socket", "sleepd-gateway.socket", "vllm@*.service", check=False)
        systemctl("reset-failed")
        run("rm", "-rf", "/var/lib/sleepd", "/etc/vllm", "/etc/sleepd/conf.d", "/etc/sleepd/secrets", PROC)
        Path("/etc/vllm").mkdir()
        self.set_ram(200 * GIB)
        self.configure()
        self.since_s = time.time()

    def set_ram(self, available_bytes: int) -> None:
        """Let the kernel's files say that this much of 256 GiB is available."""
        write_ram(PROC, available_bytes)

    def configure(self, *models: str, extra: str = "", **model_keys: Mapping[str, str]) -> None:
        """Write the configuration: these models with short times. Values of keys are TOML."""
        lines = [
            *("[daemon]", 'poll_every = "100ms"', "[host]", f'proc_root = "{PROC}"'),
            *("[model_defaults]", 'gpus = ["0"]', 'min_awake = "0s"', 'host_ram = "16GiB"', "fenced = true"),
        ]
        for name in models:
            keys = {"url": f'"unix:/run/vllm/{name}.sock"', "unit": f'"vllm@{name}.service"'}
            keys.update(model_keys.get(name, {}))
            lines += [f"[models.{name}]", *(f"{key} = {value}" for key, value in keys.items())]
        lines += ["[[rules]]", 'name = "nap"', 'when = { idle = "1h" }', "then = { sleep = 1 }", extra, ""]
        Path("/etc/sleepd/sleepd.toml").write_text("\n".join(lines))

    def start_servers(self, *names: str, arguments: str = "") -> list[Server]:
        """Return servers that answer, as units."""
        for name in names:
            Path(f"/etc/vllm/{name}.env").write_text(f"MODEL={name}\nVLLM_ARGS={arguments}\n")
        systemctl("start", *(f"vllm@{name}.service" for name in names))
        servers = [Server(name) for name in names]
        for server in servers:
            wait_until(server.answers, f"{server.unit} to answer", LIMIT_S)
        return servers

    def start_daemon(self) -> None:
        """Return once sleepd is ready and has looked at every model."""
        systemctl("start", "sleepd.service")
        wait_until(lambda: self.ask("GET", "/readyz").status == 200, "every model to be looked at", LIMIT_S)

    def ask(self, method: str, target: str, body: Any = None) -> Answer:
        return send(SOCKET, method, target, body, limit_s=LIMIT_S)

    def model(self, name: str) -> dict[str, Any]:
        return self.client.model(name).body

    def await_model(self, name: str, **wanted: Any) -> dict[str, Any]:
        """Return the model as the API shows it, once all these fields are so."""
        return await_model(self.client, name, LIMIT_S, **wanted)

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """What the test's sleepd wrote, with all these fields."""
        return journal("SYSLOG_IDENTIFIER=sleepd", *matches, since_s=self.since_s)

    def daemon_pid(self) -> int:
        return int(show("sleepd.service", "MainPID"))

    def await_status(self, *words: str) -> str:
        """Return the STATUS text, once all these words stand in it."""

        def so() -> str | None:
            text = show("sleepd.service", "StatusText")
            return text if all(word in text for word in words) else None

        return wait_until(so, f"the status to say {words}", LIMIT_S) or ""


def is_inside() -> bool:
    """Whether this is a throw-away machine, which tests may do with as they like."""
    return "SLEEPD_MACHINE" in os.environ and Path("/proc/1/comm").read_text().strip() == "systemd"
