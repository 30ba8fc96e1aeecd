"""GPUs that nobody can look into: what was declared of them, less what their models declare while they are awake."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.seen import GpuSeen, GpusSeen
from sleepd.core.units import Bytes
from sleepd.ports import Clock

Holding: TypeAlias = Callable[[], Awaitable[Mapping[str, Bytes] | None]]
"""Asked for the bytes that are held now, by the names of `[gpu] capacity`; None where that cannot be told now."""

DECLARED = "declared-"
"""What the uuid of a GPU that was declared by its number begins with."""
NAMED_FROM = 1000
"""Indices of GPUs that were declared by UUID: no driver counts that far."""


class DeclaredGpus:
    """The port the daemon reads GPUs through with `[gpu] backend = "none"`. Readings are missing until `count`."""

    def __init__(self, clock: Clock, capacity: Mapping[str, Bytes]) -> None:
        self._clock, self._capacity = clock, dict(capacity)
        self._holding: Holding | None = None

    def count(self, holding: Holding) -> None:
        """Count what this says from now on."""
        self._holding = holding

    async def read(self, *, processes: bool) -> Reading[GpusSeen]:
        """Return every declared GPU; waits as long as `holding` does. Nobody knows which process holds what."""
        asked_s = self._clock.now().mono_s
        held = await self._holding() if self._holding is not None else None
        if held is None:
            return Missing(MissingReason.NOT_YET, "declared GPUs: what is held cannot be told now", asked_s)
        found = tuple(
            GpuSeen(
                uuid=f"{DECLARED}{name}" if name.isdecimal() else name,
                index=int(name) if name.isdecimal() else NAMED_FROM + position,
                total_bytes=total,
                free_bytes=max(0, total - held.get(name, 0)),
            )
            for position, (name, total) in enumerate(self._capacity.items())
        )
        return Known(found, asked_s, self._clock.now().mono_s)

    async def close(self) -> None:
        """Nothing is held."""
