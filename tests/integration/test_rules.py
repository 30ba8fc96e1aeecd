"""Rules beside `idle`, in the real daemon: local time, what they keep over a restart, the end for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.integration.harness import AWAKE_BYTES, Host
from tests.integration.waiting import wait_until

MORNING = """
[[rules]]
name = "morning"
when = {{ cron = "{minute} {hour} * * *", timezone = "UTC", within = "1h" }}
then = {{ wake = true }}
"""
OFFICE = """
[[rules]]
name = "office"
when = { days = "mon-sun", timezone = "UTC" }
then = { keep_awake = true }
"""


def _a_moment_ago() -> str:
    moment = datetime.now(UTC) - timedelta(minutes=2)
    return MORNING.format(minute=moment.minute, hour=moment.hour)


def test_a_moment_that_came_while_the_daemon_was_down_wakes_once(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    assert daemon.client.sleep("a").status == 200
    assert daemon.terminate() == 0

    host.configure("a", extra=_a_moment_ago())
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")
    begun = daemon.events.await_one("task_begun", "a")
    assert begun["data"]["cause"] == "rule:morning"
    assert a.held_bytes() == AWAKE_BYTES

    # What was done for this moment is done, for the next daemon too.
    assert daemon.client.sleep("a").status == 200
    daemon.kill()
    daemon = host.start_daemon()
    daemon.await_model("a", state="asleep")

    def explained() -> bool:
        rules = daemon.ask("GET", "/v1/models/a/explain").data["rules"]
        return any(r["rule"] == "morning" and r["holds"] for r in rules)

    wait_until(explained, "the calendar")
    assert daemon.model("a")["state"] == "asleep"
    assert a.calls("/wake_up") == {"2xx": 1}


def test_keep_awake_outranks_an_idle_rule(host: Host) -> None:
    host.configure("a", idle="1s", extra=OFFICE)
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()

    def due() -> bool:
        rules = {r["rule"]: r["holds"] for r in daemon.ask("GET", "/v1/models/a/explain").data["rules"]}
        return rules["nap"] and rules["office"]

    wait_until(due, "both rules to hold")
    daemon.events.await_one("kept_awake", "a")
    assert daemon.model("a")["state"] == "awake"
    assert a.calls("/sleep") == {}


def test_sleepers_are_woken_at_the_end_where_that_is_configured(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon(SLEEPD__DAEMON__ON_STOP='"wake"')
    assert daemon.client.sleep("a").status == 200
    assert daemon.terminate() == 0
    assert a.held_bytes() == AWAKE_BYTES
    assert "before the end: woke a" in daemon.words()
