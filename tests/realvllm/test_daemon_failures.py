"""A sleep or a wake of a real vLLM fails half-way, and the daemon puts it right by the recipe of the release."""

from __future__ import annotations

import pytest

from tests.realvllm.daemon_host import ASLEEP_BYTES, AWAKE_BYTES, DaemonHost
from tests.realvllm.fixtures import PROMPT

pytestmark = pytest.mark.vllm

NO_RETRY = "[recovery]\nretries = 0"
BLOCKS = 8


def test_failed_sleeps_are_finished(host: DaemonHost) -> None:
    """Failed among the weights, and after the last block: a bare wake would kill the engine, a repeated sleep heals."""
    first = host.pair.first
    host.configure()
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    for done in (2, BLOCKS):
        first.fault(f"sleep after={done}")
        slept = daemon.sleep("tiny-1")
        assert (slept["model"]["level"], first.fault_is_waiting) == (1, False)
        assert first.used_bytes() == ASLEEP_BYTES
        assert daemon.wake("tiny-1")["model"]["failure"] is None
        assert first.used_bytes() == AWAKE_BYTES
        assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]
    told = [event["text"] for event in daemon.events.of("failure", "tiny-1")]
    assert len(told) == 2
    assert all("out of memory" in text for text in told), told


def test_failed_wakes_are_repeated(host: DaemonHost) -> None:
    first = host.pair.first
    host.configure()
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    for done in (2, BLOCKS):
        daemon.sleep("tiny-1")
        first.fault(f"wake_up after={done}")
        assert daemon.wake("tiny-1")["model"]["failure"] is None
        assert (first.fault_is_waiting, first.used_bytes()) == (False, AWAKE_BYTES)
        assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]


def test_a_wake_that_may_not_be_repeated_is_put_back(host: DaemonHost) -> None:
    first = host.pair.first
    host.configure(NO_RETRY)
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    daemon.sleep("tiny-1")
    first.fault("wake_up after=6")
    refused = daemon.refuse("wake", "tiny-1")
    assert (refused.status, refused.kind) == (503, "engine_failed")
    assert "CUDA Error: out of memory" in refused.detail
    put_back = daemon.model("tiny-1")
    assert (put_back["state"], put_back["level"], first.used_bytes()) == ("asleep", 1, ASLEEP_BYTES)
    assert daemon.wake("tiny-1")["model"]["failure"] is None
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]
