"""The daemon as a process: reload, signals, the service manager's ear, strangers at its servers."""

from __future__ import annotations

import fcntl
import re
import signal
import threading
from pathlib import Path

from tests.integration.harness import Host
from tests.integration.waiting import wait_until
from tests.integration.wire import Answer


def test_the_service_manager_hears_ready_status_watchdog_and_stopping(host: Host) -> None:
    host.configure("a")
    host.start_servers("a")
    daemon = host.start_daemon(ready=False, executed=True)
    daemon.hear("READY=1")
    daemon.hear("STATUS=1 awake, 0 asleep, 33GiB free")
    daemon.hear("WATCHDOG=1")
    daemon.client.sleep("a")
    daemon.hear("STATUS=0 awake, 1 asleep, 79GiB free")
    assert daemon.child.poll() is None
    daemon.child.send_signal(signal.SIGTERM)
    daemon.hear("STOPPING=1")
    assert daemon.wait() == 0


def test_a_driver_that_hangs_does_not_keep_the_daemon_from_ending(host: Host) -> None:
    host.configure("a")
    host.start_servers("a")
    daemon = host.start_daemon()
    with (host.ledger.directory / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waits = re.compile(rf"-> FLOCK .* {daemon.pid} ")
        wait_until(lambda: waits.search(Path("/proc/locks").read_text()), "a call to hang in the driver")
        assert daemon.terminate() == 0


def test_every_caller_that_waits_gets_an_answer_when_the_daemon_is_told_to_end(host: Host) -> None:
    host.configure("a", "b")
    a, _ = host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    a.arm("hang", path="/wake_up")
    answers: list[Answer] = []

    def ask(name: str, what: str) -> None:
        answers.append(daemon.ask("POST", f"/v1/models/{name}/{what}", {"timeout_s": 30}))

    callers = [threading.Thread(target=ask, args=("a", "wake")) for _ in range(5)]
    for caller in callers:
        caller.start()
    daemon.await_model("a", state="waking", queued=5)
    assert daemon.terminate() == 0
    for caller in callers:
        caller.join(5)
    assert [answer.status for answer in answers] == [503] * 5
    assert {answer.data["detail"] for answer in answers} == {
        "sleepd was told to stop; what it began goes on, and its next start finishes it"
    }
    assert {answer.data["hint"] for answer in answers} == {"ask again once it runs"}
    assert not host.socket.exists()
    a.release()
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")


def test_reload_takes_new_models_and_rules_and_keeps_what_did_not_change(host: Host) -> None:
    host.configure("a")
    host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    host.configure("a", "b", idle="2h")
    changed = daemon.client.reload().body["changed"]
    assert changed == ["model b added", '[[rules]] nap when: { idle = "1h" } → { idle = "2h" }']
    daemon.await_model("b", state="awake")
    assert daemon.model("a")["level"] == 1
    host.configure("b", idle="1s")
    daemon.forget()
    daemon.child.send_signal(signal.SIGHUP)
    daemon.hear("RELOADING=1")
    daemon.hear("READY=1")
    wait_until(lambda: [m["name"] for m in daemon.client.models().body["models"]] == ["b"], "a to be forgotten")
    daemon.await_model("b", state="asleep")


def test_a_reload_of_a_wrong_file_keeps_the_running_settings_and_says_so(host: Host) -> None:
    host.configure("a")
    host.start_servers("a")
    daemon = host.start_daemon()
    host.configure("a", extra="[gpu]\nmargn = '2GiB'\n[recovery]\nstuck_after = '5 parsecs'")
    answer = daemon.ask("POST", "/v1/reload", {})
    assert (answer.status, answer.data["kind"]) == (422, "invalid")
    assert "the running settings were kept" in answer.data["detail"]
    unknown, impossible = answer.data["errors"]
    assert "sleepd.toml:" in unknown
    assert 'did you mean "margin"?' in unknown
    assert 'wanted a duration such as "90s"' in impossible
    assert "5 parsecs" in impossible
    assert "margn" in daemon.hear("STATUS=reload failed, running settings kept:")
    daemon.forget()
    daemon.child.send_signal(signal.SIGHUP)
    daemon.hear("RELOADING=1")
    daemon.hear("READY=1")
    wait_until(lambda: len(daemon.events.of("reload_failed")) == 2, "the second failure to be told")
    daemon.hear("WATCHDOG=1")
    assert not any("STATUS=1" in message for message in daemon.heard), "a turn wiped the words away"
    assert daemon.model("a")["state"] == "awake"
    host.configure("a")
    assert daemon.client.reload().body["changed"] == []
    daemon.hear("STATUS=1 awake, 0 asleep, 33GiB free")


def test_somebody_with_curl_is_noticed_and_left_alone(host: Host) -> None:
    host.configure("a", idle="1s", extra='[recovery]\nforeign_hold_down = "2s"')
    (a,) = host.start_servers("a")
    before = a.complete()
    daemon = host.start_daemon()
    assert a.ask("POST", "/sleep?level=1").status == 200
    told = daemon.events.await_one("foreign", "a")
    assert "somebody else" in told["text"]
    held = daemon.model("a")
    assert held["state"] == "unknown"
    assert "hands off" in held["reason"]
    refused = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 5})
    assert (refused.status, refused.data["kind"]) == (503, "engine_failed")
    assert a.calls("/wake_up") == {}
    # The hold-down ends, and whatever the stranger left is proven before anybody is served.
    daemon.await_model("a", state="asleep")
    assert daemon.client.wake("a").status == 200
    assert a.complete() == before
