"""Two models that do not fit together, and jobs of others: what the driver says decides."""

from __future__ import annotations

import time

import pytest

from tests.gpu.gpu_host import GpuHost
from tests.gpu.gpu_server import GIB, Job
from tests.realvllm.daemon_host import Daemon, wait_until

pytestmark = pytest.mark.gpu

LIMIT_S = 120.0
MARGIN_BYTES = GIB
CONTEXT_BYTES = GIB
"""More than a CUDA process takes beside what it asked for."""


def test_waking_one_puts_the_other_to_sleep_first(host: GpuHost, record_property) -> None:
    first, second = host.pair.servers
    logged = {server.name: len(server.read_log()) for server in host.pair.servers}
    daemon = host.start()
    took_s = []
    for wanted, other in ((second, first), (first, second)):
        began = time.monotonic()
        assert daemon.wake(wanted.name, timeout_s=LIMIT_S)["model"]["state"] == "awake"
        took_s.append(time.monotonic() - began)
        assert other.is_sleeping()
        assert wanted.used_bytes() > 4 * other.used_bytes()
        assert host.pair.is_right(wanted)
        assert daemon.await_told("victim", wanted.name)["text"].startswith(f"{other.name} makes room for {wanted.name}")
    for server in host.pair.servers:
        assert "out of memory" not in server.read_log()[logged[server.name] :].lower()
    record_property("reported", f"switches: {', '.join(f'{s:.2f} s' for s in took_s)}")


def test_a_job_of_others_is_no_victim_and_the_wake_is_refused_until_it_ends(host: GpuHost) -> None:
    first = host.pair.first
    daemon = host.start()
    daemon.sleep(first.name)
    with Job(host.pair.vllm, host.pair.gpu, short_bytes(host, daemon)):
        left_bytes = host.pair.gpu.free_bytes()
        wait_until(lambda: daemon.client.status().body["gpus"][0]["free_bytes"] == left_bytes, "the job to be seen")
        problem = daemon.refuse("wake", first.name)
        assert problem.kind == "no_room", problem.text
        assert "free beside the margin" in problem.found, problem.text
        assert first.is_sleeping()
    assert daemon.wake(first.name, timeout_s=LIMIT_S)["model"]["state"] == "awake"
    assert host.pair.is_right(first)
    assert "out of memory" not in first.read_log().lower()


def test_a_job_that_came_a_moment_before_the_wish_costs_no_engine(host: GpuHost) -> None:
    """The last poll still showed the room. Where a failed wake costs the engine, memory is read after the wish;
    elsewhere the wake may run out of memory, and is put back."""
    first = host.pair.first
    daemon = host.start()
    daemon.sleep(first.name)
    with Job(host.pair.vllm, host.pair.gpu, short_bytes(host, daemon)):
        assert daemon.refuse("wake", first.name).kind in ("no_room", "engine_failed")
    daemon.await_model(first.name, state="asleep")
    daemon.client.reset(first.name)  # it may be left alone for some seconds after a failure
    assert daemon.wake(first.name, timeout_s=LIMIT_S)["model"]["state"] == "awake"
    assert host.pair.is_right(first)


def short_bytes(host: GpuHost, daemon: Daemon) -> int:
    """What a job must ask for, that 1 GiB is missing for a wake of the first model."""
    need_bytes = int(daemon.model(host.pair.first.name)["gpus"][0]["need_bytes"])
    return host.pair.gpu.free_bytes() - need_bytes + GIB - CONTEXT_BYTES // 2


def test_a_reservation_is_room_for_a_real_job_and_the_model_comes_back(host: GpuHost) -> None:
    awake = host.pair.first
    daemon = host.start()
    gpu = daemon.client.status().body["gpus"][0]
    left_bytes = sum(server.used_bytes() for server in host.pair.servers) - awake.used_bytes()
    wanted_bytes = gpu["total_bytes"] - 2 * left_bytes - MARGIN_BYTES - 4 * GIB
    with daemon.client.reserve([0], wanted_bytes) as kept:
        assert kept.reservation is not None
        assert kept.reservation["aside"] == [awake.name]
        with Job(host.pair.vllm, host.pair.gpu, wanted_bytes - CONTEXT_BYTES):
            assert daemon.refuse("wake", awake.name).kind == "reserved"
    daemon.await_model(awake.name, LIMIT_S, state="awake")
    assert host.pair.is_right(awake)
