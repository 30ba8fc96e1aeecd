"""Sleeps give the GPU's memory back, wakes bring the right weights back, and nothing grows."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.gpu.gpu_host import (
    CACHED_BYTES,
    NEARLY_BYTES,
    GpuHost,
    GpuPair,
    agree,
    answer,
    order,
    reload,
)
from tests.gpu.gpu_server import GIB, MIB, UTILIZATION
from tests.realvllm.daemon_host import wait_until
from tests.realvllm.wire import Listener

pytestmark = pytest.mark.gpu

LIMIT_S = 120.0
MOST_LEFT_BYTES = 4 * GIB
CYCLES = 20


def test_the_two_answer_differently(pair: GpuPair) -> None:
    first, second = (pair.right_answers[server.name] for server in pair.servers)
    assert any(first)
    assert any(second)
    assert not agree(first, second)


def test_level_1_and_back(host: GpuHost, record_property) -> None:
    server, gpu = host.pair.first, host.pair.gpu
    daemon = host.start()
    awake_bytes, free_bytes = server.used_bytes(), gpu.free_bytes()
    assert awake_bytes > (UTILIZATION - 0.05) * gpu.total_bytes
    began = time.monotonic()
    assert daemon.sleep(server.name)["model"]["level"] == 1
    slept_s, left_bytes = time.monotonic() - began, server.used_bytes()
    assert left_bytes < MOST_LEFT_BYTES
    assert abs((gpu.free_bytes() - free_bytes) - (awake_bytes - left_bytes)) < NEARLY_BYTES
    began = time.monotonic()
    assert daemon.wake(server.name, timeout_s=LIMIT_S)["model"]["state"] == "awake"
    woke_s = time.monotonic() - began
    assert abs(server.used_bytes() - awake_bytes) < CACHED_BYTES
    assert host.pair.is_right(server)
    shown = daemon.model(server.name)["gpus"][0]
    assert abs(shown["awake_bytes"] - awake_bytes) < CACHED_BYTES
    assert abs(shown["asleep_bytes"] - left_bytes) < NEARLY_BYTES
    record_property(
        "reported",
        f"through sleepd, level 1: {awake_bytes / GIB:.2f} GiB awake, {left_bytes / GIB:.2f} left asleep; "
        f"slept {slept_s:.2f} s, woke {woke_s:.2f} s",
    )


def test_level_2_is_checked_and_reloads(host: GpuHost, record_property) -> None:
    """An operator may ask for it once the cycle that max_level = 2 asks for has passed."""
    server = host.pair.first
    awake_bytes = server.used_bytes()
    daemon = host.start(max_level=2)
    wait_until(lambda: daemon.told("level2_proven", server.name), "the checked cycle to pass", LIMIT_S)
    daemon.await_model(server.name, LIMIT_S, state="awake")
    assert host.pair.is_right(server)
    assert daemon.sleep(server.name, level=2)["model"]["level"] == 2
    left_bytes = server.used_bytes()
    assert left_bytes < MOST_LEFT_BYTES
    began = time.monotonic()
    assert daemon.wake(server.name, timeout_s=LIMIT_S)["model"]["state"] == "awake"
    woke_s = time.monotonic() - began
    assert host.pair.is_right(server)
    assert abs(server.used_bytes() - awake_bytes) < CACHED_BYTES
    record_property(
        "reported", f"through sleepd, level 2: {left_bytes / GIB:.2f} GiB left asleep; woke with reload {woke_s:.2f} s"
    )


def test_level_2_without_a_reload_talks_nonsense(pair: GpuPair) -> None:
    server = pair.first
    order(server, "/sleep?level=2")
    order(server, "/wake_up")
    assert not pair.is_right(server)
    reload(server)
    assert pair.is_right(server)


def test_twenty_cycles_leave_no_more_than_one(host: GpuHost, record_property) -> None:
    server = host.pair.first
    daemon = host.start()
    left, took_s = [], []
    for _ in range(CYCLES):
        daemon.sleep(server.name)
        left.append(server.used_bytes())
        began = time.monotonic()
        daemon.wake(server.name, timeout_s=LIMIT_S)
        took_s.append(time.monotonic() - began)
    assert host.pair.is_right(server)
    assert left[-1] - left[0] < NEARLY_BYTES
    took_s.sort()
    record_property(
        "reported",
        f"{CYCLES} cycles: {left[0] / MIB:.0f} MiB left after the first sleep, {left[-1] / MIB:.0f} after the last; "
        f"wake p50 {took_s[CYCLES // 2]:.2f} s, most {took_s[-1]:.2f} s",
    )


def test_a_request_through_the_gateway_wakes_it(host: GpuHost, record_property) -> None:
    server = host.pair.first
    daemon = host.start()
    daemon.sleep(server.name)
    began = time.monotonic()
    said = answer(server, Listener(socket=host.root / "gateway.sock"))
    record_property(
        "reported", f"{len(said)} requests to a sleeper were answered after {time.monotonic() - began:.2f} s"
    )
    assert host.pair.is_right(server, said)


def test_a_request_past_the_gateway_wakes_it(host: GpuHost) -> None:
    """vLLM holds the request; sleepd sees the connection that waits."""
    server = host.pair.first
    daemon = host.start()
    daemon.sleep(server.name)
    assert host.pair.is_right(server)
    daemon.await_model(server.name, state="awake")


def test_doctor_tries_a_sleep(host: GpuHost) -> None:
    server = host.pair.first
    daemon = host.start()
    words = ("--socket", str(host.root / "sleepd.sock"), "doctor", "--json", "--try", server.name)
    ran = subprocess.run(
        [sys.executable, "-m", "sleepd.cli.ctl", *words], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    found = {(one["check"], one["about"]): one for one in json.loads(ran.stdout)["findings"]}
    assert found["try.sleep", server.name]["verdict"] == "ok", found["try.sleep", server.name]
    assert found["try.wake", server.name]["verdict"] == "ok"
    assert {found[check, ""]["verdict"] for check in ("gpu.daemon", "gpu.processes", "gpu.caller")} == {"ok"}
    assert found["server.managed", server.name]["verdict"] == "ok"
    assert wait_until(lambda: daemon.model(server.name)["state"] == "awake", "it to be awake")
