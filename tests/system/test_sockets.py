"""Sockets that systemd opens: sleepd is started by who asks, and who asks while it restarts is not lost."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fake_server import PROMPT
from tests.integration.waiting import wait_until
from tests.system.callers import Callers, Connection, ask
from tests.system.inside import LIMIT_S, SOCKET, Server, System, show, systemctl

GATEWAY = 8800
REQUEST = {"model": "a", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
RETRYABLE = "503 Retry-After 5"


def open_sockets(system: System) -> Server:
    system.configure("a")
    (a,) = system.start_servers("a")
    systemctl("start", "sleepd.socket", "sleepd-gateway.socket")
    return a


@pytest.mark.parametrize(
    ("where", "question"),
    [(SOCKET, ("GET", "/v1/status")), (GATEWAY, ("POST", "/v1/completions", REQUEST))],
    ids=["api", "gateway"],
)
def test_the_first_who_asks_starts_it(system: System, where: Path | int, question: tuple[object, ...]) -> None:
    open_sockets(system)
    assert show("sleepd.service", "ActiveState") == "inactive"
    assert ask(where, *question) == "200"  # type: ignore[arg-type]
    assert show("sleepd.service", "ActiveState") == "active"


def test_both_sockets_are_told_apart_by_their_names(system: System) -> None:
    open_sockets(system)
    system.start_daemon()
    assert ask(GATEWAY, "GET", "/v1/status") == "404"
    assert ask(GATEWAY, "GET", "/v1/models") == "200"
    assert ask(SOCKET, "GET", "/v1/status") == "200"


def test_a_socket_by_another_name_is_refused_in_words(system: System) -> None:
    placed = system.drop_in("sleepd.socket", "zz-test", "[Socket]\nFileDescriptorName=other\n")
    try:
        systemctl("daemon-reload")
        assert systemctl("start", "sleepd.service", check=False).returncode != 0
        said = wait_until(lambda: system.journal("PRIORITY=3"), "the error to be told", LIMIT_S)
        assert "passed a socket as 'other'" in said[0]["MESSAGE"]
    finally:
        placed.unlink()
        systemctl("stop", "sleepd.service", "sleepd.socket")
        systemctl("daemon-reload")


def test_the_gateway_is_opened_later_where_all_is_started_anew(system: System) -> None:
    system.configure("a")
    system.start_servers("a")
    system.start_daemon()
    assert ask(GATEWAY, "GET", "/v1/models") == "ConnectionRefusedError"
    # While the service runs, systemd opens no further socket for it.
    systemctl("stop", "sleepd.service", "sleepd.socket")
    systemctl("start", "sleepd.socket", "sleepd-gateway.socket", "sleepd.service")
    assert ask(GATEWAY, "GET", "/v1/models") == "200"


def test_no_request_is_lost_over_restarts(system: System) -> None:
    """Every request is answered: none is refused, by us or by the kernel, cut off, or left alone."""
    open_sockets(system)
    system.start_daemon()
    inference = Callers(GATEWAY, "POST", "/v1/completions", REQUEST, threads=4)
    looks = Callers(SOCKET, "GET", "/v1/status", threads=2)
    with inference, looks:
        for _ in range(3):
            time.sleep(0.5)
            systemctl("restart", "sleepd.service")
        wait_until(lambda: system.ask("GET", "/readyz").status == 200, "it to be ready", LIMIT_S)
        time.sleep(0.5)
    assert set(looks.ends) == {"200"}, looks.ends
    assert set(inference.ends) == {"200"}, inference.ends
    assert inference.ends["200"] > 20, inference.ends


def test_who_is_held_at_a_restart_is_answered_after_it(system: System) -> None:
    """At the gateway; a wish over the socket API is told to come again."""
    a = open_sockets(system)
    system.start_daemon()
    system.client.sleep("a")
    a.arm("hang", path="/wake_up")
    ends: dict[str, str] = {}

    def call(name: str, *question: object) -> None:
        ends[name] = ask(*question)  # type: ignore[arg-type]

    threads = [
        threading.Thread(target=call, args=("gateway", GATEWAY, "POST", "/v1/completions", REQUEST)),
        threading.Thread(target=call, args=("api", SOCKET, "POST", "/v1/models/a/wake", {})),
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: a.state()["armed"] == [], "the wake to reach the server", LIMIT_S)
    wait_until(lambda: system.model("a")["queued"] == 2, "both to be waited for", LIMIT_S)
    systemctl("restart", "sleepd.service")
    wait_until(lambda: ends == {"api": RETRYABLE}, "the API's caller to be told", LIMIT_S)
    wait_until(lambda: system.model("a")["queued"] == 1, "the gateway's to be waited for again", LIMIT_S)
    a.release()
    for thread in threads:
        thread.join(LIMIT_S)
    assert ends == {"gateway": "200", "api": RETRYABLE}
    assert system.await_model("a", state="awake")["failure"] is None
    (left,) = system.journal("SLEEPD_KIND=left")
    assert left["MESSAGE"] == "connections left to the next run: 1, requests that wait on them: 1"


def test_an_answer_that_runs_is_finished_before_a_restart(system: System) -> None:
    """Who connects meanwhile, who is kept alive, and who asks on such a connection: all go to the next run."""
    system.configure("a")
    (a,) = system.start_servers("a", arguments="--pace-ms 100")
    systemctl("start", "sleepd.socket", "sleepd-gateway.socket")
    system.start_daemon()
    long, streamed, ends = REQUEST | {"max_tokens": 30, "stream": True}, [], []
    with contextlib.closing(Connection(GATEWAY)) as kept:
        kept.request("GET", "/v1/models")
        kept.getresponse().read()
        pid, sock = system.daemon_pid(), kept.sock
        streaming = threading.Thread(target=lambda: streamed.append(stream(GATEWAY, long)))
        streaming.start()
        wait_until(lambda: a.state()["in_flight_requests"] == 1, "the stream to run", LIMIT_S)
        restarting = threading.Thread(target=systemctl, args=("restart", "sleepd.service"))
        restarting.start()
        wait_until(lambda: show("sleepd.service", "SubState") == "stop-sigterm", "it to be told to end", LIMIT_S)
        kept.request("POST", "/v1/completions", json.dumps(REQUEST), {"Content-Type": "application/json"})
        late = threading.Thread(target=lambda: ends.append(ask(GATEWAY, "POST", "/v1/completions", REQUEST)))
        late.start()
        streaming.join(LIMIT_S)
        (answer,) = streamed
        assert answer.count("data: ") > 20
        assert answer.endswith("data: [DONE]\n\n")
        restarting.join(LIMIT_S)
        assert system.daemon_pid() not in (0, pid)
        response = kept.getresponse()
        assert (response.status, kept.sock) == (200, sock), "on the same connection"
        late.join(LIMIT_S)
        assert ends == ["200"], "by the next run, or by this one if it connected before the signal was taken"


def stream(where: int, body: dict[str, Any]) -> str:
    """Return everything of a stream's answer."""
    connection = Connection(where)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()
