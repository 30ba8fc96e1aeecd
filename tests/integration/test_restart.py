"""A restart of the real daemon, under what is to it a service manager: nobody at the gateway notices it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.fake_server import PROMPT
from tests.integration.harness import Host
from tests.integration.manager import ServiceManager
from tests.integration.test_gateway import complete, text_of
from tests.integration.waiting import wait_until


@pytest.fixture
def manager(host: Host) -> Iterator[ServiceManager]:
    started = ServiceManager(host)
    try:
        yield started
    finally:
        started.close()


@pytest.mark.waits_long
def test_held_and_streaming_clients_get_their_answers_over_restarts(host: Host, manager: ServiceManager) -> None:
    host.configure("a", "b")
    (a, b) = host.start_servers("a", "b", options=("--pace-ms", "100", "--kv", "10GiB"))
    manager.start()
    right = {"a": a.complete(), "b": b.complete()}
    assert manager.client.sleep("a").status == 200
    a.arm("hang", path="/wake_up")
    with ThreadPoolExecutor(13) as pool:
        held = [pool.submit(complete, manager.gateway, "a") for _ in range(12)]
        wait_until(lambda: a.state()["armed"] == [], "the wake to reach the server")
        wait_until(lambda: manager.client.model("a").body["queued"] == 12, "all to be held")
        running = pool.submit(complete, manager.gateway, "b", max_tokens=40, stream=True)
        wait_until(lambda: b.state()["in_flight_requests"] == 1, "the stream to run")
        for _ in range(2):
            manager.restart()
            wait_until(lambda: manager.client.model("a").body["queued"] == 12, "all to be held again")
        assert running.result().text.endswith("data: [DONE]\n\n")
        assert not any(future.done() for future in held)
        a.release()
        assert {text_of(future.result()) for future in held} == {right["a"]}
    assert a.calls("/wake_up") == {"2xx": 1}, "the wake went on, and was not sent again"
    assert text_of(complete(manager.gateway, "b")) == right["b"]
    assert (a.state()["asked_asleep"], b.state()["asked_asleep"]) == (0, 0)


@pytest.mark.waits_long
def test_what_runs_past_us_keeps_its_model_awake_over_a_restart(host: Host, manager: ServiceManager) -> None:
    host.configure("a", idle="1s")
    (a,) = host.start_servers("a", options=("--pace-ms", "100"))
    manager.start()
    told: list[str] = []
    asked = {"model": "a", "prompt": PROMPT, "max_tokens": 60, "temperature": 0}
    past = threading.Thread(target=lambda: told.append(a.ask("POST", "/v1/completions", asked).text))
    past.start()
    wait_until(lambda: a.state()["in_flight_requests"] == 1, "it to run")
    manager.restart()
    past.join(30.0)
    assert json.loads(told[0])["choices"][0]["finish_reason"] == "length"
    assert not a.calls("/sleep"), "its server's counters were read before anything was decided"
    wait_until(lambda: manager.client.model("a").body["state"] == "asleep", "it to nap once it idles")


def test_a_stop_tells_who_waits_to_come_again(host: Host, manager: ServiceManager) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    manager.start()
    assert manager.client.sleep("a").status == 200
    a.arm("hang", path="/wake_up")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(complete, manager.gateway, "a")
        wait_until(lambda: a.state()["armed"] == [], "the wake to reach the server")
        manager.stop()
        assert held.result().status == 503
        assert held.result().data["error"]["code"] == "stopping"
    a.release()
