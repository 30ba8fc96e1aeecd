"""A real vLLM as an instance of vllm@.service: sleeps, wakes through the gateway, is started anew when its engine died.

The unit is the shipped one but for its program, the kit's (docs/real-vllm.md), which lies where only root may look.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sleepd.sim.ledger import Ledger
from tests.integration.waiting import wait_until
from tests.package.readme_start import start_blocks, troubles
from tests.realvllm.server import MIB, Footprint, RealServer, find_install
from tests.system.inside import LEDGER, PROC, System, run, show, systemctl

pytestmark = pytest.mark.vllm

NAME = "tiny-1"
UNIT = f"vllm@{NAME}.service"
START_LIMIT_S = 180.0
GIB = 1 << 30
DIST = Path(__file__).parents[2] / "dist"
OWN = ("PYTHONPATH", "HF_", "TRANSFORMERS_", "VLLM_", "OMP_", "TORCHDYNAMO_", "SLEEPD_")
GATEWAY = "http://127.0.0.1:8800/v1/chat/completions"
BODY = f'{{"model": "{NAME}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 8, "temperature": 0}}'


@contextmanager
def placed(system: System, name: str) -> Iterator[RealServer]:
    """The unit of this name runs a real server of the kit, once it is started; its settings stay as they are."""
    server, unit = RealServer(name, Path("/run/vllm"), Ledger(LEDGER), model=NAME), f"vllm@{name}.service"
    environ = {key: value for key, value in server.environment().items() if key.startswith(OWN)}
    lines = [f"Environment={key}={value}" for key, value in environ.items()]
    lines += ["ExecStart=", f"ExecStart={' '.join(server.command(find_install()))}"]
    lines += ["User=root", "Group=sleepd", "ProtectHome=no", "PrivateTmp=no", "TimeoutStopSec=15s"]
    drop_in = system.drop_in(unit, "zz-real", "\n".join(["[Service]", *lines, ""]))
    systemctl("daemon-reload")
    try:
        yield server
    finally:
        systemctl("stop", unit)
        drop_in.unlink()
        systemctl("daemon-reload")


@pytest.fixture
def real(system: System) -> Iterator[RealServer]:
    """The server, answering; its unit's environment file is there, as an administrator would have written it."""
    Path(f"/etc/vllm/{NAME}.env").write_text("")
    with placed(system, NAME) as server:
        systemctl("start", UNIT)
        wait_until(server.is_healthy, "the server to answer", START_LIMIT_S)
        yield server


def ask_gateway() -> str:
    """The answer through the gateway, however long it waits for the model."""
    done = run("curl", "-s", "-m", "290", "-H", "content-type: application/json", "-d", BODY, GATEWAY, limit_s=300.0)
    return done.stdout.partition('"content":"')[2].partition('"')[0]


def held_bytes() -> int:
    return Ledger(LEDGER).read()[0].used_bytes


def test_a_real_server_sleeps_wakes_through_the_gateway_and_outlives_its_engine(
    system: System, real: RealServer
) -> None:
    sizes = {"vram": '"3000MiB"', "host_ram": '"1000MiB"', "max_wait": '"280s"'}
    system.configure(NAME, extra='[recovery]\nstuck_after = "5s"', **{NAME: sizes})
    systemctl("start", "sleepd-gateway.socket")
    system.start_daemon()
    system.await_model(NAME, state="awake")
    right = ask_gateway()
    assert right
    assert held_bytes() == Footprint().awake_bytes
    assert run("stat", "-c", "%U:%G %a", f"/run/vllm/{NAME}.sock").stdout.strip() == "root:sleepd 770"

    assert system.client.sleep(NAME, drain_s=60).body["model"]["level"] == 1
    assert held_bytes() == 300 * MIB
    assert real.is_sleeping()
    assert ask_gateway() == right, "held while it woke, and answered"
    assert held_bytes() == Footprint().awake_bytes

    before = show(UNIT, "InvocationID")
    engine = max(Ledger(LEDGER).read()[0].used_by_pid)
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: show(UNIT, "InvocationID") != before, "it to be started anew", START_LIMIT_S)
    wait_until(lambda: system.model(NAME)["state"] == "awake", "the new one to be looked at", START_LIMIT_S)
    assert ask_gateway() == right
    assert system.model(NAME)["failure"] is None

    # A zombie: its wake never comes back, /health goes on answering, and nothing but a restart helps.
    assert system.client.sleep(NAME, drain_s=60).body["model"]["level"] == 1
    before = show(UNIT, "InvocationID")
    real.fault("hang wake_up")
    assert ask_gateway() == right, "held until the new process answered"
    assert not real.fault_is_waiting
    assert show(UNIT, "InvocationID") != before
    assert held_bytes() == Footprint().awake_bytes, "the old engine holds nothing"


def test_readmes_start_with_real_servers(system: System) -> None:
    system.set_ram(200 * GIB)
    Path("/etc/sleepd/sleepd.toml").write_text(f'[host]\nproc_root = "{PROC}"\n')
    driver = f"export LD_LIBRARY_PATH=/opt/nvml SLEEPD_FAKE_NVML={LEDGER} DEBIAN_FRONTEND=noninteractive"

    def type_in(block: str) -> str:
        script = f"{driver}; cd {DIST}\n{block}"
        return run("bash", "-euo", "pipefail", "-c", script, limit_s=2 * START_LIMIT_S).stdout

    install, servers, first_look, sleep, ask = start_blocks()
    with placed(system, "qwen3-8b") as one, placed(system, "gemma-3") as other:
        type_in(install)
        type_in(servers)
        told = type_in(first_look)
        assert "qwen3-8b: vLLM 0.32.0, awake, vllm@qwen3-8b.service" in told
        assert "gemma-3: vLLM 0.32.0, awake, vllm@gemma-3.service" in told
        wait_until(lambda: system.ask("GET", "/readyz").status == 200, "every model to be looked at", START_LIMIT_S)
        shown = type_in(sleep)
        assert "asleep L1" in shown
        assert troubles(shown) == []
        assert (one.is_sleeping(), other.is_sleeping()) == (True, False)
        assert json.loads(type_in(ask))["choices"][0]["message"]["content"]
        assert not one.is_sleeping()
        assert troubles(type_in("sleepctl doctor")) == [], "clean in the end"
