"""`sleepctl doctor` as a program: beside a real daemon with real servers, and where no daemon is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sleepd.core.units import GIB
from tests.integration.fake_server import FakeServer
from tests.integration.harness import SERVER_OPTIONS, Daemon, Host

SLEEPCTL = [sys.executable, "-m", "sleepd.cli.ctl"]


def run(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*SLEEPCTL, "--socket", str(host.socket), *words]
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


@contextmanager
def executed_server(host: Host, name: str) -> Iterator[FakeServer]:
    """A server with a command line of its own, by which processes are known; those of `host` are forks. It has a cgroup
    of its own, NAME.service, under a limit of 20 GiB of RAM."""
    path, control = host.root / f"{name}.sock", host.root / f"{name}.ctl"
    where = ("--uds", str(path), "--control-uds", str(control), "--ledger", str(host.ledger.directory), "--gpu", "0")
    command = [sys.executable, "-m", "sleepd.cli.daemon", "fake-vllm", *where, "--name", name, *SERVER_OPTIONS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "speaks vLLM" in process.stdout.readline()
        host.set_unit(f"{name}.service", process.pid, 2 * GIB, 20 * GIB)
        try:
            yield FakeServer(name, path, control)
        finally:
            process.terminate()


def examined(host: Host, *words: str) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    """The exit code, and what was found by check and model."""
    ran = run(host, "doctor", "--json", *words)
    assert ran.stderr == ""
    told = json.loads(ran.stdout)
    return ran.returncode, {(one["check"], one["about"]): one for one in told["findings"]}


def state_of(daemon: Daemon) -> Mapping[str, Any]:
    return next(one for one in daemon.client.doctor().body["findings"] if one["check"] == "daemon.state")


def test_both_pairs_of_eyes_and_a_sleep_that_is_tried(host: Host) -> None:
    host.configure("chat", chat={"cgroup": "system.slice/chat.service"})
    with executed_server(host, "chat") as server:
        daemon = host.start_daemon()
        _, found = examined(host, "--try", "chat")
        # Servers of others may run on this machine: only what is ours decides here.
        assert not [key for key, one in found.items() if one["verdict"] == "fail" and key[1] in ("", "chat")]
        assert found["daemon.answers", ""]["verdict"] == "ok"
        assert found["server.managed", "chat"]["found"] == "it is in the configuration"
        assert found["server.dev-mode", "chat"]["verdict"] == "ok"
        assert found["model.looks", "chat"]["verdict"] == "ok"
        assert found["model.unit", "chat"]["verdict"] == "warn"
        assert found["model.gpus", "chat"]["found"] == "it holds memory on GPU 0"
        assert found["unit.memory", "chat.service"]["found"] == (
            "memory.max is 20GiB; weights and a backup are up to 32GiB"
        )
        assert found["try.sleep", "chat"]["found"] == (
            "46GiB came back of 47GiB that it held, by NVML as the daemon reads it"
        )
        assert found["try.wake", "chat"]["verdict"] == "ok"
        assert daemon.client.model("chat").body["state"] == "awake"

        daemon.client.sleep("chat")
        code, found = examined(host, "--try", "chat")
        assert code == 1
        assert found["try.sleep", "chat"]["found"] == "not tried: it is asleep; wake it first"
        assert server.ask("GET", "/is_sleeping").data == {"is_sleeping": True}

        # A folder that is configured meanwhile is the next run's; this one writes to its own, or to what is left of it.
        (host.etc / "conf.d").mkdir(exist_ok=True)
        (host.etc / "conf.d" / "elsewhere.toml").write_text(f'[daemon]\nstate_dir = "{host.root}/other"\n')
        daemon.client.reload()
        assert state_of(daemon)["verdict"] == "ok"
        shutil.rmtree(host.root / "state")
        assert state_of(daemon)["found"] == f"{host.root}/state: No such file or directory"


def test_without_a_daemon_that_is_said_first_and_the_rest_goes_on(host: Host) -> None:
    with executed_server(host, "chat"):
        ran = run(host, "doctor", "--try", "chat")
    assert ran.returncode == 1
    first, remedy, *rest = ran.stdout.splitlines()
    assert first.startswith("fail  daemon.answers")
    assert "is sleepd running?" in first
    assert "do: systemctl status sleepd" in remedy
    assert any(line.startswith("ok    server.dev-mode") and "chat: " in line for line in rest)
    assert any("not tried: the daemon does not answer" in line for line in rest)
