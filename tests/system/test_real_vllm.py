"""A real vLLM as an instance of vllm@.service: sleeps, wakes through the gateway, is started anew when its engine died.

The unit is the shipped one but for its program, the kit's (docs/real-vllm.md), which lies where only root may look.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sleepd.sim.ledger import Ledger
from tests.integration.waiting import wait_until
from tests.realvllm.server import MIB, Footprint, RealServer, find_install
from tests.system.inside import LEDGER, System, run, show, systemctl

pytestmark = pytest.mark.vllm

NAME = "tiny-1"
UNIT = f"vllm@{NAME}.service"
START_LIMIT_S = 180.0
GATEWAY = "http://127.0.0.1:8800/v1/chat/completions"
BODY = f'{{"model": "{NAME}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 8, "temperature": 0}}'


@pytest.fixture
def real(system: System) -> Iterator[RealServer]:
    """The server, answering: its unit runs the kit's program. Its environment file is there, as an administrator would
    have written it."""
    Path(f"/etc/vllm/{NAME}.env").write_text("")
    server = RealServer(NAME, Path("/run/vllm"), Ledger(LEDGER))
    lines = [f"Environment={key}={value}" for key, value in server.variables.items()]
    lines += ["ExecStart=", f"ExecStart={' '.join(server.command(find_install()))}"]
    lines += ["User=root", "Group=sleepd", "ProtectHome=no", "PrivateTmp=no", "TimeoutStopSec=15s"]
    drop_in = system.drop_in(UNIT, "zz-real", "\n".join(["[Service]", *lines, ""]))
    systemctl("daemon-reload")
    try:
        systemctl("start", UNIT)
        wait_until(server.is_healthy, "the server to answer", START_LIMIT_S)
        yield server
    finally:
        systemctl("stop", UNIT)
        drop_in.unlink()
        systemctl("daemon-reload")


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
