"""A sleep or a wake that fails half-way: put right by the recipe of the release, or told as failed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, Daemon, Host, Server
from tests.integration.waiting import wait_until


def start(host: Host, version: str) -> tuple[Daemon, Server, str]:
    host.configure("a")
    (a,) = host.start_servers("a", version=version)
    before = a.complete()
    return host.start_daemon(), a, before


@pytest.mark.parametrize("version", ["0.28.0", "0.32.0"])
def test_a_failed_sleep_is_finished_by_the_recipe(host: Host, version: str) -> None:
    daemon, a, before = start(host, version)
    a.arm("fail_sleep", blocks=3)
    answer = daemon.ask("POST", "/v1/models/a/sleep", {"timeout_s": 20})
    assert answer.status == 200, answer
    failure = daemon.events.await_one("failure", "a")
    assert "sleep" in failure["text"]
    assert a.held_bytes() == ASLEEP_BYTES
    assert a.calls("/sleep") == {"5xx": 1, "2xx": 1}
    assert daemon.client.wake("a").status == 200
    assert a.held_bytes() == AWAKE_BYTES
    assert a.complete() == before


# From 0.31 on it is repeated in two stages.
@pytest.mark.parametrize(("version", "calls"), [("0.28.0", 1), ("0.32.0", 2)])
def test_a_failed_wake_is_repeated_by_the_recipe(host: Host, version: str, calls: int) -> None:
    daemon, a, before = start(host, version)
    daemon.client.sleep("a")
    a.arm("fail_wake", blocks=2)
    answer = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 20})
    assert answer.status == 200, answer
    assert a.calls("/wake_up") == {"5xx": 1, "2xx": calls}
    assert a.held_bytes() == AWAKE_BYTES
    assert a.complete() == before
    assert daemon.model("a")["failure"] is None


def test_a_wake_that_goes_on_failing_is_put_back_and_told(host: Host) -> None:
    host.configure("a", extra="[recovery]\nretries = 1")
    (a,) = host.start_servers("a", version="0.28.0")
    before, daemon = a.complete(), host.start_daemon()
    daemon.client.sleep("a")
    a.arm("fail_wake", blocks=2, times=2)
    answer = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 20})
    assert (answer.status, answer.data["kind"]) == (503, "engine_failed")
    assert "500" in answer.data["detail"]
    daemon.await_model("a", state="asleep", level=1)
    assert a.held_bytes() == ASLEEP_BYTES
    assert daemon.client.wake("a").status == 200
    assert a.complete() == before


@pytest.mark.parametrize("which", ["sleep", "wake"])
def test_releases_without_a_repair_are_told_as_failed_and_left_alone(host: Host, which: str) -> None:
    """0.22: a second call after a half-done one kills the engine, so none is sent and the operator is told."""
    daemon, a, _ = start(host, "0.22.0")
    if which == "wake":
        daemon.client.sleep("a")
    a.arm(f"fail_{which}", blocks=2)
    answer = daemon.ask("POST", f"/v1/models/a/{which}", {"timeout_s": 20})
    assert (answer.status, answer.data["kind"]) == (503, "engine_failed")
    assert "restart the server" in answer.data["detail"]
    failed = daemon.await_model("a", state="failed")
    assert failed["failure"]["code"] == f"{which}_refused"
    daemon.events.await_one("failure", "a")
    path = "/sleep" if which == "sleep" else "/wake_up"
    assert a.calls(path) == {"5xx": 1}
    again = daemon.ask("POST", "/v1/models/a/wake", {})
    assert (again.status, again.data["kind"]) == (503, "failed")
    assert "sleepctl reset a" in again.data["hint"]
    assert a.calls(path) == {"5xx": 1}


def test_a_failed_sleep_that_released_nothing_is_resumed(host: Host) -> None:
    daemon, a, before = start(host, "0.22.0")
    a.arm("fail_sleep", blocks=0)
    answer = daemon.ask("POST", "/v1/models/a/sleep", {"timeout_s": 20})
    assert (answer.status, answer.data["kind"]) == (503, "engine_failed")
    daemon.await_model("a", state="awake")
    assert a.held_bytes() == AWAKE_BYTES
    assert a.complete() == before


@pytest.mark.parametrize(("which", "fault"), [("sleep", "lose_after"), ("wake", "lose_after"), ("wake", "lose_before")])
def test_a_lost_answer_is_settled_by_looking(host: Host, which: str, fault: str) -> None:
    """Carried out or not, the call is in effect exactly once afterwards."""
    daemon, a, before = start(host, "0.32.0")
    if which == "wake":
        daemon.client.sleep("a")
    a.arm(fault)
    answer = daemon.ask("POST", f"/v1/models/a/{which}", {"timeout_s": 20})
    assert answer.status == 200, answer
    daemon.events.await_one("unanswered", "a")
    assert a.calls("/sleep" if which == "sleep" else "/wake_up") == {"2xx": 1}
    assert a.held_bytes() == (ASLEEP_BYTES if which == "sleep" else AWAKE_BYTES)
    daemon.client.wake("a")
    assert a.complete() == before


def test_a_sleep_that_never_reached_the_engine_leaves_it_awake(host: Host) -> None:
    daemon, a, before = start(host, "0.32.0")
    a.arm("lose_before")
    answer = daemon.ask("POST", "/v1/models/a/sleep", {"timeout_s": 20})
    assert (answer.status, answer.data["kind"]) == (503, "engine_failed")
    assert "never carried out" in answer.data["detail"]
    daemon.events.await_one("found_out", "a")
    daemon.await_model("a", state="awake")
    assert a.calls("/sleep") == {}
    assert a.complete() == before


def test_a_sleep_that_a_direct_request_holds_up_is_cut_short_by_force(host: Host) -> None:
    """The request slips in before the call to sleep, and would go on for minutes."""
    host.configure("a", extra='[recovery]\nlate_drain = "200ms"')
    (a,) = host.start_servers("a")
    before, leaves = a.complete(), host.root / "leaves"
    daemon = host.start_daemon(program="tests.integration.dawdling", SLEEPD_DAWDLE=str(leaves))
    body = {"model": "a", "prompt": "hi", "max_tokens": 1000, "vllm_xargs": {"pace_ms": 200.0}}
    with ThreadPoolExecutor(2) as pool:
        asleep = pool.submit(daemon.ask, "POST", "/v1/models/a/sleep", {"force": True})
        wait_until(leaves.exists, "the call to sleep to be about to leave")
        direct = pool.submit(a.ask, "POST", "/v1/completions", body)
        wait_until(lambda: a.state()["in_flight_requests"] == 1, "the request to be in the engine")
        leaves.unlink()
        assert asleep.result().status == 200
        assert direct.result().data["choices"][0]["finish_reason"] == "abort"
    assert "cut short" in daemon.events.await_one("cut", "a")["text"]
    assert a.calls("/sleep") == {"2xx": 2}
    assert a.held_bytes() == ASLEEP_BYTES
    assert daemon.client.wake("a").status == 200
    assert a.complete() == before


def test_a_failed_reload_is_repeated_before_anything_is_served(host: Host) -> None:
    host.configure("a", a={"max_level": 2})
    (a,) = host.start_servers("a")
    before, daemon = a.complete(), host.start_daemon()
    wait_until(lambda: daemon.events.of("level2_proven", "a"), "the checked cycle")
    daemon.client.sleep("a", level=2)
    a.arm("fail_reload")
    answer = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 20})
    assert answer.status == 200
    assert a.calls("/collective_rpc") == {"2xx": 2, "5xx": 1}
    assert a.complete() == before
