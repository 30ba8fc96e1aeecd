"""A simulated GPU host in bytes: GPUs with processes on them, RAM with pinned backups and other people's use."""

from dataclasses import dataclass, field

from sleepd.core.model import GpuSeen, GpusSeen, HostSeen
from sleepd.core.units import GIB, Bytes
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


@dataclass(slots=True)
class SimHost:
    """GPUs and RAM. `others_bytes` is what everything but backups uses of the RAM."""

    gpus: list[SimGpu]
    ram_bytes: Bytes = 256 * GIB
    others_bytes: Bytes = 16 * GIB
    pinned: dict[int, Bytes] = field(default_factory=dict)
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
                {pid: held for pid, held in g.held.items() if held} if processes else None,
            )
            for g in self.gpus
        )

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
            self.host.gpus[index].held[self.pid] = bytes_

    def free_bytes(self) -> Bytes:
        return min(self.host.gpus[index].free_bytes for index in self.gpus)


@dataclass(frozen=True, slots=True)
class RamShare:
    """What one process pins of the host's RAM."""

    host: SimHost
    pid: int

    def pin(self, bytes_: Bytes, /) -> None:
        """Pin exactly `bytes_` from now on. Raises HostRamExhausted, and then nothing changed."""
        if bytes_ - self.host.pinned.get(self.pid, 0) > self.host.available_bytes:
            raise HostRamExhausted("cudaHostAlloc failed: out of memory")
        self.host.pinned[self.pid] = bytes_
