"""The adapter for units, against a stand-in for systemd that speaks real D-Bus over a unix socket."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.systemd_units import SystemdUnits
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.unit import JobEnd, UnitOrder, UnitSeen
from tests.fakesystemd.bus import HANDSHAKE, ROOT
from tests.fakesystemd.systemd import FakeSystemd, Unit

LIMIT_S = 30.0
LOOKS = 1500
NAME = "vllm@a.service"


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeSystemd]:
    manager = FakeSystemd(tmp_path / "bus")
    yield manager
    manager.close()


@pytest.fixture
async def units(systemd: FakeSystemd) -> AsyncIterator[SystemdUnits]:
    adapter = SystemdUnits(SystemClock(), systemd.bus.address)
    yield adapter
    await adapter.close()


async def seen(units: SystemdUnits, name: str = NAME) -> UnitSeen:
    reading = await units.look(name, timeout_s=LIMIT_S)
    assert isinstance(reading, Known), reading
    return reading.value


async def until_active(units: SystemdUnits, active: str) -> UnitSeen:
    for _ in range(LOOKS):
        if (unit := await seen(units)).active == active:
            return unit
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {active}, but {unit}")


async def until_clients(systemd: FakeSystemd, most: int) -> None:
    for _ in range(LOOKS):
        if len(systemd.bus.clients) <= most:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(systemd.bus.clients)} connections are held, where {most} is all that is of use")


async def test_a_unit_is_started_and_stopped_and_seen(systemd, units):
    unit = systemd.add(NAME, sleeper)
    assert (await seen(units)) == UnitSeen(file_state="enabled")
    assert (await units.order(NAME, UnitOrder.START, timeout_s=LIMIT_S)).end is JobEnd.DONE
    running = await seen(units)
    assert (running.active, running.sub, running.main_pid) == ("active", "running", unit.process.pid)
    assert (running.invocation, running.control_group) == ("01" * 16, f"/system.slice/{NAME}")
    before_wall_s = time.time()
    assert (await units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S)).end is JobEnd.DONE
    stopped = await seen(units)
    assert (running.left_wall_s, before_wall_s <= stopped.left_wall_s <= time.time()) == (0.0, True)
    unit.began_s = time.time()
    assert (await seen(units)).left_wall_s == 0.0, "of a start before"
    assert stopped.is_over
    assert stopped.is_stopped_on_purpose
    assert stopped.pids == ()


async def test_a_stop_under_way_shows_its_job_and_its_processes(systemd, units):
    unit = systemd.add(NAME, sleeper, stop_s=0.5)
    systemd.start(unit)
    stopping = asyncio.ensure_future(units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S))
    under_way = await until_active(units, "deactivating")
    assert (under_way.job, under_way.pids) == ("stop", (unit.process.pid,))
    assert under_way.is_stopped_on_purpose
    assert (await stopping).end is JobEnd.DONE


async def test_a_crash_with_a_restart_to_come_is_told_from_a_stop(systemd, units):
    unit = systemd.add(NAME, sleeper)
    systemd.start(unit)
    unit.process.kill()
    resting = await until_active(units, "activating")
    assert resting.rests
    assert resting.is_coming
    assert not resting.is_stopped_on_purpose
    assert (await until_active(units, "active")).invocation == "02" * 16


async def test_a_crash_without_one_is_a_failure(systemd, units):
    unit = systemd.add(NAME, sleeper, restarts=False)
    systemd.start(unit)
    unit.process.kill()
    failed = await until_active(units, "failed")
    assert failed.has_failed
    assert (failed.result, failed.is_stopped_on_purpose) == ("signal", False)


async def test_what_is_left_in_the_cgroup_is_seen_and_killed(systemd, units):
    left = sleeper()
    systemd.add(NAME, sleeper, active="failed", sub="failed", result="signal", leftovers=[left])
    assert (await seen(units)).pids == (left.pid,)
    assert (await units.order(NAME, UnitOrder.KILL, timeout_s=LIMIT_S)).end is JobEnd.DONE
    assert (await seen(units)).pids == ()
    assert left.poll() is not None


@pytest.mark.parametrize("order", list(UnitOrder))
async def test_what_polkit_refuses_names_what_to_install(systemd, units, order):
    unit = systemd.add(NAME, sleeper, leftovers=[])
    systemd.start(unit)
    systemd.denied.add((order.value, NAME))
    ordered = await units.order(NAME, order, timeout_s=LIMIT_S)
    assert ordered.end is JobEnd.NOT_PERMITTED
    assert "polkit" in ordered.detail
    assert NAME in ordered.detail


async def test_a_masked_unit_is_seen_so_and_not_started(systemd, units):
    systemd.add(NAME, sleeper, load="masked", file_state="masked")
    assert (await seen(units)).is_masked
    assert (await units.order(NAME, UnitOrder.START, timeout_s=LIMIT_S)).end is JobEnd.FAILED


async def test_a_unit_that_is_not_there(units):
    assert (await seen(units, "vllm@nobody.service")).load == "not-found"
    assert (await units.order("vllm@nobody.service", UnitOrder.START, timeout_s=LIMIT_S)).end is JobEnd.UNREACHABLE


async def test_no_bus_is_missing_and_never_an_exception(tmp_path):
    units = SystemdUnits(SystemClock(), f"unix:path={tmp_path}/nobody")
    reading = await units.look(NAME, timeout_s=LIMIT_S)
    assert isinstance(reading, Missing)
    assert reading.reason is MissingReason.NO_MANAGER
    assert (await units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S)).end is JobEnd.UNREACHABLE
    await units.close()


async def test_a_bus_that_went_away_is_found_again(systemd, units):
    systemd.add(NAME, sleeper)
    assert (await seen(units)).active == "inactive"
    systemd.bus.close()
    assert isinstance(await units.look(NAME, timeout_s=LIMIT_S), Missing)
    systemd.bus.open()
    assert (await seen(units)).active == "inactive"
    assert (await units.order(NAME, UnitOrder.START, timeout_s=LIMIT_S)).end is JobEnd.DONE


@pytest.mark.parametrize("member", [HANDSHAKE, "Hello", "AddMatch", "Subscribe", "GetNameOwner", "ListUnitsByNames"])
async def test_a_bus_that_connects_and_never_answers_is_waited_for_no_longer_than_told(systemd, units, member):
    """Each wait ends by itself and leaves no connection behind; once there are answers it is as if nothing had been."""
    systemd.add(NAME, sleeper)
    systemd.bus.deaf = frozenset({member, "StartUnit"})
    for _ in range(2):
        reading = await asyncio.wait_for(units.look(NAME, timeout_s=0.1), LIMIT_S)
        assert isinstance(reading, Missing)
        assert reading.reason is MissingReason.TIMED_OUT
        ordered = await asyncio.wait_for(units.order(NAME, UnitOrder.START, timeout_s=0.1), LIMIT_S)
        assert ordered.end is JobEnd.UNANSWERED
    await until_clients(systemd, 1)
    systemd.bus.deaf = frozenset()
    assert (await seen(units)).active == "inactive"
    assert (await units.order(NAME, UnitOrder.START, timeout_s=LIMIT_S)).end is JobEnd.DONE
    await until_clients(systemd, 1)


async def test_nor_one_that_takes_nobody_in(tmp_path, systemd):
    """It listens and accepts nobody, as a bus that was stopped by SIGSTOP: its queue is full at some time."""
    systemd.add(NAME, sleeper)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "full"))
    listener.listen(0)
    units = SystemdUnits(SystemClock(), f"unix:path={tmp_path}/full")
    for _ in range(2):
        reading = await asyncio.wait_for(units.look(NAME, timeout_s=0.1), LIMIT_S)
        assert isinstance(reading, Missing), reading
        ordered = await asyncio.wait_for(units.order(NAME, UnitOrder.STOP, timeout_s=0.1), LIMIT_S)
        assert ordered.end in (JobEnd.UNANSWERED, JobEnd.UNREACHABLE)
    listener.close()
    (tmp_path / "full").unlink()
    (tmp_path / "full").symlink_to(tmp_path / "bus")
    assert (await seen(units)).active == "inactive"
    await units.close()


async def test_a_job_whose_signal_never_comes_is_found_out(systemd, units, monkeypatch):
    monkeypatch.setattr("sleepd.adapters.systemd_units.ASK_AGAIN_S", 0.2)
    systemd.add(NAME, sleeper)
    systemd.mute_signals = True
    assert (await units.order(NAME, UnitOrder.START, timeout_s=LIMIT_S)).end is JobEnd.DONE
    assert (await units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S)).end is JobEnd.DONE


@pytest.mark.parametrize("owner", [":1.0", ":1.70"])
async def test_the_end_of_a_job_is_believed_of_systemd_alone(systemd, units, monkeypatch, owner):
    """Whoever is on the bus may send a signal straight to us, and only the bus says truly from whom it is."""
    monkeypatch.setattr("sleepd.adapters.systemd_units.ASK_AGAIN_S", 2 * LIMIT_S)
    unit = systemd.add(NAME, sleeper, stop_s=1.0)
    systemd.start(unit)
    assert (await seen(units)).active == "active"
    if owner != systemd.bus.owner:
        systemd.bus.change_owner(owner)
    stopping = asyncio.ensure_future(units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S))
    await until_active(units, "deactivating")
    gone_owner = ":1.0" if owner != ":1.0" else ":1.666"
    for sender in (":1.666", gone_owner, "org.freedesktop.systemd1"):
        systemd.bus.signal("JobRemoved", "uoss", [1, f"{ROOT}/job/1", NAME, "failed"], sender)
    assert (await stopping).end is JobEnd.DONE


async def test_a_bus_that_goes_away_under_a_job_does_not_lose_its_end(systemd, units, monkeypatch):
    monkeypatch.setattr("sleepd.adapters.systemd_units.ASK_AGAIN_S", 0.2)
    unit = systemd.add(NAME, sleeper, stop_s=1.0)
    systemd.start(unit)
    stopping = asyncio.ensure_future(units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S))
    await until_active(units, "deactivating")
    systemd.bus.close()
    systemd.bus.open()
    assert (await stopping).end is JobEnd.DONE


async def test_nor_does_one_that_is_away_for_a_while(systemd, units, monkeypatch):
    monkeypatch.setattr("sleepd.adapters.systemd_units.ASK_AGAIN_S", 0.1)
    unit = systemd.add(NAME, sleeper, stop_s=1.0)
    systemd.start(unit)
    stopping = asyncio.ensure_future(units.order(NAME, UnitOrder.STOP, timeout_s=LIMIT_S))
    await until_active(units, "deactivating")
    systemd.bus.close()
    await asyncio.sleep(0.5)
    assert not stopping.done()
    systemd.bus.open()
    assert (await stopping).end is JobEnd.DONE


async def test_a_job_that_outlasts_our_patience_goes_on(systemd, units):
    unit: Unit = systemd.add(NAME, sleeper, stop_s=1.5)
    systemd.start(unit)
    assert (await units.order(NAME, UnitOrder.STOP, timeout_s=0.3)).end is JobEnd.UNANSWERED
    assert (await until_active(units, "inactive")).is_over
