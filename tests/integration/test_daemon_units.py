"""The real daemon over real D-Bus with a stand-in for systemd, whose units are real `sleepd fake-vllm` processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sleepd.client import ApiProblem
from sleepd.sim.ledger import LedgerGpu
from tests.fakesystemd.systemd import FakeSystemd, Process, Unit
from tests.integration.harness import AWAKE_BYTES, GIB, GPU_BYTES, SERVER_OPTIONS, Daemon, Host, Server
from tests.integration.waiting import wait_until


class Managed:
    """A host whose servers are units."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.systemd = FakeSystemd(host.root / "bus")
        self.servers: dict[str, Server] = {}

    def add(self, *names: str, version: str = "0.32.0", restarts: bool = True, **keys: object) -> None:
        """Configure these models, each with a unit that runs."""
        of = {name: {"unit": f"vllm@{name}.service", **keys} for name in names}
        self.host.configure(*names, extra=self.extra, **of)
        for name in names:
            self.systemd.add(f"vllm@{name}.service", self._spawner(name, version), restarts=restarts)
            self.systemd.start(self.unit(name))
        for name in names:
            self.servers[name].await_ready()

    extra = ""

    def unit(self, name: str) -> Unit:
        return self.systemd.units[f"vllm@{name}.service"]

    def _spawner(self, name: str, version: str) -> Callable[[], Process]:
        def spawn() -> Process:
            server = Server(self.host, name, version, SERVER_OPTIONS, (0,))
            self.host.processes.append(server)
            self.servers[name] = server
            return server.child

        return spawn

    def start_daemon(self) -> Daemon:
        daemon = self.host.start_daemon(DBUS_SYSTEM_BUS_ADDRESS=self.systemd.bus.address)
        # What its units are is known from the first look at them, which nothing waits for.
        for name in self.servers:
            daemon.await_model(name, state="awake")
        return daemon


@pytest.fixture
def managed(host: Host) -> Iterator[Managed]:
    made = Managed(host)
    yield made
    made.systemd.close()


def test_stopped_by_a_person_it_stays_so_until_a_person_starts_it(managed: Managed) -> None:
    managed.add("a")
    before, daemon = managed.servers["a"].complete(), managed.start_daemon()
    assert daemon.client.stop("a").status == 200
    assert daemon.model("a")["state"] == "stopped"
    assert managed.unit("a").active == "inactive"
    assert managed.host.gpu().used_by_pid == {}
    with pytest.raises(ApiProblem) as refused:
        daemon.client.wake("a", timeout_s=5)
    assert refused.value.kind == "stopped"
    assert daemon.client.start("a").status == 200
    assert daemon.model("a")["state"] == "awake"
    assert managed.servers["a"].complete() == before
    assert managed.unit("a").starts == 2


def test_systemctl_stop_is_left_alone(managed: Managed) -> None:
    managed.add("a")
    daemon = managed.start_daemon()
    managed.systemd.stop(managed.unit("a"))
    daemon.await_model("a", state="stopped")
    with pytest.raises(ApiProblem) as refused:
        daemon.client.wake("a", timeout_s=5)
    assert refused.value.kind == "stopped"
    managed.systemd.start(managed.unit("a"))
    daemon.await_model("a", state="awake")


def test_an_engine_that_only_a_restart_helps_is_restarted_and_answers_right(managed: Managed) -> None:
    """0.22 cannot repair a failed wake; who waits for it is served by the new process."""
    managed.add("a", version="0.22.1")
    before, daemon = managed.servers["a"].complete(), managed.start_daemon()
    first = managed.servers["a"].pid
    daemon.client.sleep("a")
    managed.servers["a"].arm("fail_wake", blocks=1)
    assert daemon.client.wake("a", timeout_s=60).status == 200
    assert managed.servers["a"].pid != first
    assert managed.unit("a").starts == 2
    assert managed.servers["a"].complete() == before
    assert managed.host.gpu().used_by_pid == {managed.servers["a"].pid: AWAKE_BYTES}
    assert daemon.model("a")["failure"] is None


def test_a_unit_that_failed_is_restarted_within_the_budget_and_then_left_failed(managed: Managed) -> None:
    managed.extra = "[recovery]\nmax_restarts = 1"
    managed.add("a", restarts=False)
    daemon = managed.start_daemon()
    managed.servers["a"].kill()
    wait_until(lambda: managed.unit("a").starts == 2, "the restart")
    daemon.await_model("a", state="awake")
    managed.servers["a"].kill()
    told = daemon.await_model("a", state="failed")["reason"]
    assert "its restarts are used up" in told
    assert managed.unit("a").starts == 2
    managed.systemd.start(managed.unit("a"))
    daemon.await_model("a", state="awake")


def test_the_daemon_killed_in_a_restart_finishes_it(managed: Managed) -> None:
    managed.add("a", restarts=False)
    daemon = managed.start_daemon()
    managed.unit("a").stop_s = 0.0
    managed.systemd.mute_signals = True
    managed.servers["a"].kill()
    daemon.await_model("a", state="starting")
    daemon.kill()
    managed.systemd.mute_signals = False
    daemon = managed.host.start_daemon(DBUS_SYSTEM_BUS_ADDRESS=managed.systemd.bus.address)
    daemon.await_model("a", state="awake")
    assert managed.unit("a").starts == 2
    managed.servers["a"].complete()


def test_stopped_by_a_rule_it_is_started_by_whoever_wants_it(managed: Managed) -> None:
    managed.extra = '[[rules]]\nname = "retire"\nwhen = { asleep = "1s" }\nthen = { stop = true }'
    managed.add("a", may_stop=True)
    before, daemon = managed.servers["a"].complete(), managed.start_daemon()
    daemon.client.sleep("a")
    daemon.await_model("a", state="stopped")
    assert managed.host.gpu().used_by_pid == {}
    assert daemon.client.wake("a", timeout_s=60).status == 200
    assert managed.servers["a"].complete() == before


def test_ram_pressure_stops_the_sleeper_that_was_used_least_recently(managed: Managed) -> None:
    managed.extra = (
        '[[rules]]\nname = "host-ram-pressure"\nwhen = { host_available_below = "10%", until = "15%" }\n'
        "then = { sleep = 2 }"
    )
    managed.host.set_gpus(LedgerGpu("GPU-0000", 2 * GPU_BYTES))
    managed.add("a", "b", may_stop=True)
    daemon = managed.start_daemon()
    daemon.watch_use(managed.servers["b"])
    daemon.client.sleep("a")
    daemon.client.sleep("b", drain_s=10)
    managed.host.set_ram(10 * GIB)
    daemon.await_model("a", state="stopped")
    managed.host.set_ram(60 * GIB)
    wait_until(lambda: "of RAM are available now" in managed.host.root.joinpath("sleepd.log").read_text(), "the effect")
    assert daemon.model("b")["state"] == "asleep"
    assert managed.unit("b").starts == 1


def test_what_polkit_refuses_is_told_and_changes_nothing(managed: Managed) -> None:
    managed.add("a")
    before, daemon = managed.servers["a"].complete(), managed.start_daemon()
    managed.systemd.denied.add(("stop", "vllm@a.service"))
    with pytest.raises(ApiProblem) as refused:
        daemon.client.stop("a")
    assert refused.value.kind == "not_permitted"
    assert "polkit" in refused.value.detail
    daemon.await_model("a", state="awake")
    assert managed.servers["a"].complete() == before


def test_without_a_bus_everything_else_works_and_it_is_told_once(host: Host) -> None:
    host.configure("a", a={"unit": "vllm@a.service"})
    host.start_servers("a")
    daemon = host.start_daemon(DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={host.root}/nobody")
    assert daemon.client.sleep("a").status == 200
    assert daemon.client.wake("a").status == 200
    with pytest.raises(ApiProblem) as refused:
        daemon.client.stop("a")
    assert "no system bus" in refused.value.detail
    assert daemon.words().count("is not started, stopped or restarted") == 1
