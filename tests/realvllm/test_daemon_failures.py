"""A sleep or a wake of a real vLLM fails half-way, and the daemon puts it right by the recipe of the release."""

from __future__ import annotations

import os

import pytest

from tests.integration.waiting import wait_until
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
    told = [event["text"] for event in daemon.told("failure", "tiny-1")]
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


def test_a_stranger_who_takes_the_room_in_the_middle_of_a_wake(host: DaemonHost) -> None:
    """Out of memory after the preflight: what was mapped is put back, and it wakes once the stranger has left."""
    first, ledger, stranger = host.pair.first, host.pair.ledger, os.getpid()
    host.configure(NO_RETRY)
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    daemon.sleep("tiny-1")
    first.fault("delay wake_up after=3 s=1.5")
    daemon.client.wake("tiny-1", wait=False)
    wait_until(lambda: not first.fault_is_waiting, "the wake to be half done")
    ledger.claim(0, stranger, ledger.read()[0].free_bytes)
    try:
        told = daemon.await_told("failure", "tiny-1")
        assert "CUDA Error: out of memory" in told["text"]
        daemon.await_model("tiny-1", state="asleep", level=1)
        assert first.used_bytes() == ASLEEP_BYTES
        wait_until(lambda: daemon.refuse("wake", "tiny-1").kind == "no_room", "the stranger's memory to be counted")
    finally:
        ledger.claim(0, stranger, 0)
    free_bytes = ledger.read()[0].free_bytes
    wait_until(lambda: daemon.client.status().body["gpus"][0]["free_bytes"] == free_bytes, "the room to be seen")
    assert daemon.wake("tiny-1")["model"]["failure"] is None
    assert first.used_bytes() == AWAKE_BYTES
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]


def test_a_failed_reload_is_repeated_before_anything_is_served(host: DaemonHost) -> None:
    """Broken off inside a merged layer: vLLM's first repetition fails on what the first try left, the second works."""
    first = host.pair.first
    host.configure(tiny_1={"max_level": 2})
    hashed = first.count_calls("/weight_checker")
    daemon = host.start()
    checked = daemon.await_told("level2_proven", "tiny-1")
    assert "the checksums of its weights" in checked["text"]
    assert first.count_calls("/weight_checker") - hashed == 2
    daemon.sleep("tiny-1", level=2)
    first.fault("reload_weights after=5")
    assert daemon.wake("tiny-1")["model"]["failure"] is None
    assert (first.fault_is_waiting, first.used_bytes()) == (False, AWAKE_BYTES)
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]
    told = [event["text"] for event in daemon.told("failure", "tiny-1")]
    assert len(told) == 2
    assert all("'reload weights' failed" in text for text in told), told
