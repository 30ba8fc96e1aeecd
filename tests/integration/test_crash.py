"""SIGKILL: of a server, and of the daemon at the awkward moments. The next start finishes what was begun.

Each daemon is killed while an engine call hangs inside vLLM, which goes on without its caller; every other moment of
every transition is in test_crash_matrix.py.
"""

from __future__ import annotations

import pytest

from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, Daemon, Host, Server
from tests.integration.waiting import wait_until


def ask_and_kill(daemon: Daemon, model: str, what: str, server: Server, path: str, **body: int) -> None:
    """Ask for a transition whose call of `path` hangs at `server`, and kill the daemon once that call was sent."""
    server.arm("hang", path=path)
    assert daemon.ask("POST", f"/v1/models/{model}/{what}", {"wait": False, "timeout_s": 30, **body}).status == 202
    wait_until(lambda: server.state()["armed"] == [], f"{path} to reach {server.name}")
    daemon.kill()


def assert_settled(daemon: Daemon, *servers: Server) -> None:
    """Nobody failed, no task is left, and what each model holds is what its state says."""
    status = daemon.client.status().body
    assert status["tasks"] == []
    held = {0: AWAKE_BYTES, 1: ASLEEP_BYTES, 2: ASLEEP_BYTES}
    for server in servers:
        model = daemon.model(server.name)
        assert model["failure"] is None, model
        assert server.held_bytes() == held[model["level"]], model
        assert server.state()["alive"]


@pytest.mark.parametrize("goes_on", ["before the next start", "after the next start"])
def test_daemon_killed_mid_sleep(host: Host, goes_on: str) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    before, daemon = a.complete(), host.start_daemon()
    ask_and_kill(daemon, "a", "sleep", a, "/sleep")
    if goes_on == "before the next start":
        a.release()
        wait_until(lambda: a.held_bytes() == ASLEEP_BYTES, "the sleep to end")
    daemon = host.start_daemon(ready=False)
    daemon.hear("READY=1")
    a.release()
    daemon.await_model("a", state="asleep", level=1)
    assert_settled(daemon, a)
    assert a.calls("/sleep") == {"2xx": 1}
    assert daemon.client.wake("a").status == 200
    assert a.complete() == before


@pytest.mark.parametrize("goes_on", ["before the next start", "after the next start"])
def test_daemon_killed_mid_wake(host: Host, goes_on: str) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    before, daemon = a.complete(), host.start_daemon()
    daemon.client.sleep("a")
    ask_and_kill(daemon, "a", "wake", a, "/wake_up")
    if goes_on == "before the next start":
        a.release()
        wait_until(lambda: a.held_bytes() == AWAKE_BYTES, "the wake to end")
    daemon = host.start_daemon(ready=False)
    daemon.hear("READY=1")
    a.release()
    daemon.await_model("a", state="awake")
    assert_settled(daemon, a)
    assert a.calls("/wake_up") == {"2xx": 1}
    assert a.complete() == before


def test_a_server_killed_is_told_as_lost_and_taken_in_when_it_is_back(host: Host) -> None:
    host.configure("a", "b")
    a, b = host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    a.kill()
    lost = daemon.await_model("a", state="lost")
    assert lost["failure"]["code"] == "lost"
    assert str(a.path) in lost["failure"]["detail"]
    daemon.events.await_one("state", "a", to="lost")
    refused = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 5})
    assert (refused.status, refused.data["kind"]) == (503, "engine_failed")
    assert refused.data["detail"] == lost["failure"]["detail"]
    assert "start the server" in refused.data["hint"]
    assert daemon.model("b")["state"] == "awake"

    (a,) = host.start_servers("a")
    daemon.await_model("a", state="awake")
    daemon.events.await_one("restarted", "a")
    assert daemon.model("a")["failure"] is None
    assert daemon.client.sleep("a").status == 200
    assert a.held_bytes() == ASLEEP_BYTES
    assert b.calls("/sleep") == {}


def test_a_server_killed_in_the_middle_of_its_wake(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    a.arm("hang", path="/wake_up")
    assert daemon.ask("POST", "/v1/models/a/wake", {"wait": False, "timeout_s": 30}).status == 202
    wait_until(lambda: a.state()["armed"] == [], "the wake to be sent")
    a.kill()
    daemon.await_model("a", state="lost")
    (a,) = host.start_servers("a")
    daemon.await_model("a", state="awake")
    assert a.calls("/wake_up") == {}
    assert_settled(daemon, a)


def test_what_happened_while_the_daemon_was_away_is_believed_from_the_server(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    assert daemon.terminate() == 0
    a.kill()
    host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake", failure=None)
