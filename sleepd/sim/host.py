"""A simulated GPU host in bytes: GPUs with processes on them, RAM with pinned backups and other people's use."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sleepd.core.seen import GpuSeen, GpusSeen, HostSeen, UnitMemory
from sleepd.core.units import GIB, Bytes, Seconds
from sleepd.sim.vllm_types import HostRamExhausted, OutOfMemory


@dataclass(slots=True)
class SimGpu:
    """One GPU. `held` maps pid to bytes; a foreign tenant is just another pid."""

    uuid: str
    index: int
    total_bytes: Bytes
    held: dict[int, Bytes] = field(default_factory=dict)

    @property
    def free_bytes(self) -> Bytes:
        return self.total_bytes - sum(self.held.values())


@dataclass(slots=True, eq=False)
class SimCgroup:
    """A memory cgroup and the limit on everything below it; `base_bytes` is what it holds beside backups, of which
    `file_bytes` could be taken back."""

    path: str
    limit_bytes: Bytes | None = None
    parent: "SimCgroup | None" = None
    base_bytes: Bytes = 2 * GIB
    file_bytes: Bytes = 0
    _line: "tuple[SimCgroup, ...]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._line = (self, *(self.parent.with_ancestors() if self.parent else ()))

    def with_ancestors(self) -> "tuple[SimCgroup, ...]":
        return self._line


@dataclass(slots=True)
class SimHost:
    """GPUs and RAM. `others_bytes` is what everything but backups uses of the RAM; `units` says in which cgroup a
    process is, where it is in one. Backups stay pinned until their process ends."""

    gpus: list[SimGpu]
    ram_bytes: Bytes = 256 * GIB
    others_bytes: Bytes = 16 * GIB
    pinned: dict[int, Bytes] = field(default_factory=dict)
    units: dict[int, SimCgroup] = field(default_factory=dict)
    tells_processes: bool = True
    """Whether NVML says who holds how much; not on WSL, nor where permissions are missing."""
    releases_after_s: Seconds = 0.0
    """How long the driver takes to show, and to hand out, what a process gave back."""
    later: Callable[[Seconds, Callable[[], None]], object] | None = None
    """Who calls when that time is over; without it what is given back is free at once."""
    wanted: dict[tuple[int, int], Bytes] = field(default_factory=dict)
    """What each process last claimed, by GPU and pid: less than it holds while the driver still counts the rest."""
    refused: int = 0
    """How often an allocation did not fit: out-of-memory that reached an engine."""

    @property
    def available_bytes(self) -> Bytes:
        return self.ram_bytes - self.others_bytes - sum(self.pinned.values())

    def see_gpus(self, *, processes: bool) -> GpusSeen:
        """What NVML would tell now; the dead hold nothing and are not listed."""
        return tuple(
            GpuSeen(
                g.uuid,
                g.index,
                g.total_bytes,
                g.free_bytes,
                {pid: held for pid, held in g.held.items() if held} if processes and self.tells_processes else None,
            )
            for g in self.gpus
        )

    def hold(self, index: int, pid: int, bytes_: Bytes) -> None:
        """The process holds exactly this much; what it gave back is free once the driver says so."""
        held = self.gpus[index].held
        self.wanted[index, pid] = bytes_
        if self.later is None or not self.releases_after_s or bytes_ >= held.get(pid, 0):
            held[pid] = bytes_
            return

        def give_back() -> None:
            if pid in held and self.wanted[index, pid] <= bytes_:
                held[pid] = min(held[pid], bytes_)

        self.later(self.releases_after_s, give_back)

    def used_bytes(self, group: SimCgroup) -> Bytes:
        """What counts against a cgroup's limit: everything below it but file pages that can be taken back."""
        below = [pid for pid, unit in self.units.items() if group in unit.with_ancestors()]
        groups = {id(g): g for pid in below for g in self.units[pid].with_ancestors() if group in g.with_ancestors()}
        bases = sum(g.base_bytes - g.file_bytes for g in {**groups, id(group): group}.values())
        return bases + sum(self.pinned.get(pid, 0) for pid in below)

    def is_over_limit(self, group: SimCgroup) -> bool:
        """Whether it or a group above it holds more than it may: the kernel then ends what came last."""
        limited = [(g, g.limit_bytes) for g in group.with_ancestors() if g.limit_bytes is not None]
        return any(self.used_bytes(g) > limit for g, limit in limited)

    def see_unit(self, pid: int) -> UnitMemory | None:
        """What the cgroup files of this process would tell; None where it is in none."""
        unit = self.units.get(pid)
        if unit is None:
            return None
        used = self.used_bytes(unit)
        limited = [(g, self.used_bytes(g)) for g in unit.with_ancestors() if g.limit_bytes is not None]
        if not limited:
            return UnitMemory(used, used)
        tightest, counted = min(limited, key=lambda of: (of[0].limit_bytes or 0) - of[1])
        return UnitMemory(used, used, True, tightest.limit_bytes, counted, f"memory.max of {tightest.path}")

    def end_process(self, pid: int) -> None:
        """The process is gone, and everything it held with it."""
        for gpu in self.gpus:
            gpu.held.pop(pid, None)
        self.pinned.pop(pid, None)
        self.units.pop(pid, None)

    def see_ram(self) -> HostSeen:
        return HostSeen(self.ram_bytes, max(0, self.available_bytes))


@dataclass(frozen=True, slots=True)
class GpuShare:
    """What one process holds on its GPUs (the same bytes on each: tensor parallelism)."""

    host: SimHost
    gpus: tuple[int, ...]
    pid: int

    def claim(self, bytes_: Bytes, /) -> None:
        """Hold exactly `bytes_` on each GPU from now on. Raises OutOfMemory, and then nothing changed."""
        for index in self.gpus:
            gpu = self.host.gpus[index]
            more = bytes_ - gpu.held.get(self.pid, 0)
            if more > gpu.free_bytes:
                self.host.refused += 1
                text = "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:163"
                raise OutOfMemory(f"{text} ({more} wanted, {gpu.free_bytes} free)")
        for index in self.gpus:
            self.host.hold(index, self.pid, bytes_)

    def free_bytes(self) -> Bytes:
        return min(self.host.gpus[index].free_bytes for index in self.gpus)


@dataclass(frozen=True, slots=True)
class RamShare:
    """What one process pins of the host's RAM."""

    host: SimHost
    pid: int

    def pin(self, bytes_: Bytes, /) -> None:
        """Pin exactly `bytes_` from now on. Raises HostRamExhausted, and then nothing changed. Giving back never fails,
        though a server that started under the same limit meanwhile took more than was left."""
        more = bytes_ - self.host.pinned.get(self.pid, 0)
        unit = self.host.units.get(self.pid)
        rooms = [self.host.available_bytes] + [
            g.limit_bytes - self.host.used_bytes(g)
            for g in (unit.with_ancestors() if unit else ())
            if g.limit_bytes is not None
        ]
        if more > max(0, min(rooms)):
            self.host.refused += 1
            raise HostRamExhausted("cudaHostAlloc failed: out of memory")
        self.host.pinned[self.pid] = bytes_
