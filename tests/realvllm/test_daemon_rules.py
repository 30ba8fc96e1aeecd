"""The real daemon puts idle servers of a real vLLM to sleep by rule, as deep as host RAM asks, and never busy ones."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.realvllm.daemon_host import ASLEEP_BYTES, AWAKE_BYTES, SHORT_BYTES, DaemonHost
from tests.realvllm.fixtures import PROMPT

pytestmark = pytest.mark.vllm

NAP_AFTER_S = 1.0
NAP = """
[[rules]]
name = "nap"
when = { idle = "1s" }
then = { sleep = 1 }
"""
LATE_NAP = NAP.replace('"1s"', '"2s"')  # leaves time to make RAM short after the check of level 2
RAM_PRESSURE = """
[[rules]]
name = "host-ram-pressure"
when = { host_available_below = "10%", until = "15%" }
then = { sleep = 2 }
"""


def test_idle_falls_asleep_by_rule_and_the_socket_wakes_it(host: DaemonHost) -> None:
    first = host.pair.first
    host.configure(NAP)
    daemon = host.start()
    daemon.await_model("tiny-1", state="asleep", level=1)
    assert (first.used_bytes(), first.is_sleeping()) == (ASLEEP_BYTES, True)
    rule = daemon.events.await_one("rule", "tiny-1")
    assert rule["text"] == "rule nap puts tiny-1 to sleep at level 1"
    assert daemon.model("tiny-1")["reason"] == "asleep: rule nap"

    woken = daemon.wake("tiny-1")
    assert (woken["model"]["state"], woken["model"]["level"]) == ("awake", 0)
    assert first.used_bytes() == AWAKE_BYTES
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]


def test_direct_traffic_keeps_it_awake(host: DaemonHost) -> None:
    """First one long request, then a short one every half nap: neither lets the rule fire; their end does."""
    first = host.pair.first
    host.configure(NAP)
    daemon = host.start()
    with ThreadPoolExecutor() as pool:
        long = pool.submit(first.chat, PROMPT, max_tokens=50, pace_ms=50)
        daemon.await_model("tiny-1", state="awake", running=1)
        explained = daemon.client.explain("tiny-1").body
        assert "it is in use" in explained["protections"]
        assert [c["found"] for r in explained["rules"] if r["rule"] == "nap" for c in r["conditions"]] == ["in use"]
        long.result(20)
    for _ in range(4):
        first.chat(PROMPT)
        time.sleep(NAP_AFTER_S / 2)
    assert daemon.model("tiny-1")["state"] == "awake"
    assert daemon.events.of("rule", "tiny-1") == []
    daemon.await_model("tiny-1", state="asleep", level=1)
    assert first.used_bytes() == ASLEEP_BYTES


def test_short_ram_means_level_2_and_its_wake_reads_the_weights_anew(host: DaemonHost) -> None:
    first = host.pair.first
    host.configure(LATE_NAP, RAM_PRESSURE, tiny_1={"max_level": 2})
    daemon = host.start()
    daemon.events.await_one("level2_proven", "tiny-1")  # the checked cycle of its first idle moment
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]

    host.set_available_ram(SHORT_BYTES)
    daemon.events.await_one("pressure")
    daemon.await_model("tiny-1", state="asleep", level=2)
    assert first.used_bytes() == ASLEEP_BYTES
    assert daemon.model("tiny-1")["reason"] == "asleep: rule host-ram-pressure"

    reloads = first.count_calls("/collective_rpc")
    assert daemon.wake("tiny-1")["model"]["state"] == "awake"
    assert first.count_calls("/collective_rpc") == reloads + 1
    assert first.used_bytes() == AWAKE_BYTES
    assert first.chat(PROMPT) == host.pair.right_answers["tiny-1"]
