"""From one run of the daemon to the next: whether another follows, and descriptors that systemd keeps in between.

Sources: sd_notify(3) (FDSTORE=1, FDNAME=, BARRIER=1), systemd.service(5) (FileDescriptorStoreMax=): what is stored is
passed to the next run after those of .socket units, in no order, while a restart is queued or under way.
"""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Mapping, Sequence

from sleepd.adapters.systemd_units import SystemdUnits
from sleepd.core.units import Seconds
from sleepd.ports import Succession

ASK_S: Seconds = 3.0
KEEP_S: Seconds = 5.0
"""How long the manager may take to have stored what was sent."""
AT_ONCE = 250
"""Descriptors in one message: the kernel takes 253 (SCM_MAX_FD)."""


class SystemdSuccession:
    """The daemon's own unit, as it ends."""

    def __init__(self, units: SystemdUnits, environ: Mapping[str, str] | None = None) -> None:
        self._units = units
        path = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path

    async def announced(self) -> Succession | None:
        """Return what a next run is left, where systemd restarts us; None where it stops us, or is not there."""
        return await self._units.own_succession(timeout_s=ASK_S) if self._address else None

    async def keep(self, name: str, descriptors: Sequence[int]) -> bool:
        """Return whether the manager took them all in; it keeps those within its limit. Waits KEEP_S at most."""
        return await asyncio.to_thread(self._keep, name, descriptors)

    def _keep(self, name: str, descriptors: Sequence[int]) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.settimeout(KEEP_S)
            ear.connect(self._address)  # send_fds of Python up to 3.12 goes by no address
            said = f"FDSTORE=1\nFDNAME={name}".encode()
            for at in range(0, len(descriptors), AT_ONCE):
                socket.send_fds(ear, [said], descriptors[at : at + AT_ONCE])
            return self._await_barrier(ear)
        return False

    def _await_barrier(self, ear: socket.socket) -> bool:
        """Return once everything before was read: the manager then closes its end of a pipe."""
        here, there = os.pipe2(os.O_CLOEXEC)
        try:
            socket.send_fds(ear, [b"BARRIER=1"], [there])
            os.close(there)
            there = -1
            return bool(select.select([here], [], [], KEEP_S)[0])
        finally:
            os.close(here)
            if there >= 0:
                os.close(there)
