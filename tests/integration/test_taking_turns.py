"""Two models that do not fit together and are both asked for all the time, through the real gateway."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.harness import Host
from tests.integration.test_gateway import complete, listen
from tests.integration.test_room import start_two_that_do_not_fit
from tests.integration.waiting import wait_until
from tests.integration.wire import Answer

CLIENTS = 3
TURNS = 2
"""Each model has that many before the clients leave."""


def keep_asking(gateway: Path, model: str, ended: threading.Event, answers: list[Answer]) -> None:
    """One client that always has a request at its model: answers of 0.4 s, one after the other."""
    while not ended.is_set():
        answers.append(complete(gateway, model, vllm_xargs={"pace_ms": 50}))


@pytest.mark.waits_long
def test_two_that_are_always_in_use_are_served_by_turns_and_told_when(host: Host) -> None:
    gateway = listen(host, "a", "b")
    host.configure(
        *("a", "b"),
        a={"min_awake": "1s", "max_wait": "4s"},
        b={"min_awake": "1s", "max_wait": "4s"},
        extra=f'[gateway]\nlisten = ["unix:{gateway}"]\n',
    )
    daemon, a, b = start_two_that_do_not_fit(host)
    events, ended = daemon.events, threading.Event()
    answers: dict[str, list[Answer]] = {"a": [], "b": []}
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        for name in ("b", "a"):
            for _ in range(CLIENTS):
                pool.submit(keep_asking, gateway, name, ended, answers[name])
        try:
            wait_until(lambda: "its turn" in daemon.model("a")["reason"], "a to be told of its turn")
            told = daemon.client.explain("b").body
            assert told["next"]["rule"] == "its turn" or told["state"] != "awake"
            wait_until(
                lambda: min(map(len, turns(events).values()), default=0) >= TURNS, "both to have their turns", 60.0
            )
        finally:
            ended.set()
    for name, server in (("a", a), ("b", b)):
        outcomes = Counter(answer.status for answer in answers[name])
        assert outcomes[200] > 2 * CLIENTS, outcomes
        # On a slow machine a turn may come too late for somebody; nothing is cut and nobody gets anything else.
        assert outcomes.keys() <= {200, 503}, outcomes
        texts = {answer.data["choices"][0]["text"] for answer in answers[name] if answer.status == 200}
        assert len(texts) == 1
        assert server.state()["alive"]
        assert server.calls("/sleep").keys() <= {"2xx"}
        assert server.calls("/wake_up").keys() <= {"2xx"}


def turns(events) -> dict[str, list[object]]:  # type: ignore[no-untyped-def]
    """The turns that each model has given up so far."""
    return {name: [e for e in events.of("turn_over") if e["model"] == name] for name in ("a", "b")}
