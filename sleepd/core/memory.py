"""Bytes: who holds what, what a wake needs, whether it fits, who could make room. Missing readings admit nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sleepd.core.life import Weights
from sleepd.core.model import Known, ModelSpec, Reading
from sleepd.core.record import ModelRecord
from sleepd.core.seen import EngineFacts, GpuSeen, GpusSeen, Span
from sleepd.core.units import Bytes


@dataclass(frozen=True, slots=True)
class Admitted:
    pass


@dataclass(frozen=True, slots=True)
class Short:
    """Bytes missing per GPU uuid; `wanted` and `free` (after margin and promises, 0 at least) tell the operator why."""

    missing: Mapping[str, Bytes]
    wanted: Mapping[str, Bytes]
    free: Mapping[str, Bytes]


@dataclass(frozen=True, slots=True)
class Blind:
    """Not enough is known to decide; `wanted` says what is missing and what to do."""

    wanted: str


def find_gpu(gpus: GpusSeen, address: str) -> GpuSeen | None:
    """The GPU of this index or UUID, as nvidia-smi prints them."""
    for gpu in gpus:
        if gpu.uuid == address or str(gpu.index) == address:
            return gpu
    return None


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


def widen(span: dict[str, Span], gpus: GpusSeen) -> None:
    """Let the spans take in one more reading."""
    for gpu in gpus:
        free, was = gpu.free_bytes, span.get(gpu.uuid)
        span[gpu.uuid] = (
            Span(min(free, was.least_free_bytes), max(free, was.most_free_bytes)) if was else Span(free, free)
        )


def placement(spec: ModelSpec, placed_on: Sequence[str], gpus: GpusSeen) -> tuple[str, ...]:
    """UUIDs of the model's GPUs: as configured, else where its processes were seen; empty where unknown, and where one
    of them is not in this reading: what the others tell is no measure of it."""
    if not spec.gpus:
        return tuple(placed_on) if all(find_gpu(gpus, u) for u in placed_on) else ()
    found = [find_gpu(gpus, address) for address in spec.gpus]
    # An index and a UUID may name the same one.
    return tuple(dict.fromkeys(g.uuid for g in found if g)) if all(found) else ()


def unplaced(record: ModelRecord, gpus: GpusSeen) -> str:
    """Why the model's GPUs are not known, and what to do, as a sentence."""
    if not record.spec.gpus:
        if gone := [u for u in record.placed_on if find_gpu(gpus, u) is None]:
            return f"{gone[0]}, where it lies, is not told of (nvidia-smi -L)"
        return f"which GPUs it uses is not known; set gpus in [models.{record.spec.name}]"
    key = f"gpus = {', '.join(record.spec.gpus)} in [models.{record.spec.name}]"
    for address in record.spec.gpus:
        if parts := [g.uuid for g in gpus if str(g.mig_of) == address]:
            return f"{key}, but GPU {address} is divided into MIG devices: name one of {', '.join(parts)}"
    unknown = [address for address in record.spec.gpus if find_gpu(gpus, address) is None]
    if all(address.isdecimal() for address in unknown):
        there = ", ".join(str(g.index) if g.mig_of is None else g.uuid for g in gpus)
        return f"{key}, but the GPUs here are {there} (nvidia-smi -L)"
    return f"{key}, but {unknown[0]} is none of those here: {', '.join(g.uuid for g in gpus)} (nvidia-smi -L)"


def wake_needs(record: ModelRecord, gpus: GpusSeen) -> dict[str, Bytes] | Blind:
    """Bytes a wake still takes per GPU: learned, else declared, else bounded by the server's own share of the GPU."""
    uuids = placement(record.spec, record.placed_on, gpus)
    if not uuids:
        return Blind(unplaced(record, gpus))
    needs: dict[str, Bytes] = {}
    for uuid in uuids:
        gpu = find_gpu(gpus, uuid)
        need = _need_on(record, gpu) if gpu else None
        if need is None:
            return Blind(f"how many bytes a wake takes is not known; set vram in [models.{record.spec.name}]")
        needs[uuid] = need
    return needs


def start_needs(record: ModelRecord, gpus: GpusSeen) -> dict[str, Bytes] | Blind:
    """Bytes a start takes per GPU: what the model held awake, or may hold by its arguments, else as declared.

    vLLM looks at its start whether its whole share of the GPU is free, whatever the size of its KV cache
    (v1/worker/utils.py, request_memory).
    """
    needs: dict[str, Bytes] = {}
    for uuid in placement(record.spec, record.placed_on, gpus):
        gpu = find_gpu(gpus, uuid)
        facts, held = record.facts, record.learned.awake.get(uuid)
        bounds = (held, share_bytes(facts, gpu), sized_bytes(facts)) if facts and gpu else (held,)
        need = max((b for b in bounds if b is not None), default=record.spec.vram_bytes)
        if need is None:
            return Blind(f"how many bytes a start takes is not known; set vram in [models.{record.spec.name}]")
        needs[uuid] = need
    return needs or Blind(unplaced(record, gpus))


def _need_on(record: ModelRecord, gpu: GpuSeen) -> Bytes | None:
    pids = record.seen.value.pids if isinstance(record.seen, Known) else ()
    held = held_bytes(gpu, pids) if pids else None
    asleep = record.footprint.asleep.get(gpu.uuid)
    # What a half-done wake already mapped need not be found again.
    grown = max(0, held - asleep) if held is not None and asleep is not None else 0
    level = 1 if record.life.weights is Weights.OFFLOADED else 2
    for learned in (
        record.footprint.need(gpu.uuid, level),
        _seen_awake(record, gpu),
        record.learned.need(gpu.uuid, level),
    ):
        if learned is not None:
            return max(0, learned - grown)
    if record.spec.vram_bytes is not None:
        return max(0, record.spec.vram_bytes - grown)
    return _most_on(record.facts, gpu, held if held is not None else asleep or 0, grown) if record.facts else None


def _most_on(facts: EngineFacts, gpu: GpuSeen, held: Bytes, grown: Bytes) -> Bytes | None:
    """The most that a wake still takes by the server's own arguments; None where they set no bound."""
    sized, share = sized_bytes(facts), share_bytes(facts, gpu)
    if sized is not None:
        return max(0, sized - grown)
    return None if share is None else max(0, share - held)


def _seen_awake(record: ModelRecord, gpu: GpuSeen) -> Bytes | None:
    """What this very process held awake above what it holds asleep, where somebody else put it to sleep."""
    awake, asleep = record.footprint.awake.get(gpu.uuid), record.footprint.asleep.get(gpu.uuid)
    return max(0, awake - asleep) if awake is not None and asleep is not None else None


def share_bytes(facts: EngineFacts, gpu: GpuSeen) -> Bytes | None:
    """The server's share of this GPU, which it fills with KV cache (v1/worker/gpu_worker.py,
    determine_available_memory): the most it holds awake, unless the cache has a size of its own."""
    return None if facts.gpu_memory_utilization is None else round(facts.gpu_memory_utilization * gpu.total_bytes)


def sized_bytes(facts: EngineFacts) -> Bytes | None:
    """Weights and KV cache where --kv-cache-memory-bytes sizes it, beside what stays while it sleeps; else None.

    Where the checkpoint cannot be measured, its share stands in: most such sizes were chosen to stay within it.
    """
    if facts.kv_cache_memory_bytes is None or facts.checkpoint_bytes is None:
        return None
    return facts.kv_cache_memory_bytes + facts.checkpoint_bytes


def preflight(
    needs: Mapping[str, Bytes], gpus: GpusSeen, margin_bytes: Bytes, promised: Mapping[str, Bytes]
) -> Admitted | Short | Blind:
    """Say whether the needs fit beside margin and promises on every GPU. Never admits beyond what is free.

    Where more is promised than is free, what is missing covers the promise too: nobody sleeps for bytes that go to
    somebody else.
    """
    missing: dict[str, Bytes] = {}
    free: dict[str, Bytes] = {}
    for uuid, need in needs.items():
        gpu = find_gpu(gpus, uuid)
        if gpu is None:
            return Blind(f"a reading of GPU {uuid}")
        left = gpu.free_bytes - margin_bytes - promised.get(uuid, 0)
        free[uuid] = max(0, left)
        if need > free[uuid]:
            missing[uuid] = need - left
    return Short(missing, dict(needs), free) if missing else Admitted()
