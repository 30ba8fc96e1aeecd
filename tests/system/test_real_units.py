"""Servers as real units, driven over systemd's bus by the user sleepd under its polkit rule."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from sleepd.client import ApiProblem
from sleepd.sim.ledger import Ledger
from tests.integration.fake_server import PROMPT
from tests.integration.waiting import wait_until
from tests.system.callers import ask
from tests.system.inside import AWAKE_BYTES, FAKE_VLLM, GIB, LEDGER, LIMIT_S, System, show, systemctl

GATEWAY = 8800
PRESSURE = """
[[rules]]
name = "host-ram-pressure"
when = { host_available_below = "10%", until = "15%" }
then = { sleep = 2 }
"""


def test_a_zombie_is_replaced_and_who_waits_is_answered_right(system: System) -> None:
    """vLLM 0.22 answers /health after a wake that failed half-way, and nothing but a restart helps it."""
    system.configure("a")
    (a,) = system.start_servers("a", arguments="--version 0.22.1")
    systemctl("start", "sleepd-gateway.socket")
    system.start_daemon()
    right, first, invocation = a.complete(), a.pid, show(a.unit, "InvocationID")
    system.client.sleep("a")
    a.arm("fail_wake", blocks=1)
    ends: list[str] = []
    body = {"model": "a", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    waiting = threading.Thread(target=lambda: ends.append(ask(GATEWAY, "POST", "/v1/completions", body)))
    waiting.start()
    waiting.join(2 * LIMIT_S)
    assert ends == ["200"]
    assert a.pid != first
    assert show(a.unit, "InvocationID") != invocation
    assert a.complete() == right
    assert Ledger(LEDGER).read()[0].used_by_pid == {a.pid: AWAKE_BYTES}, "the old process holds nothing"
    assert system.await_model("a", state="awake")["failure"] is None
    assert system.journal("MODEL=a", "SLEEPD_KIND=task_begun")


def test_a_server_that_is_killed_is_waited_for_while_systemd_starts_it(system: System) -> None:
    system.configure("a")
    (a,) = system.start_servers("a")
    system.start_daemon()
    right, first = a.complete(), a.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: a.pid not in (0, first) and a.answers(), "systemd to start it anew", LIMIT_S)
    system.await_model("a", state="awake")
    assert a.complete() == right
    assert show(a.unit, "NRestarts") == "1", "sleepd ordered no start of its own"


def test_stopped_on_purpose_it_stays_stopped_until_it_is_started(system: System) -> None:
    system.configure("a")
    (a,) = system.start_servers("a")
    right = a.complete()  # before anybody looks: a look that meets the request says "in use" until the next one
    system.start_daemon()
    system.await_model("a", state="awake")
    assert system.client.stop("a").status == 200
    assert show(a.unit, "ActiveState") == "inactive"
    assert not a.path.exists(), "its socket is gone with it"
    system.await_status("0 awake, 0 asleep, 1 stopped")
    assert system.client.start("a").status == 200
    assert a.complete() == right
    systemctl("stop", a.unit)
    system.await_model("a", state="stopped")
    with pytest.raises(ApiProblem) as refused:
        system.client.wake("a", timeout_s=5)
    assert refused.value.kind == "stopped"
    assert show(a.unit, "ActiveState") == "inactive"
    systemctl("start", a.unit)
    system.await_model("a", state="awake")


def test_short_of_ram_the_sleeper_used_least_recently_is_stopped(system: System) -> None:
    keys = {"may_stop": "true"}
    system.configure("a", "b", extra=PRESSURE, a=keys, b=keys)
    a, b = system.start_servers("a", "b")
    right = a.complete()
    system.start_daemon()
    b.complete()
    wait_until(lambda: system.model("b")["idle_s"] < system.model("a")["idle_s"], "the request to be seen", LIMIT_S)
    system.client.sleep("a")
    system.client.sleep("b")
    system.set_ram(10 * GIB)
    system.await_model("a", state="stopped")
    system.set_ram(60 * GIB)
    assert show(a.unit, "ActiveState") == "inactive"
    wait_until(lambda: "more than before" in str(system.journal("MODEL=a")), "the effect to be measured", LIMIT_S)
    assert system.model("b")["state"] == "asleep", "what it gave back was enough"
    assert show(b.unit, "ActiveState") == "active"
    # By a rule, not by a person: whoever wants it has it started.
    assert system.client.wake("a").status == 200
    assert a.complete() == right


MAY_KILL = """polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "sleepd" &&
        action.lookup("verb") == "kill") { return polkit.Result.YES; }
});
"""


def test_what_outlives_its_server_is_ended_where_the_rule_allows_it(system: System) -> None:
    """An engine core without its API server, under KillMode=process: nothing is started beside it."""
    begun = 'ExecStart=/bin/sh -c \'sleep 3600 & exec "$$0" "$$@"\' /usr/bin/sleepd'
    orphans = FAKE_VLLM.replace("ExecStart=/usr/bin/sleepd", begun) + "KillMode=process\nRestart=no\n"
    placed = system.drop_in("vllm@.service", "zz-test", orphans)
    rule = Path("/etc/polkit-1/rules.d/10-test-kill.rules")
    try:
        systemctl("daemon-reload")
        system.configure("a")
        (a,) = system.start_servers("a")
        system.start_daemon()
        system.await_model("a", state="awake")
        left = Path(f"/sys/fs/cgroup{show(a.unit, 'ControlGroup')}/cgroup.procs")
        first = a.pid
        os.kill(first, signal.SIGKILL)
        model = system.await_model("a", state="failed")
        assert model["failure"]["code"] == "not_permitted"
        (orphan,) = left.read_text().split()
        rule.write_text(MAY_KILL)
        wait_until(lambda: _is_started_after_a_reset(system), "the rule to be read", LIMIT_S)
        assert a.pid not in (0, first)
        assert orphan not in left.read_text().split()
    finally:
        rule.unlink(missing_ok=True)
        placed.unlink()
        systemctl("daemon-reload")


def _is_started_after_a_reset(system: System) -> bool:
    if system.model("a")["state"] == "failed":
        system.client.reset("a")
    return bool(system.model("a")["state"] == "awake")
