"""Host RAM gets short: the next sleep is level 2, once its cycle was checked, and its wake reads the weights anew."""

from __future__ import annotations

import pytest

from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, GIB, Host
from tests.integration.waiting import wait_until

PRESSURE = """
[[rules]]
name = "host-ram-pressure"
when = { host_available_below = "10%", until = "15%" }
then = { sleep = 2 }
"""


@pytest.mark.waits_long
def test_ram_short_means_level_2_and_its_wake_reloads_and_answers_right(host: Host) -> None:
    host.configure("a", idle="1s", extra=PRESSURE, a={"max_level": 2})
    (a,) = host.start_servers("a")
    before = a.complete()
    daemon = host.start_daemon()
    checked = daemon.events.await_one("level2_proven", "a")
    assert "level 2" in checked["text"]
    assert a.calls("/collective_rpc") == {"2xx": 1}
    assert a.complete() == before

    host.set_ram(20 * GIB)
    daemon.events.await_one("pressure")
    daemon.await_model("a", state="asleep", level=2)
    assert a.held_bytes() == ASLEEP_BYTES
    assert a.state()["pinned_bytes"] == 0

    answer = daemon.client.wake("a")
    assert answer.status == 200
    assert a.calls("/collective_rpc") == {"2xx": 2}
    assert a.held_bytes() == AWAKE_BYTES
    assert a.complete() == before

    host.set_ram(200 * GIB)
    daemon.events.await_one("pressure_over")
    daemon.await_model("a", state="asleep", level=1)


def test_ram_short_and_no_level_2_keeps_the_model_awake_and_says_so_once(host: Host) -> None:
    host.configure("a", idle="1s", extra=PRESSURE)
    (a,) = host.start_servers("a")
    host.set_ram(20 * GIB)
    daemon = host.start_daemon()
    told = daemon.events.await_one("kept_awake", "a")
    assert "backup would not fit" in told["text"]
    explained = daemon.client.explain("a").body
    assert "stays awake" in explained["verdict"]
    asked = daemon.ask("POST", "/v1/models/a/sleep", {})
    assert (asked.status, asked.data["kind"]) == (409, "level_unsafe")
    host.set_ram(200 * GIB)
    daemon.await_model("a", state="asleep", level=1)
    assert len(daemon.events.of("kept_awake", "a")) == 1
    assert a.calls("/sleep") == {"2xx": 1}


def test_unreadable_host_ram_puts_nobody_to_sleep(host: Host) -> None:
    host.configure("a", idle="1s")
    (a,) = host.start_servers("a")
    meminfo = host.root / "proc" / "meminfo"
    meminfo.write_text("MemTotal: lots\n")
    daemon = host.start_daemon()
    notes = wait_until(lambda: daemon.client.status().body["notes"], "the missing reading to be told")
    assert "wanted MemTotal and MemAvailable" in notes[0]
    assert "proc_root" in notes[0]
    daemon.await_model("a", state="awake")
    wait_until(lambda: daemon.model("a")["idle_s"] > 1.5, "the idle time to pass")
    assert a.calls("/sleep") == {}
    host.set_ram(200 * GIB)
    daemon.await_model("a", state="asleep")
