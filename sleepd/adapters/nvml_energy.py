"""What GPUs take of the mains, through pynvml.

Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was loaded, Volta and
later) and nvmlDeviceGetPowerUsage (milliwatts, of the moment or averaged over a second).
"""

from collections.abc import Callable, Iterable

import pynvml

from sleepd.core.units import MonotonicS

TRUSTED_FOR_S = 60.0
"""A power that was read stands for no longer than this."""


class EnergyMeter:
    """Joules by GPU uuid, rising. A GPU that tells neither energy nor power is left out."""

    def __init__(self, now_s: Callable[[], MonotonicS]) -> None:
        self._now_s = now_s
        self._added_j: dict[str, float] = {}
        self._power: dict[str, tuple[MonotonicS, float]] = {}
        self._total_untold: set[str] = set()

    def read(self, devices: Iterable[tuple[str, object]]) -> dict[str, float]:
        """Return what each GPU has taken. Blocks as long as the driver does."""
        found: dict[str, float] = {}
        for uuid, handle in devices:
            joules = self._total(uuid, handle)
            if joules is None:
                joules = self._added_up(uuid, handle)
            if joules is not None:
                found[uuid] = joules
        return found

    def _total(self, uuid: str, handle: object) -> float | None:
        if uuid in self._total_untold:
            return None
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except pynvml.NVMLError:
            self._total_untold.add(uuid)  # one count or the other: they begin at different moments
            return None

    def _added_up(self, uuid: str, handle: object) -> float | None:
        try:
            watts, now_s = float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000, self._now_s()
        except pynvml.NVMLError:
            return None
        before = self._power.get(uuid)
        self._power[uuid] = (now_s, watts)
        if before is not None and 0 < now_s - before[0] <= TRUSTED_FOR_S:
            added_j = (now_s - before[0]) * (before[1] + watts) / 2
            self._added_j[uuid] = self._added_j.get(uuid, 0.0) + added_j
        return self._added_j.get(uuid, 0.0)
