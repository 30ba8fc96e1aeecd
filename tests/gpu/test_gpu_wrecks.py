"""Engines that die or run out of memory. Each costs a server, which the next test starts anew."""

from __future__ import annotations

import time

import pytest

from sleepd.client import ApiProblem
from tests.gpu.gpu_host import NEARLY_BYTES, GpuHost
from tests.gpu.gpu_server import GIB, MIB
from tests.realvllm.daemon_host import wait_until

pytestmark = pytest.mark.gpu

LIMIT_S = 120.0
RETRIES_SINCE = (0, 28)


def test_a_killed_engine_gives_its_memory_back_and_the_other_wakes(host: GpuHost, record_property) -> None:
    first, second = host.pair.servers
    daemon = host.start()
    held_bytes, free_bytes = first.used_bytes(), host.pair.gpu.free_bytes()
    began = time.monotonic()
    first.kill_engine()
    wait_until(
        lambda: host.pair.gpu.free_bytes() - free_bytes > held_bytes - 512 * MIB, "the driver to free the memory", 30.0
    )
    freed_s = time.monotonic() - began
    assert first.wait_ended() == 0
    daemon.await_model(first.name, 30.0, state="lost")
    assert daemon.wake(second.name, timeout_s=LIMIT_S)["model"]["state"] == "awake"
    assert host.pair.is_right(second)
    record_property("reported", f"a killed engine's {held_bytes / GIB:.1f} GiB were free after {freed_s:.2f} s")


def test_a_forced_wake_runs_out_of_memory_and_the_recipe_decides(host: GpuHost, record_property) -> None:
    """Force skips the preflight. vLLM answers 500 and keeps what it mapped; since 0.28 that is put back, before it is
    said that only a restart helps. The neighbour serves on."""
    first, second = host.pair.servers
    daemon = host.start()
    before_bytes = second.used_bytes()
    with pytest.raises(ApiProblem) as refused:
        daemon.client.wake(second.name, force=True, timeout_s=LIMIT_S)
    said = refused.value.detail
    assert "out of memory" in said.lower()
    kept_bytes = second.used_bytes() - before_bytes
    version = daemon.model(second.name)["version"]
    if tuple(int(part) for part in version.split(".")[:2]) < RETRIES_SINCE:
        assert daemon.await_model(second.name, state="failed")["failure"]["code"] == "wake_refused"
        assert kept_bytes > NEARLY_BYTES
    else:
        daemon.await_model(second.name, state="asleep")
        assert kept_bytes < NEARLY_BYTES
    assert host.pair.is_right(first)
    record_property("reported", f"vLLM {version}, forced wake without room: {said}; {kept_bytes / GIB:.1f} GiB kept")
    second.stop()
