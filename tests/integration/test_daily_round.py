"""The main job: an idle model falls asleep by rule, wakes over the socket, and answers as before."""

from __future__ import annotations

import threading

from tests.integration.fake_server import PROMPT
from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, Host
from tests.integration.waiting import wait_until


def test_an_idle_model_falls_asleep_by_rule_and_wakes_on_demand(host: Host) -> None:
    host.configure("a", idle="1s")
    (a,) = host.start_servers("a")
    before = a.complete()
    daemon = host.start_daemon()
    assert daemon.model("a")["state"] == "awake"

    daemon.events.await_one("rule", "a")
    daemon.await_model("a", state="asleep", level=1)
    begun = daemon.events.await_one("task_begun", "a")
    assert begun["data"]["cause"] == "rule:nap"
    assert "rule nap" in begun["text"]
    daemon.events.await_one("state", "a", to="asleep_l1")
    assert a.held_bytes() == ASLEEP_BYTES
    assert host.gpu().used_bytes == ASLEEP_BYTES
    assert a.calls("/sleep") == {"2xx": 1}

    answer = daemon.ask("POST", "/v1/models/a/wake", {"timeout_s": 10})
    assert answer.status == 200
    assert answer.data["model"]["state"] == "awake"
    assert answer.data["model"]["last_wake"]["ok"] is True
    assert a.held_bytes() == AWAKE_BYTES
    assert a.complete() == before


def test_one_wake_serves_all_who_wait(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a", options=("--wake-seconds", "0.5"))
    daemon = host.start_daemon()
    assert daemon.client.sleep("a").status == 200
    answers: list[int] = []
    callers = [
        threading.Thread(target=lambda: answers.append(daemon.ask("POST", "/v1/models/a/wake", {}).status))
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert answers == [200] * 8
    assert a.calls("/wake_up") == {"2xx": 1}


def test_direct_traffic_keeps_a_model_awake(host: Host) -> None:
    """Requests past the daemon move vLLM's counters, and that is use: the neighbour, equally idle, does fall asleep."""
    host.configure("a", "b", idle="1s")
    a, b = host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    daemon = host.start_daemon()

    def asleep_while_a_is_used() -> bool:
        a.complete()
        return daemon.model("b")["state"] == "asleep"

    wait_until(asleep_while_a_is_used, "b to fall asleep")
    a.complete()
    assert daemon.model("a")["state"] == "awake"
    assert a.calls("/sleep") == {}
    assert b.calls("/sleep") == {"2xx": 1}
    daemon.await_model("a", state="asleep")


def test_a_request_to_a_sleeper_waits_inside_vllm_until_the_wake(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    before = a.complete()
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    answers: list[str] = []
    direct = threading.Thread(target=lambda: answers.append(a.complete(PROMPT)))
    direct.start()
    wait_until(lambda: a.state()["in_flight_requests"] == 1, "the request to wait in vLLM")
    assert daemon.client.wake("a").status == 200
    direct.join(10)
    assert answers == [before]


def test_sleep_and_wake_say_what_was_done_already(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    assert daemon.ask("POST", "/v1/models/a/wake", {}).data["task"] is None
    first = daemon.ask("POST", "/v1/models/a/sleep", {})
    again = daemon.ask("POST", "/v1/models/a/sleep", {})
    deeper = daemon.ask("POST", "/v1/models/a/sleep", {"level": 2})
    assert (first.status, first.data["model"]["level"]) == (200, 1)
    assert (again.status, again.data["model"]["level"]) == (200, 1)
    assert (deeper.status, deeper.data["kind"]) == (409, "needs_wake")
    assert a.calls("/sleep") == {"2xx": 1}
