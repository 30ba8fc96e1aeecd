"""The real daemon with its gateway: requests for models that cannot be awake together, and an orderly stop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.fake_server import PROMPT
from tests.integration.harness import Daemon, Host
from tests.integration.test_room import start_two_that_do_not_fit
from tests.integration.waiting import wait_until
from tests.integration.wire import Answer, send


def listen(host: Host, *models: str, **keys: str) -> Path:
    """Configure models behind a gateway, and return its socket."""
    path = host.root / "g.sock"
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    host.configure(*models, extra=f'[gateway]\nlisten = ["unix:{path}"]\n{more}')
    return path


def complete(gateway: Path, model: str, **more: Any) -> Answer:
    body = {"messages": [], "prompt": PROMPT, "model": model, "max_tokens": 8, "temperature": 0, **more}
    return send(gateway, "POST", "/v1/completions", body, limit_s=60.0)


def text_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    return str(answer.data["choices"][0]["text"])


def test_requests_wake_their_models_in_turn_and_every_answer_is_right(host: Host) -> None:
    gateway = listen(host, "a", "b")
    daemon, a, b = start_two_that_do_not_fit(host)
    events = daemon.events
    right = {"b": b.complete()}
    right["a"] = text_of(complete(gateway, "a"))
    assert daemon.model("a")["state"] == "awake"
    for name in ("b", "a", "b"):
        assert text_of(complete(gateway, name)) == right[name]
    for server in (a, b):
        assert server.state()["alive"]
        assert server.calls("/wake_up").keys() <= {"2xx"}
    wait_until(lambda: len(events.of("task_begun", cause="request:gateway")) == 4, "four wakes by request to be told")


def test_one_wake_for_all_who_wait(host: Host) -> None:
    gateway = listen(host, "a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")
    assert daemon.client.sleep("a").status == 200
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: complete(gateway, "a"), range(24)))
    assert len({text_of(answer) for answer in answers}) == 1
    assert a.calls("/wake_up") == {"2xx": 1}


def test_models_are_listed_asleep_ones_too(host: Host) -> None:
    gateway = listen(host, "a", "b")
    start_two_that_do_not_fit(host)
    listed = {entry["id"]: entry["sleepd"] for entry in send(gateway, "GET", "/v1/models").data["data"]}
    assert (listed["a"]["state"], listed["a"]["level"]) == ("asleep", 1)
    assert (listed["b"]["state"], listed["b"]["level"], listed["b"]["eta_s"]) == ("awake", 0, 0)


def test_a_dead_model_is_refused_at_once(host: Host) -> None:
    gateway = listen(host, "a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")
    a.kill()
    daemon.await_model("a", state="lost")
    refused = complete(gateway, "a")
    assert refused.status == 503
    assert refused.data["error"]["code"] == "engine_failed"


def test_a_stop_lets_what_runs_finish_and_refuses_the_rest(host: Host) -> None:
    gateway = listen(host, "a")
    (a,) = host.start_servers("a", options=("--pace-ms", "100"))
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")
    ended: list[Answer] = []
    running = threading.Thread(target=lambda: ended.append(complete(gateway, "a", max_tokens=20)))
    running.start()
    wait_until(lambda: a.state()["in_flight_requests"] == 1, "the request to run")
    stopping = threading.Thread(target=daemon.terminate)
    stopping.start()
    running.join(30.0)
    stopping.join(30.0)
    assert text_of(ended[0])
    assert daemon.wait() == 0
    assert not gateway.exists()


def test_a_reload_changes_who_may_come_in(host: Host) -> None:
    gateway = listen(host, "a")
    host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")
    assert complete(gateway, "a").status == 200
    keys = host.root / "keys"
    keys.write_text("me:a-long-secret\n")
    keys.chmod(0o600)
    listen(host, "a", api_keys_file=f'"{keys}"')
    assert reload(daemon).status == 200
    assert complete(gateway, "a").status == 401


def reload(daemon: Daemon) -> Answer:
    return daemon.ask("POST", "/v1/reload", {})
