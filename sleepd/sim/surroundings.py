"""What the virtual daemon lives in: time, host, servers and units, and how each of them reads, right or wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sleepd.core.model import Known, Missing, MissingReason, Now, Reading
from sleepd.core.seen import GpusSeen, HostSeen
from sleepd.core.units import MonotonicS, Seconds
from sleepd.sim.host import SimHost
from sleepd.sim.units import SimManager
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime

NVML_S = 0.005
BOOTED_S = 1000.0
"""The daemon's monotonic clock as the simulation begins; the servers' begins at 0."""


@dataclass(slots=True)
class Upsets:
    """What goes wrong in the daemon's own surroundings; the scenario sets it, the shell suffers it."""

    fail_commits: int = 0
    die_before_commit: bool = False
    die_after_commit: bool = False
    nvml_missing: bool = False
    disk_slow_s: Seconds = 0.0
    wall_offset_s: Seconds = 0.0


class Surroundings:
    """What a virtual daemon reads; all of it outlives the daemon's deaths."""

    def __init__(
        self, time: VirtualTime, host: SimHost, servers: dict[str, VirtualServer], manager: SimManager | None
    ) -> None:
        self.time, self.host, self.servers, self.manager = time, host, servers, manager
        self.upsets = Upsets()

    def now(self) -> Now:
        passed_s = self.time.now_s
        return Now(BOOTED_S + passed_s, 1.7e9 + passed_s + self.upsets.wall_offset_s)

    def mono_s(self) -> MonotonicS:
        return BOOTED_S + self.time.now_s

    def see_ram(self) -> Known[HostSeen]:
        now_s = self.mono_s()
        return Known(self.host.see_ram(), now_s, now_s)

    def see_gpus(self, asked_s: MonotonicS, *, processes: bool) -> Reading[GpusSeen]:
        """The GPUs as they are now; whoever calls waits NVML_S first."""
        if self.upsets.nvml_missing:
            return Missing(MissingReason.UNREADABLE, "NVML: unknown error", asked_s)
        return Known(self.host.see_gpus(processes=processes), asked_s, self.mono_s())

    def look_at_unit(self, unit: str, then: Callable[[Any], None]) -> None:
        """`then` gets how the unit is, once the manager answers."""
        assert self.manager is not None
        self.manager.look(unit, lambda reading: then(self.dated(reading)))

    def dated(self, reading: Any) -> Any:
        """The servers' clock starts at 0, the daemon's does not: readings carry the daemon's."""
        if isinstance(reading, Known):
            return Known(reading.value, reading.asked_at_s + BOOTED_S, reading.at_s + BOOTED_S)
        return reading
