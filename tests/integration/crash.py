"""A daemon killed in the middle of a transition, and what must be true once the next one has settled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from sleepd.client import DaemonUnreachable
from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, Daemon, Host, Server
from tests.integration.waiting import wait_until

SETTLE_S = 60.0
HELD_BYTES = {0: AWAKE_BYTES, 1: ASLEEP_BYTES, 2: ASLEEP_BYTES}
LINGER = ("--sleep-seconds", "1.5", "--wake-seconds", "1.5", "--reload-seconds", "1.5")
"""Long enough that a call which was out when the daemon died is still under way when the next one starts."""


@dataclass
class Plot:
    """One transition about to be begun on a host whose daemon can be doomed."""

    host: Host
    daemon: Daemon
    servers: dict[str, Server]
    right: dict[str, str] = field(default_factory=dict)
    """What each server answers while it is certainly well."""

    def ask(self, model: str, what: str, **body: object) -> None:
        """Whoever asks may be cut off by what comes."""
        wanted = {"wait": False, "timeout_s": 30, **body}
        with contextlib.suppress(HTTPException, ConnectionError):
            assert self.daemon.ask("POST", f"/v1/models/{model}/{what}", wanted).status in (200, 202)


@dataclass(frozen=True)
class Transition:
    """`prepare` leads to where it can begin, `begin` asks for it; `goal` is the state it leads to undisturbed."""

    name: str
    versions: tuple[str, ...]
    prepare: Callable[[Host, str, tuple[str, ...]], Plot]
    begin: Callable[[Plot], None]
    goal: dict[str, str]
    commits: int
    """At least this many commits speak of it, whatever the release; `calls` likewise go out to engines."""
    calls: int


def _start(host: Host, version: str, options: tuple[str, ...], **keys: dict[str, Any]) -> Plot:
    """One model, awake and known, under a daemon that can be doomed."""
    host.configure(*keys, **{name: {"fenced": True, **more} for name, more in keys.items()})
    servers = {name: host.start_servers(name, version=version, options=options)[0] for name in list(keys)[:1]}
    # Asked before there is a daemon: it would find the model in use.
    right = {name: server.complete() for name, server in servers.items()}
    daemon = host.start_daemon(program="tests.integration.doomed", SLEEPD_DOOM=str(host.root / "doom"))
    return Plot(host, daemon, servers, right)


def _awake(host: Host, version: str, options: tuple[str, ...]) -> Plot:
    return _start(host, version, options, a={})


def _asleep(host: Host, version: str, options: tuple[str, ...]) -> Plot:
    plot = _awake(host, version, options)
    assert plot.daemon.client.sleep("a").status == 200
    return plot


def _asleep_level_2(host: Host, version: str, options: tuple[str, ...]) -> Plot:
    plot = _start(host, version, options, a={"max_level": 2})
    plot.daemon.events.await_one("level2_proven", "a", limit_s=SETTLE_S)
    wait_until(lambda: plot.daemon.client.status().body["tasks"] == [], "the check to end")
    assert plot.daemon.ask("POST", "/v1/models/a/sleep", {"level": 2}).status == 200
    return plot


def _one_of_two(host: Host, version: str, options: tuple[str, ...]) -> Plot:
    """`a` sleeps, `b` is awake; each needs more than half of the GPU."""
    plot = _start(host, version, options, a={}, b={})
    assert plot.daemon.client.sleep("a").status == 200
    (b,) = host.start_servers("b", version=version, options=options)
    plot.servers["b"] = b
    plot.daemon.await_model("b", state="awake")
    plot.right["b"] = plot.daemon.watch_use(b)
    return plot


def _wake_that_fails(plot: Plot) -> None:
    plot.servers["a"].arm("fail_wake", blocks=2)
    plot.ask("a", "wake")


ALL = ("0.16.0", "0.22.1", "0.28.0", "0.32.0")
TRANSITIONS = (
    Transition("sleep", ALL, _awake, lambda plot: plot.ask("a", "sleep"), {"a": "asleep"}, 4, 2),
    Transition("level 1 wake", ALL, _asleep, lambda plot: plot.ask("a", "wake"), {"a": "awake"}, 2, 1),
    Transition("level 2 wake", ALL[1:], _asleep_level_2, lambda plot: plot.ask("a", "wake"), {"a": "awake"}, 6, 5),
    Transition(
        "wake with a victim", ALL, _one_of_two, lambda plot: plot.ask("a", "wake"), {"a": "awake", "b": "asleep"}, 5, 3
    ),
    Transition("failing wake", ALL, _asleep, _wake_that_fails, {}, 2, 1),
)
MOMENTS = ("before-commit", "after-commit", "sent", "answered", "sent, lingering")


def kill_in(transition: Transition, host: Host, version: str, moment: str, number: int) -> bool:
    """Kill the daemon at that moment of the transition, start the next one and check everything.

    Return False where the transition came to its end before that moment was reached.
    """
    plot = transition.prepare(host, version, LINGER if "lingering" in moment else ())
    (host.root / "doom.new").write_text(f"{moment.partition(',')[0]} {number}")
    (host.root / "doom.new").rename(host.root / "doom")
    transition.begin(plot)
    if not _died(plot, transition.goal):
        return False
    plot.daemon = host.start_daemon(ready=False)
    plot.daemon.hear("READY=1", SETTLE_S)
    settle(plot)
    prove_usable(plot)
    return True


def _died(plot: Plot, goal: dict[str, str]) -> bool:
    """Whether the daemon ended, rather than the transition. Only what the daemon says last decides: a transition that
    ended well is told before its last commit, and whoever asks for something then is answered after it."""
    child = plot.daemon.child

    def ended() -> str:
        if child.poll() is not None:
            return "died"
        try:
            status = plot.daemon.client.status().body
        except DaemonUnreachable:
            return ""
        states = {m["name"]: m["state"] for m in status["models"]}
        there = all(states[name] == state for name, state in goal.items()) and states["a"] not in ("waking", "unknown")
        done = not status["tasks"] and there and not any(m["queued"] for m in status["models"])
        return "done" if done and _is_answered(plot) else ""

    return wait_until(ended, "the daemon to die, or the transition to end", SETTLE_S) == "died"


def _is_answered(plot: Plot) -> bool:
    """Whether the daemon outlives a turn in which nothing of the transition happens."""
    try:
        return plot.daemon.client.unpin("a").status == 200
    except (DaemonUnreachable, HTTPException, ConnectionError):
        return False


def settle(plot: Plot) -> None:
    """Return once nothing is under way any more; whatever is said to be awake meanwhile must answer right."""
    quiet = 0

    def at_rest() -> bool:
        nonlocal quiet
        status = plot.daemon.client.status().body
        states = {m["name"]: m["state"] for m in status["models"]}
        for name, state in states.items():
            if state == "awake":
                assert_right_while_awake(plot, name)
        resting = not status["tasks"] and set(states.values()) <= {"asleep", "awake", "failed"}
        quiet = quiet + 1 if resting else 0
        # What is owed (a victim's wake) begins a turn after its cause ended.
        return quiet >= 5

    wait_until(at_rest, "everything to settle", SETTLE_S)
    for name, server in plot.servers.items():
        model = plot.daemon.model(name)
        if model["state"] == "failed":
            assert server.needs_restart(), f"given up without need: {model}"
        else:
            assert model["failure"] is None, model
            assert server.held_bytes() == HELD_BYTES[model["level"]], model
        assert server.state()["alive"], f"{name} is lost"


def assert_right_while_awake(plot: Plot, name: str) -> None:
    truth = plot.servers[name].state()
    if plot.daemon.model(name)["state"] == "awake":
        assert truth["answers_right"], f"{name} is awake and would serve garbage: {truth}"
        assert not truth["is_paused"], f"{name} is awake and holds its requests: {truth}"


def prove_usable(plot: Plot) -> None:
    """Every model can be had and answers as before; one that was given up is had after the restart it asks for."""
    for name, server in plot.servers.items():
        if plot.daemon.model(name)["state"] == "failed":
            server.kill()
            (plot.servers[name],) = plot.host.start_servers(name, version=server.version)
            plot.daemon.await_model(name, SETTLE_S, state="awake")
    for name in plot.servers:
        answer = plot.daemon.ask("POST", f"/v1/models/{name}/wake", {"timeout_s": 30}, limit_s=SETTLE_S)
        if answer.status != 200 and plot.servers[name].needs_restart():
            # The fault that was armed met this wake, not the one that died.
            return prove_usable(plot)
        assert answer.status == 200, answer
        assert plot.servers[name].complete() == plot.right[name]
        assert plot.servers[name].held_bytes() == AWAKE_BYTES
    return None
