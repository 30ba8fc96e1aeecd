"""What systemd is told to do with a unit. Reading needs no permission. Source: org.freedesktop.systemd1(5)."""

import asyncio
from collections.abc import Sequence

from sleepd.adapters.systemd_bus import SYSTEMD, BusError, BusGone, SystemdBus
from sleepd.core.units import Seconds
from sleepd.doctor.units import UnitSettings

READ_S: Seconds = 5.0
_AT_BOOT = ("enabled", "enabled-runtime")


async def read_units(units: Sequence[str], *, address: str | None = None) -> tuple[UnitSettings, ...]:
    """Return the settings of each. Waits `READ_S` for all, at most."""
    if not units:
        return ()
    bus = SystemdBus(address)
    try:
        async with asyncio.timeout(READ_S):
            return tuple([await _read(bus, unit) for unit in units])
    except TimeoutError:
        return tuple(UnitSettings(unit, missing=f"systemd did not answer within {READ_S:g} s") for unit in units)
    finally:
        bus.close()


async def _read(bus: SystemdBus, unit: str) -> UnitSettings:
    try:
        rows = (await bus.call("ListUnitsByNames", "as", [[unit]]))[0]
        if not rows or rows[0][2] != "loaded":
            return UnitSettings(unit, missing="there is no such unit" if not rows else f"it is {rows[0][2]}")
        path = rows[0][6]
        restart, kill_mode, oom_policy, sends_sigkill = [
            await bus.get(path, f"{SYSTEMD}.Service", name)
            for name in ("Restart", "KillMode", "OOMPolicy", "SendSIGKILL")
        ]
        state = await bus.get(path, f"{SYSTEMD}.Unit", "UnitFileState")
        # Of a generated unit (a quadlet) the generator decides that, and no state of its file tells it.
        pulled_in = state == "generated" and await bus.get(path, f"{SYSTEMD}.Unit", "WantedBy")
        enabled = state in _AT_BOOT or bool(pulled_in)
        return UnitSettings(unit, str(restart), str(kill_mode), str(oom_policy), sends_sigkill is not False, enabled)
    except (BusGone, BusError) as error:
        return UnitSettings(unit, missing=str(error))
