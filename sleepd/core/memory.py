"""Bytes: who holds what, what a wake needs, whether it fits, who could make room. Missing readings admit nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sleepd.core.model import GpuSeen, GpusSeen, HostSeen, Known, ModelSpec, Reading
from sleepd.core.units import Bytes
from sleepd.core.world import ModelRecord

UNMEASURED_BACKUP_FACTOR = 2
"""PyTorch's pinned allocator rounds each block up to a power of two, so a first backup may take twice the weights."""


@dataclass(frozen=True, slots=True)
class Admitted:
    pass


@dataclass(frozen=True, slots=True)
class Short:
    """Bytes missing per GPU uuid; `wanted` and `free` (after margin and promises) tell the operator why."""

    missing: Mapping[str, Bytes]
    wanted: Mapping[str, Bytes]
    free: Mapping[str, Bytes]


@dataclass(frozen=True, slots=True)
class Blind:
    """Not enough is known to decide; `wanted` says what is missing and what to do."""

    wanted: str


def find_gpu(gpus: GpusSeen, address: str) -> GpuSeen | None:
    """The GPU of this index or UUID, as nvidia-smi prints them."""
    return next((g for g in gpus if address in (g.uuid, str(g.index))), None)


def held_bytes(gpu: GpuSeen, pids: Iterable[int]) -> Bytes | None:
    """What these processes hold on the GPU; None where that is not told.

    A list that names none of them says nothing: NVML's pids are the host's, and in a container without the host's pid
    namespace it is empty or tells of others (NVIDIA/nvidia-docker#179).
    """
    if gpu.used_by_pid is None:
        return None
    held = [gpu.used_by_pid[pid] for pid in pids if pid in gpu.used_by_pid]
    return sum(held) if held else None


def freed_bytes(
    before: Reading[GpusSeen] | None, after: Reading[GpusSeen] | None, uuids: Sequence[str], pids: Sequence[int]
) -> dict[str, int] | None:
    """Bytes given back per GPU between two readings (negative: taken); None where either is missing.

    Per-process bytes where both readings have them and know the processes, else the device's free bytes.
    """
    if not isinstance(before, Known) or not isinstance(after, Known) or not uuids:
        return None
    freed: dict[str, int] = {}
    for uuid in uuids:
        was, now = find_gpu(before.value, uuid), find_gpu(after.value, uuid)
        if was is None or now is None:
            return None
        held_was, held_now = held_bytes(was, pids), held_bytes(now, pids)
        if held_was is not None and held_now is not None:
            freed[uuid] = held_was - held_now
        else:
            freed[uuid] = now.free_bytes - was.free_bytes
    return freed


def unmoved(
    before: Reading[GpusSeen] | None,
    after: Reading[GpusSeen] | None,
    uuids: Sequence[str],
    pids: Sequence[int],
    least_bytes: Bytes,
) -> bool:
    """Whether these processes certainly hold what they held before, on each GPU: only their own bytes can tell, as a
    neighbour may have taken what they gave back."""
    if not isinstance(before, Known) or not isinstance(after, Known) or not uuids or not pids:
        return False
    for uuid in uuids:
        was, now = find_gpu(before.value, uuid), find_gpu(after.value, uuid)
        held_was, held_now = (held_bytes(g, pids) if g else None for g in (was, now))
        if held_was is None or held_now is None or abs(held_was - held_now) >= least_bytes:
            return False
    return True


def placement(spec: ModelSpec, placed_on: Sequence[str], gpus: GpusSeen) -> tuple[str, ...]:
    """UUIDs of the model's GPUs: as configured, else where its processes were seen; empty where unknown."""
    if not spec.gpus:
        return tuple(u for u in placed_on if find_gpu(gpus, u))
    found = [find_gpu(gpus, address) for address in spec.gpus]
    return tuple(g.uuid for g in found if g) if all(found) else ()


def unplaced(record: ModelRecord, gpus: GpusSeen) -> str:
    """Why the model's GPUs are not known, and what to do, as a sentence."""
    if not record.spec.gpus:
        return f"which GPUs it uses is not known; set gpus in [models.{record.spec.name}]"
    there = ", ".join(str(g.index) for g in gpus)
    asked = ", ".join(record.spec.gpus)
    return f"gpus = {asked} in [models.{record.spec.name}], but the GPUs here are {there} (nvidia-smi -L)"


def wake_needs(record: ModelRecord, gpus: GpusSeen) -> dict[str, Bytes] | Blind:
    """Bytes a wake takes per GPU: learned, else declared, else bounded by the server's own share of the GPU."""
    uuids = placement(record.spec, record.placed_on, gpus)
    if not uuids:
        return Blind(unplaced(record, gpus))
    needs: dict[str, Bytes] = {}
    for uuid in uuids:
        gpu = find_gpu(gpus, uuid)
        need = _need_on(record, gpu) if gpu else None
        if need is None:
            return Blind(f"how many bytes a wake takes; set vram in [models.{record.spec.name}]")
        needs[uuid] = need
    return needs


def _need_on(record: ModelRecord, gpu: GpuSeen) -> Bytes | None:
    pids = record.seen.value.pids if isinstance(record.seen, Known) else ()
    held = held_bytes(gpu, pids) if pids else None
    learned = record.footprint.need(gpu.uuid)
    if learned is not None:
        # What a half-done wake already mapped need not be found again.
        grown = max(0, held - record.footprint.asleep.get(gpu.uuid, held)) if held is not None else 0
        return max(0, learned - grown)
    if record.spec.vram_bytes is not None:
        return record.spec.vram_bytes
    if record.facts and record.facts.gpu_memory_utilization:
        return max(0, round(record.facts.gpu_memory_utilization * gpu.total_bytes) - (held or 0))
    return None


def preflight(
    needs: Mapping[str, Bytes], gpus: GpusSeen, margin_bytes: Bytes, promised: Mapping[str, Bytes]
) -> Admitted | Short | Blind:
    """Say whether the needs fit beside margin and promises on every GPU. Never admits beyond what is free."""
    missing: dict[str, Bytes] = {}
    free: dict[str, Bytes] = {}
    for uuid, need in needs.items():
        gpu = find_gpu(gpus, uuid)
        if gpu is None:
            return Blind(f"a reading of GPU {uuid}")
        free[uuid] = max(0, gpu.free_bytes - margin_bytes - promised.get(uuid, 0))
        if need > free[uuid]:
            missing[uuid] = need - free[uuid]
    return Short(missing, dict(needs), free) if missing else Admitted()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could make room: what its sleep would free per GPU, how dear it is, how long it was idle."""

    model: str
    frees: Mapping[str, Bytes]
    priority: int
    idle_s: float


def choose_victim(short: Short, candidates: Sequence[Candidate]) -> Candidate | None:
    """The next model to put to sleep, or None where all candidates together would not be enough.

    Lowest priority first, then those that alone suffice, then the longest idle. One at a time: what a sleep really
    freed is measured before the next is chosen.
    """
    useful = [c for c in candidates if any(c.frees.get(u, 0) > 0 for u in short.missing)]
    for uuid, missing in short.missing.items():
        if sum(c.frees.get(uuid, 0) for c in useful) < missing:
            return None

    def cost(c: Candidate) -> tuple[int, bool, float, str]:
        suffices = all(c.frees.get(u, 0) >= m for u, m in short.missing.items())
        return (c.priority, not suffices, -c.idle_s, c.model)

    return min(useful, key=cost)


def backup_bytes(record: ModelRecord, gpus: GpusSeen | None) -> Bytes | None:
    """Host RAM a level 1 backup takes: declared, learned, from the checkpoint, else bounded by what it holds."""
    if record.spec.host_ram_bytes is not None:
        return record.spec.host_ram_bytes
    if record.footprint.host_bytes is not None:
        return record.footprint.host_bytes
    if record.facts and record.facts.checkpoint_bytes:
        return UNMEASURED_BACKUP_FACTOR * record.facts.checkpoint_bytes
    if record.footprint.freed:
        return sum(max(samples) for samples in record.footprint.freed.values() if samples)
    if record.spec.vram_bytes is not None:
        return record.spec.vram_bytes * max(1, len(record.spec.gpus))
    if gpus is not None and record.facts and record.facts.gpu_memory_utilization:
        uuids = placement(record.spec, record.placed_on, gpus)
        totals = sum(g.total_bytes for g in gpus if g.uuid in uuids)
        return round(record.facts.gpu_memory_utilization * totals) if totals else None
    return None


def backup_refusal(record: ModelRecord, host: Reading[HostSeen], gpus: GpusSeen | None, reserve_bytes: Bytes) -> str:
    """Why a level 1 backup may not be made, as a sentence; empty where it fits above the reserve.

    Pinned blocks stay with the process after a wake (vLLM #16663), so a second backup of one incarnation costs
    nothing: `host_pinned` tells that the bytes are already gone from MemAvailable.
    """
    if not isinstance(host, Known):
        return "host RAM is not known"
    if record.footprint.host_pinned:
        return ""
    need = backup_bytes(record, gpus)
    if need is None:
        return f"its backup's size is not known; set host_ram in [models.{record.spec.name}]"
    if host.value.available_bytes - need < reserve_bytes:
        return "its backup would not fit into host RAM above the reserve"
    return ""
