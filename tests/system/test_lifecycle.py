"""sleepd as a unit: ready when it says so, takes and refuses reloads, is ended when it hangs, goes on after that."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.waiting import wait_until
from tests.system.inside import ASLEEP_BYTES, AWAKE_BYTES, LIMIT_S, System, run, show, systemctl

CONFIG = Path("/etc/sleepd/sleepd.toml")


def test_started_means_that_it_answers(system: System) -> None:
    system.configure("a", "b")
    system.start_servers("a", "b")
    systemctl("start", "sleepd.service")
    assert system.ask("GET", "/healthz").status == 200, "start returned before the API was there"
    assert (show("sleepd.service", "ActiveState"), show("sleepd.service", "Type")) == ("active", "notify")
    system.await_status("2 awake, 0 asleep", "free")
    system.client.sleep("b")
    assert system.await_status("1 awake, 1 asleep").startswith("1 awake, 1 asleep, 47GiB free")


def test_the_status_says_what_goes_on(system: System) -> None:
    system.configure("a")
    (a,) = system.start_servers("a")
    system.start_daemon()
    system.client.sleep("a")
    a.arm("hang", path="/wake_up")
    system.client.wake("a", wait=False)
    system.await_status("; waking a")
    a.release()
    system.await_status("1 awake, 0 asleep")


def test_a_reload_returns_once_the_new_settings_hold(system: System) -> None:
    system.configure("a")
    system.start_servers("a", "b")
    system.start_daemon()
    pid = system.daemon_pid()
    system.configure("a", "b")
    systemctl("reload", "sleepd.service")
    assert system.model("b")["name"] == "b"
    assert (system.daemon_pid(), show("sleepd.service", "ActiveState")) == (pid, "active")
    told = [line["MESSAGE"] for line in system.journal("SLEEPD_KIND=reloaded")]
    assert told == ["model b added"], "one reload, told once"


def test_a_reload_that_cannot_be_taken_fails_in_words_and_changes_nothing(system: System) -> None:
    system.configure("a")
    system.start_servers("a")
    system.start_daemon()
    pid = system.daemon_pid()
    CONFIG.write_text(CONFIG.read_text().replace("[models.a]", "[models.a]\nvrom = 3"))
    done = systemctl("reload", "sleepd.service", check=False)
    assert done.returncode != 0
    assert "vrom" in system.await_status("reload failed, running settings kept")
    assert system.model("a")["state"] == "awake"
    assert (system.daemon_pid(), show("sleepd.service", "ActiveState")) == (pid, "active")
    said = system.journal("SLEEPD_KIND=reload_failed")
    assert len(said) == 1
    assert "vrom" in said[0]["MESSAGE"]
    system.configure("a")
    systemctl("reload", "sleepd.service")
    system.await_status("1 awake, 0 asleep")


def test_a_configuration_that_is_wrong_at_the_start_is_told_and_then_mended(system: System) -> None:
    CONFIG.write_text("[daemon]\nmood = 3\n")
    assert systemctl("start", "sleepd.service", check=False).returncode != 0
    said = wait_until(lambda: system.journal("PRIORITY=3"), "the error to be in the journal", LIMIT_S)
    assert "mood" in said[0]["MESSAGE"]
    system.configure()
    wait_until(lambda: show("sleepd.service", "ActiveState") == "active", "the next try to succeed", LIMIT_S)


HANG = 'import signal; signal.signal(signal.SIGUSR1, lambda *_: __import__("time").sleep(3600.0))\n'
"""Python runs signal handlers in its first thread, the loop's: every other thread goes on. The line stands in a file of
the system's Python that every start of it reads."""


@pytest.mark.parametrize("by", [signal.SIGSTOP, signal.SIGUSR1], ids=["the whole process", "the loop alone"])
def test_a_loop_that_hangs_is_ended_by_the_watchdog_and_shows_where(system: System, by: signal.Signals) -> None:
    where = run("/usr/bin/python3", "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
    hang = Path(where, "zz-hang.pth")
    hang.parent.mkdir(parents=True, exist_ok=True)
    placed = system.drop_in("sleepd.service", "zz-test", "[Service]\nWatchdogSec=2s\n")
    try:
        hang.write_text(HANG)
        systemctl("daemon-reload")
        system.configure("a")
        system.start_servers("a")
        system.start_daemon()
        if by is signal.SIGSTOP:
            time.sleep(3.0)
            assert show("sleepd.service", "NRestarts") == "0", "signs of life come often enough"
        pid = system.daemon_pid()
        os.kill(pid, by)
        wait_until(lambda: system.daemon_pid() not in (0, pid), "a new sleepd", LIMIT_S)
        assert show("sleepd.service", "NRestarts") == "1"
        wait_until(lambda: show("sleepd.service", "ActiveState") == "active", "it to be ready", LIMIT_S)
        system.await_model("a", state="awake")
        said = "\n".join(str(line["MESSAGE"]) for line in system.journal())
        assert "Fatal Python error: Aborted" in said
        assert by is signal.SIGSTOP or "in <lambda>" in said, "where it hung"
    finally:
        hang.unlink(missing_ok=True)
        placed.unlink()
        systemctl("daemon-reload")


def test_killed_in_a_wake_it_goes_on_where_it_was(system: System) -> None:
    system.configure("a", "b")
    a, b = system.start_servers("a", "b")
    right = {server.name: server.complete() for server in (a, b)}
    system.start_daemon()
    system.client.sleep("a")
    assert a.held_bytes() == ASLEEP_BYTES
    a.arm("hang", path="/wake_up")
    system.client.wake("a", wait=False)
    wait_until(lambda: a.state()["armed"] == [], "the call to reach the server", LIMIT_S)
    pid = system.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: system.daemon_pid() not in (0, pid), "a new sleepd", LIMIT_S)
    a.release()
    wait_until(lambda: show("sleepd.service", "ActiveState") == "active", "it to be ready", LIMIT_S)
    for server in (a, b):
        found = system.await_model(server.name, state="awake")
        assert found["failure"] is None
        assert server.complete() == right[server.name]
    assert a.held_bytes() == AWAKE_BYTES
    wait_until(lambda: system.client.status().body["tasks"] == [], "what was begun to end", LIMIT_S)


def test_an_end_that_wakes_sleepers_has_the_time_for_it(system: System) -> None:
    placed = system.drop_in("sleepd.service", "zz-test", "[Service]\nTimeoutStopSec=2s\n")
    try:
        systemctl("daemon-reload")
        system.configure("a")
        CONFIG.write_text(CONFIG.read_text().replace("[daemon]", '[daemon]\non_stop = "wake"'))
        (a,) = system.start_servers("a", arguments="--wake-seconds 4")
        system.start_daemon()
        system.client.sleep("a")
        systemctl("stop", "sleepd.service")
        assert show("sleepd.service", "Result") == "success"
        assert a.held_bytes() == AWAKE_BYTES
    finally:
        placed.unlink()
        systemctl("daemon-reload")
