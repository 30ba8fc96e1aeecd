"""SIGKILL: of a real vLLM under the daemon, and of the daemon in the middle of a wake."""

from __future__ import annotations

import signal

import pytest

from tests.integration.waiting import wait_until
from tests.realvllm.daemon_host import ASLEEP_BYTES, AWAKE_BYTES, DaemonHost
from tests.realvllm.fixtures import PROMPT

pytestmark = pytest.mark.vllm


def test_a_killed_server_is_told_and_taken_in_again(host: DaemonHost) -> None:
    """Its engine outlives the API server and keeps the GPU's memory: the other is refused with numbers, then woken."""
    first, second = host.pair.servers
    host.configure()
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    first.kill_api_server()
    lost = daemon.await_model("tiny-1", state="lost")
    assert f"its process {first.pid} has ended" in lost["failure"]["detail"]
    assert daemon.await_told("failure", "tiny-1", code="lost")["text"] == lost["failure"]["detail"]
    refused = daemon.refuse("wake", "tiny-1")
    assert (refused.status, refused.kind) == (503, "engine_failed")
    assert "start the server" in refused.hint
    refused = daemon.refuse("wake", "tiny-2")
    assert (refused.status, refused.kind) == (409, "no_room")
    assert first.used_bytes() == AWAKE_BYTES

    first.stop()
    assert daemon.wake("tiny-2")["model"]["state"] == "awake"
    assert second.chat(PROMPT) == host.pair.right_answers["tiny-2"]
    daemon.sleep("tiny-2")
    first.start()
    first.wait_healthy()
    back = daemon.await_model("tiny-1", state="awake")
    assert (back["failure"], back["reason"]) == (None, "found awake")
    daemon.await_told("restarted", "tiny-1")
    daemon.sleep("tiny-1")
    assert first.used_bytes() == ASLEEP_BYTES
    daemon.wake("tiny-1")
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]


def test_a_daemon_killed_in_a_wake_finishes_it_at_the_next_start(host: DaemonHost) -> None:
    first = host.pair.first
    host.configure()
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    daemon.sleep("tiny-1")
    first.fault("delay wake_up after=3 s=1.5")
    wakes = first.count_calls("/wake_up")
    daemon.client.wake("tiny-1", wait=False)
    wait_until(lambda: not first.fault_is_waiting, "the wake to be half done")
    daemon.end(signal.SIGKILL)

    daemon = host.start()
    daemon.await_model("tiny-1", state="awake", failure=None)
    assert first.used_bytes() == AWAKE_BYTES
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]
    assert first.count_calls("/wake_up") == wakes + 1


def test_a_daemon_killed_in_a_level_2_wake_never_lets_noise_be_served(host: DaemonHost) -> None:
    """Killed while the weights' memory comes back: vLLM ends that stage alone, awake in part and without weights."""
    first = host.pair.first
    host.configure(tiny_1={"max_level": 2})
    daemon = host.start()
    daemon.await_told("level2_proven", "tiny-1")
    daemon.sleep("tiny-1", level=2)
    first.fault("delay wake_up after=2 s=1")
    daemon.client.wake("tiny-1", wait=False)
    wait_until(lambda: not first.fault_is_waiting, "the weights' memory to be half back")
    daemon.end(signal.SIGKILL)

    daemon = host.start()
    daemon.await_model("tiny-1", state="awake", failure=None)
    assert first.used_bytes() == AWAKE_BYTES
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]
