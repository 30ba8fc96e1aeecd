"""History as a real daemon writes it: over its end, over a kill, and over a file that is damaged."""

from __future__ import annotations

import csv
import io
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from sleepd.client import ApiProblem, Client
from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, Daemon, Host
from tests.integration.waiting import wait_until


def states(daemon: Daemon, model: str) -> list[dict[str, Any]]:
    return [dict(each) for each in daemon.client.history([model]).body["states"]]


def sleepctl(host: Host, *words: str) -> str:
    command = [sys.executable, "-m", "sleepd.cli.ctl", "--socket", str(host.socket), *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={"COLUMNS": "80"})
    return ran.stdout


def test_what_happened_can_be_asked_for(host: Host) -> None:
    host.configure("a", idle="1s")
    (server,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="asleep", level=1)
    daemon.client.hold("test", "a", ttl_s=600)
    for _ in range(3):
        daemon.watch_use(server)
    daemon.client.release("test")
    daemon.await_model("a", state="asleep", level=1)

    history = daemon.client.history().body
    seen = [(s["state"], s["level"], s["by"], s["who"]) for s in history["states"] if s["model"] == "a"]
    assert ("asleep", 1, "rule", "nap") in seen
    assert any(state == "waking" and by == "operator" for state, _, by, _ in seen)
    assert [(w["model"], w["by"], w["result"]) for w in history["wakes"]] == [("a", "operator", "done")]
    assert {s["who"] for s in history["tasks"] if s["kind"] == "sleep" and s["result"] == "done"} == {"nap"}
    ends = [s["until"] for s in history["states"] if s["model"] == "a"]
    begins = [s["since"] for s in history["states"] if s["model"] == "a"]
    assert ends[:-1] == begins[1:], "one state begins where another ends"
    assert ends[-1] is None
    asleep = [s for s in history["states"] if s["state"] == "asleep"]
    assert {s["freed_bytes"] for s in asleep} == {AWAKE_BYTES - ASLEEP_BYTES}

    used = [row for row in history["requests"] if row["model"] == "a"]
    assert sum(row["finished"] for row in used) == 3, "our own questions are not counted"
    assert sum(row["output_tokens"] for row in used) == 24
    trace = list(csv.DictReader(io.StringIO(sleepctl(host, "history", "--trace"))))
    assert [(row["model"], row["output_tokens"]) for row in trace] == [("a", "8")] * 3
    assert list(trace[0]) == ["seconds", "model", "prompt_tokens", "output_tokens"]

    report = wait_until(lambda: _given_back(daemon.client), "something to be given back")
    assert [row["name"] for row in report["models"]] == ["a"]
    nap = next(row for row in report["by"] if row["name"] == "rule nap")
    assert (nap["wakes"], nap["failures"], nap["unmeasured_s"]) == (1, 0, 0.0)
    shown = sleepctl(host, "report")
    assert "rule nap" in shown
    assert "given back: " in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    listed = sleepctl(host, "history", "a")
    assert "rule nap, frees 46GiB" in listed
    assert all(len(line) <= 80 for line in listed.splitlines())
    buckets = daemon.client.history_buckets(["a"]).body["buckets"]
    assert sum(bucket["finished"] for bucket in buckets) == 3
    assert sum(bucket["wakes"] for bucket in buckets) == 1


def _given_back(client: Client) -> dict[str, Any] | None:
    report = client.report().body
    return dict(report) if report["total"]["given_back_gib_h"] > 0 else None


def test_a_sleep_goes_on_over_a_kill_and_keeps_its_cause(host: Host) -> None:
    host.configure("a", idle="1s")
    host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="asleep", level=1)
    before = states(daemon, "a")[-1]
    daemon.kill()
    daemon = host.start_daemon()
    found = wait_until(lambda: [s for s in states(daemon, "a") if s["state"] == "asleep"], "a to be found asleep")
    assert [(s["since"], s["until"], s["who"]) for s in found] == [(before["since"], None, "nap")]

    daemon.client.wake("a")
    daemon.kill()
    daemon = host.start_daemon()
    closed = next(s for s in states(daemon, "a") if s["state"] == "asleep")
    assert closed["until"] is not None, "what a killed daemon left open ends when it was last known"


def test_a_damaged_file_is_set_aside_and_a_newer_one_is_left_alone(host: Host) -> None:
    host.configure("a", idle="1h")
    host.start_servers("a")
    folder = host.root / "state"
    folder.mkdir()
    (folder / "history.db").write_bytes(b"no database at all\n" * 1000)
    daemon = host.start_daemon()
    told = daemon.events.await_one("history", code="damaged")
    assert "set aside as history.db.damaged-" in told["text"]
    assert len(list(folder.glob("history.db.damaged-*"))) == 1
    assert states(daemon, "a")
    daemon.terminate()

    with sqlite3.connect(folder / "history.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    daemon = host.start_daemon()
    told = daemon.events.await_one("history", code="unreadable")
    assert "found version 99, written by a newer sleepd" in told["text"]
    assert daemon.model("a")["state"] == "awake", "the daemon does without"
    with pytest.raises(ApiProblem, match="version 99") as refused:
        daemon.client.history()
    assert (refused.value.kind, refused.value.status) == ("failed", 503)


def test_a_report_of_what_really_happened_is_a_page(host: Host) -> None:
    host.configure("chat")
    host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.client.sleep("chat")
    daemon.client.wake("chat")
    wait_until(lambda: "awake for " in sleepctl(host, "report", "--html", "-"), "history to be written")
    page = sleepctl(host, "report", "--html", "-")
    assert "operator" in page.partition("By what put models to sleep")[2]
    assert "GPU 0: " in page
    assert "<script" not in page
