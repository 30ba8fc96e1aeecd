"""Host RAM and its pressure, from /proc or where the host's is mounted. Sources: proc(5), the kernel's PSI page."""

import re
from pathlib import Path

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.seen import HostSeen
from sleepd.ports import Clock

_LINE = re.compile(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", re.MULTILINE)
_SOME = re.compile(r"^some avg10=(\d+(?:\.\d+)?) ", re.MULTILINE)


class ProcHostMemory:
    """MemTotal and MemAvailable, and PSI's `some avg10` where the kernel tells it."""

    def __init__(self, proc_root: Path, clock: Clock, units: CgroupMemory | None = None) -> None:
        self._units = units
        self._meminfo, self._pressure = proc_root / "meminfo", proc_root / "pressure" / "memory"
        self._clock = clock

    async def read(self) -> Reading[HostSeen]:
        """Return both; /proc answers from memory in microseconds, so this does not leave the loop's thread."""
        asked_s = self._clock.now().mono_s
        try:
            found = dict(_LINE.findall(self._meminfo.read_text(encoding="ascii", errors="replace")))
        except OSError as error:
            return self._missing(f"{self._meminfo}: {error.strerror}", asked_s)
        if "MemTotal" not in found or "MemAvailable" not in found:
            wanted = f"wanted MemTotal and MemAvailable in kB in {self._meminfo}, found {sorted(found) or 'neither'}"
            return self._missing(wanted, asked_s)
        total, available = int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024
        no_limits = self._units.refusal() if self._units else ""
        seen = HostSeen(total, available, self._read_pressure(), no_limits)
        return Known(seen, asked_s, self._clock.now().mono_s)

    def _read_pressure(self) -> float | None:
        """PSI as a share; None where the kernel has none (opens fine but reads EOPNOTSUPP without psi=1)."""
        try:
            found = _SOME.search(self._pressure.read_text(encoding="ascii", errors="replace"))
        except OSError:
            return None
        return float(found[1]) / 100 if found else None

    def _missing(self, detail: str, asked_s: float) -> Missing:
        return Missing(MissingReason.UNREADABLE, f"{detail}; check [host] proc_root", asked_s)
