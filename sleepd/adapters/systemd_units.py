"""Units of systemd: looked at, started, stopped, and what is left of them killed, over D-Bus in a thread of its own.

Reading needs no permission. Start and stop need the polkit action org.freedesktop.systemd1.manage-units for the unit
and the verb, or root. Sources: org.freedesktop.systemd1(5), systemd 252 to 257.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

from sleepd.adapters.loop_thread import LoopThread
from sleepd.adapters.systemd_bus import SYSTEMD, BusBroke, BusError, BusGone, SystemdBus
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.unit import JobEnd, Ordered, UnitOrder, UnitSeen
from sleepd.core.units import Seconds, WallS
from sleepd.ports import Clock, Succession

_UNIT, _SERVICE = f"{SYSTEMD}.Unit", f"{SYSTEMD}.Service"
_NOT_PERMITTED = frozenset(
    {
        "org.freedesktop.DBus.Error.AccessDenied",
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    }
)
NO_SUCH_UNIT = f"{SYSTEMD}.NoSuchUnit"
ASK_AGAIN_S = 5.0
"""A job whose signal does not come is asked after this often: a bus that was restarted told nobody."""
CLOSE_S = 2.0
LONGEST_STOP_S: Seconds = 3600.0
"""Where TimeoutStopSec= is infinity."""
SIGKILL = 9


class SystemdUnits:
    """The units of this machine's systemd. Every wait is bounded; whatever is wrong outside is a value."""

    def __init__(self, clock: Clock, address: str | None = None) -> None:
        """`address`: of the bus; None: $DBUS_SYSTEM_BUS_ADDRESS, else the system bus."""
        self._clock, self._address = clock, address
        self._thread = LoopThread("systemd")
        self._bus: SystemdBus | None = None

    async def look(self, unit: str, *, timeout_s: Seconds) -> Reading[UnitSeen]:
        """Return how the unit is; Missing where there is no bus, no systemd, or no answer within `timeout_s`."""
        asked_s = self._clock.now().mono_s
        try:
            seen = await self._thread.run(self._look(unit), timeout_s)
        except BusGone as error:
            return Missing(MissingReason.NO_MANAGER, str(error), asked_s)
        except BusError as error:
            return Missing(MissingReason.UNREADABLE, f"systemd on {unit}: {error}", asked_s)
        except TimeoutError:
            return Missing(MissingReason.TIMED_OUT, f"systemd on {unit}", asked_s)
        return Known(seen, asked_s, self._clock.now().mono_s)

    async def order(self, unit: str, order: UnitOrder, *, timeout_s: Seconds) -> Ordered:
        """Order it and return how its job ended; UNANSWERED where the job still runs after `timeout_s`, or may have
        begun: the answer to the order was lost."""
        try:
            return await self._thread.run(self._order(unit, order), timeout_s)
        except BusBroke as error:
            return Ordered(JobEnd.UNANSWERED, str(error))
        except BusGone as error:
            return Ordered(JobEnd.UNREACHABLE, str(error))
        except BusError as error:
            return _refused(unit, order, error)
        except TimeoutError:
            return Ordered(JobEnd.UNANSWERED, f"systemd did not {order} {unit} within {timeout_s:.0f} s")

    async def own_succession(self, *, timeout_s: Seconds) -> Succession | None:
        """Return what this process may leave to the next of its unit, where systemd is restarting that; None where it
        stops it, where we are no unit, and where that cannot be read within `timeout_s`."""
        try:
            return await self._thread.run(self._own_succession(), timeout_s)
        except (BusGone, BusError, TimeoutError):
            return None

    async def close(self) -> None:
        """Leave the bus; waits `CLOSE_S` at most."""
        if self._bus is not None:
            with contextlib.suppress(TimeoutError):
                await self._thread.run(_call(self._bus.close), CLOSE_S)
        self._thread.end()

    # in the thread

    async def _look(self, unit: str) -> UnitSeen:
        bus = self._bus_here()
        # Loads the unit where it is not loaded, as unprivileged as it is: a unit that is not there is told as such.
        rows = (await bus.call("ListUnitsByNames", "as", [[unit]]))[0]
        if not rows:
            return UnitSeen(load="not-found")
        _, _, load, active, sub, _, path, job_id, job_type, _ = rows[0]
        if load not in ("loaded", "masked"):
            return UnitSeen(load=load, active=active, sub=sub)
        pids = await _processes(bus, unit) if active != "active" else ()
        return UnitSeen(
            load=load,
            active=active,
            sub=sub,
            result=str(await bus.get(path, _SERVICE, "Result")),
            file_state=str(await bus.get(path, _UNIT, "UnitFileState")),
            invocation=_hex(await bus.get(path, _UNIT, "InvocationID")),
            main_pid=int(await bus.get(path, _SERVICE, "MainPID")),
            control_group=str(await bus.get(path, _SERVICE, "ControlGroup")),
            job=str(job_type) if job_id else "",
            pids=pids,
            left_wall_s=await _left_wall_s(bus, path) if active != "active" else 0.0,
        )

    async def _own_succession(self) -> Succession | None:
        bus = self._bus_here()
        (path,) = await bus.call("GetUnitByPID", "u", [os.getpid()])
        job_id, job_path = await bus.get(path, _UNIT, "Job")
        # "restart" until the old process has ended, then "start".
        if not job_id or await bus.get(job_path, f"{SYSTEMD}.Job", "JobType") not in ("restart", "try-restart"):
            return None
        stop_s = min(await bus.get(path, _SERVICE, "TimeoutStopUSec") / 1e6, LONGEST_STOP_S)
        return Succession(stop_s, int(await bus.get(path, _SERVICE, "FileDescriptorStoreMax")))

    async def _order(self, unit: str, order: UnitOrder) -> Ordered:
        bus = self._bus_here()
        if order is UnitOrder.KILL:
            await bus.call("KillUnit", "ssi", [unit, "all", SIGKILL])
            return Ordered(JobEnd.DONE)
        member = "StartUnit" if order is UnitOrder.START else "StopUnit"
        # "replace": a job that contradicts this one gives way to it, as with systemctl.
        (path,) = await bus.call(member, "ss", [unit, "replace"])
        return await self._await_job(bus, unit, order, str(path))

    async def _await_job(self, bus: SystemdBus, unit: str, order: UnitOrder, path: str) -> Ordered:
        while True:
            try:
                result = await bus.job_end(path, ASK_AGAIN_S)
            except BusGone:
                result = None
            if result is not None:
                return Ordered(_JOB_ENDS.get(result, JobEnd.OTHER), _told(unit, order, result))
            try:
                seen = await self._look(unit)
            except (BusGone, BusError):
                continue  # the job goes on without a bus; it is asked after again once there is one
            if not seen.job:
                # It ended while nobody listened: what the unit is now tells how.
                done = seen.is_over if order is UnitOrder.STOP else seen.active in ("active", "activating", "reloading")
                return Ordered(JobEnd.DONE if done else JobEnd.FAILED, _told(unit, order, f"it is {seen.active} now"))

    def _bus_here(self) -> SystemdBus:
        if self._bus is None:
            self._bus = SystemdBus(self._address)
        return self._bus


_JOB_ENDS = {end.value: end for end in JobEnd}


async def _left_wall_s(bus: SystemdBus, path: str) -> WallS:
    """When this start of the unit left the active state: systemd keeps the last such moment, of whichever start."""
    began_us = int(await bus.get(path, _UNIT, "InactiveExitTimestamp"))
    left_us = int(await bus.get(path, _UNIT, "ActiveExitTimestamp"))
    return left_us / 1e6 if left_us >= began_us else 0.0


async def _processes(bus: SystemdBus, unit: str) -> tuple[int, ...]:
    """Everything in the unit's cgroup. A unit of which nothing runs is unloaded at any moment, and has none."""
    try:
        found = (await bus.call("GetUnitProcesses", "s", [unit]))[0]
    except BusError as error:
        if error.name == NO_SUCH_UNIT:
            return ()
        raise
    return tuple(sorted(pid for _, pid, _ in found))


def _told(unit: str, order: UnitOrder, result: str) -> str:
    return "" if result == JobEnd.DONE else f"the {order} of {unit} ended so: {result}; see journalctl -u {unit}"


def _refused(unit: str, order: UnitOrder, error: BusError) -> Ordered:
    if error.name in _NOT_PERMITTED:
        detail = (
            f"wanted to {order} {unit}, found: not permitted ({error}); install polkit and sleepd's rule for it"
            f" (/usr/share/polkit-1/rules.d/sleepd.rules, docs/units.md), and let the rule name this unit and {order}"
        )
        return Ordered(JobEnd.NOT_PERMITTED, detail)
    unreachable = error.name in ("org.freedesktop.DBus.Error.ServiceUnknown", NO_SUCH_UNIT)
    end = JobEnd.UNREACHABLE if unreachable else JobEnd.FAILED
    return Ordered(end, f"wanted to {order} {unit}, found: {error}; see systemctl status {unit}")


def _hex(value: Any) -> str:
    return bytes(value or b"").hex()


async def _call(work: Callable[[], None]) -> None:
    work()
