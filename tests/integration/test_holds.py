"""Holds, pins, tasks and events on a real daemon: what of them outlives its death."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

from sleepd.client import Client
from tests.integration.harness import Host
from tests.integration.waiting import WAIT_LIMIT_S, wait_until

SLEEPCTL = [sys.executable, "-m", "sleepd.cli.ctl"]


def test_a_hold_with_a_stream_outlives_the_daemon_s_death(host: Host) -> None:
    """`sleepctl hold -- CMD` wakes, holds over a kill -9, and lets go; meanwhile no rule has its way."""
    host.configure("chat", idle="1s")
    host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.await_model("chat", state="asleep")
    go = host.root / "go"
    script = f"echo running; until [ -e {go} ]; do sleep 0.05; done; exit 9"
    held = subprocess.Popen(
        [*SLEEPCTL, "hold", "chat", "--id", "job", "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        env=os.environ | {"SLEEPD_SOCKET": str(host.socket)},
    )
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == b"running\n"
        daemon.kill()
        daemon = host.start_daemon()
        before = daemon.client.holds().body["holds"]
        assert [(hold["id"], hold["model"]) for hold in before] == [("job", "chat")]
        wait_until(lambda: daemon.client.holds().body["holds"][0]["attached"], "the stream to be asked for again")
        daemon.await_model("chat", state="awake", holds=["job"])
        assert daemon.model("chat")["idle_s"] == 0.0
        go.touch()
        assert held.wait(WAIT_LIMIT_S) == 9
    finally:
        held.kill()
        held.wait()
        if held.stdout is not None:
            held.stdout.close()
    assert daemon.client.holds().body["holds"] == []
    daemon.await_model("chat", state="asleep")


def test_a_hold_whose_stream_broke_with_the_daemon_has_its_grace(host: Host) -> None:
    host.configure("chat")
    host.start_servers("chat")
    daemon = host.start_daemon()
    with Client(host.socket).holding("chat", "gone", wake=False) as held:
        held._over.set()  # as if the process that holds had died with the daemon
        daemon.kill()
        daemon = host.start_daemon()
        (hold,) = daemon.client.holds().body["holds"]
    assert (hold["id"], hold["attached"], hold["ttl_s"]) == ("gone", False, None)
    assert hold["until"] is not None


def test_pins_timed_holds_and_ended_tasks_outlive_a_restart(host: Host) -> None:
    host.configure("chat")
    host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.client.sleep("chat")
    daemon.client.hold("job", "chat", ttl_s=3600, reason="batch")
    daemon.client.pin("chat")
    (slept, *_) = [task for task in daemon.client.tasks().body["tasks"] if task["kind"] == "sleep"]
    daemon.kill()
    daemon = host.start_daemon()
    daemon.await_model("chat", state="awake", pinned=True, holds=["job"])
    again = daemon.client.task(slept["id"]).body
    assert (again["outcome"], again["done"], again["ended"]) == (slept["outcome"], True, slept["ended"])
    (hold,) = daemon.client.holds().body["holds"]
    assert (hold["reason"], hold["ttl_s"], hold["attached"]) == ("batch", 3600.0, False)


def test_events_resume_over_a_restart_with_one_gap(host: Host) -> None:
    host.configure("chat")
    host.start_servers("chat")
    daemon = host.start_daemon()
    seen: list[dict[str, Any]] = []
    again = threading.Event()

    def follow() -> None:
        for event in Client(host.socket).events(resume_for_s=WAIT_LIMIT_S):
            seen.append(event)
            if event["kind"] == "pinned":
                break
        again.set()

    thread = threading.Thread(target=follow)
    thread.start()
    wait_until(lambda: bool(seen), "a first event")
    daemon.kill()
    daemon = host.start_daemon()
    daemon.client.pin("chat")
    assert again.wait(WAIT_LIMIT_S)
    thread.join(WAIT_LIMIT_S)
    assert [event["kind"] for event in seen].count("gap") == 1
    gap = next(event for event in seen if event["kind"] == "gap")
    epochs = [event["id"].rpartition("-")[0] for event in seen if event["kind"] != "gap"]
    assert len(set(epochs)) == 2
    assert gap["after"].rpartition("-")[0] == epochs[0]
    # None where it was told before anything happened in the new epoch.
    assert gap["first"] is None or gap["first"].rpartition("-")[0] == epochs[-1]


def test_a_rehearsed_wake_names_who_would_make_room(host: Host) -> None:
    host.configure("chat", "code", chat={"vram": "46GiB"}, code={"vram": "46GiB"})
    host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.client.sleep("chat")
    host.start_servers("code")
    daemon.await_model("code", state="awake")
    plan = daemon.await_plan("chat")
    assert (plan["would"], [victim["model"] for victim in plan["victims"]]) == ("wake", ["code"])
    assert daemon.model("chat")["state"] == "asleep"
    assert daemon.model("code")["state"] == "awake"
