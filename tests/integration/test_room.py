"""Two models that do not fit together, and what a wake without room is told."""

from __future__ import annotations

import os

from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, GIB, GPU_BYTES, Daemon, Host, Server
from tests.integration.waiting import wait_until


def start_two_that_do_not_fit(host: Host) -> tuple[Daemon, Server, Server]:
    """Return a daemon with `a` asleep and `b` awake: each needs more than half of the GPU."""
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    assert daemon.client.sleep("a").status == 200
    (b,) = host.start_servers("b")
    daemon.await_model("b", state="awake")
    return daemon, a, b


def assert_no_call_failed(*servers: Server) -> None:
    for server in servers:
        for path in ("/sleep", "/wake_up", "/collective_rpc"):
            assert server.calls(path).keys() <= {"2xx"}, (server.name, path)
        assert server.state()["alive"]


def await_free(daemon: Daemon, free_bytes: int) -> None:
    """A reading admits or refuses for half a second: wait until the daemon has read what is true now."""
    gpu = "what the GPU has free to be read"
    wait_until(lambda: daemon.client.status().body["gpus"][0]["free_bytes"] == free_bytes, gpu)


def test_waking_one_puts_the_other_to_sleep_first(host: Host) -> None:
    host.configure("a", "b")
    daemon, a, b = start_two_that_do_not_fit(host)
    right = {"b": daemon.watch_use(b)}

    assert daemon.client.wake("a").status == 200
    right["a"] = daemon.watch_use(a)
    assert (a.held_bytes(), b.held_bytes()) == (AWAKE_BYTES, ASLEEP_BYTES)
    assert daemon.events.await_one("victim", "a")["data"]["victim"] == "b"
    daemon.events.await_one("task_begun", "b", cause="victim:a")

    for name, server, other in (("b", b, a), ("a", a, b), ("b", b, a)):
        assert daemon.client.wake(name).status == 200
        assert daemon.watch_use(server) == right[name]
        assert other.held_bytes() == ASLEEP_BYTES
    assert_no_call_failed(a, b)


def test_both_wanted_at_once_are_served_one_after_the_other_without_oom(host: Host) -> None:
    host.configure("a", "b")
    daemon, a, b = start_two_that_do_not_fit(host)
    for name in ("a", "b", "a", "b"):
        answer = daemon.ask("POST", f"/v1/models/{name}/wake", {"wait": False, "timeout_s": 10})
        assert answer.status in (200, 202)

    def settled() -> bool:
        status = daemon.client.status().body
        states = sorted(model["state"] for model in status["models"])
        return not status["tasks"] and not any(m["queued"] for m in status["models"]) and states == ["asleep", "awake"]

    wait_until(settled, "one of them to be awake and nobody to wait")
    assert_no_call_failed(a, b)
    assert host.gpu().used_bytes <= AWAKE_BYTES + ASLEEP_BYTES


def test_a_pinned_neighbour_is_not_put_to_sleep_and_the_refusal_says_the_bytes(host: Host) -> None:
    host.configure("a", "b", b={"pinned": True})
    daemon, a, b = start_two_that_do_not_fit(host)
    answer = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 5})
    assert (answer.status, answer.data["kind"]) == (409, "no_room")
    assert answer.data["wanted"] == "46GiB"
    assert "31GiB free" in answer.data["found"]
    assert "b: it is pinned" in answer.data["detail"]
    assert answer.data["hint"]
    assert b.complete()
    assert a.calls("/wake_up") == {}


def test_memory_that_a_stranger_holds_is_counted(host: Host) -> None:
    """Somebody else's job took the GPU while the model slept: no call is sent that could only end in OOM."""
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    stranger = os.getpid()
    host.ledger.claim(0, stranger, 50 * GIB)
    await_free(daemon, GPU_BYTES - 50 * GIB - ASLEEP_BYTES)
    answer = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 5})
    assert (answer.status, answer.data["kind"]) == (409, "no_room")
    assert a.calls("/wake_up") == {}
    host.ledger.claim(0, stranger, 0)
    await_free(daemon, GPU_BYTES - ASLEEP_BYTES)
    assert daemon.client.wake("a").status == 200
    assert_no_call_failed(a)
