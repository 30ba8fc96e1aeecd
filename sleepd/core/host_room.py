"""Whether a level 1 backup fits: into host RAM above the reserve, and under every memory limit above the unit.

A backup pins a copy of the weights, and the pinned blocks stay with the process after the wake (vLLM #16663): host RAM
comes back from no sleep and no wake, so what does not fit is refused before anything is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sleepd.core.ledger import left_of
from sleepd.core.life import State
from sleepd.core.memory import Admitted, Blind, placement, share_bytes
from sleepd.core.model import Known, Reading
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpusSeen, HostSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Bytes, MonotonicS, format_size
from sleepd.core.world import World

UNMEASURED_BACKUP_FACTOR = 2
"""PyTorch's pinned allocator rounds each block up to a power of two, so a first backup may take twice the weights
(pytorch #95823)."""
_PENDING = (State.FALLING_ASLEEP, State.SLEEP_PENDING)


@dataclass(frozen=True, slots=True)
class HostShort:
    """A backup that does not fit. `reason` names the bound and no bytes, which change with every reading."""

    reason: str
    wanted_bytes: Bytes
    found_bytes: Bytes
    hint: str

    @property
    def wanted(self) -> str:
        return f"{format_size(self.wanted_bytes)} of host RAM for its backup"

    @property
    def found(self) -> str:
        return f"{format_size(max(0, self.found_bytes))} left"


def backup_need(record: ModelRecord, gpus: GpusSeen | None) -> Bytes | None:
    """Host RAM the next level 1 sleep takes beside what its process pins already: nothing once this incarnation made a
    whole backup, else the rest of `backup_size`."""
    if record.footprint.host_pinned:
        return 0
    whole = backup_size(record, gpus)
    return max(0, whole - record.footprint.pinned_bytes) if whole is not None else None


def backup_size(record: ModelRecord, gpus: GpusSeen | None) -> Bytes | None:
    """Host RAM that a whole level 1 backup takes: declared, learned, twice the checkpoint, or bounded by what the model
    holds; None where nothing tells."""
    learned = record.learned
    if record.spec.host_ram_bytes is not None:
        return record.spec.host_ram_bytes
    if learned.host_bytes is not None:
        return learned.host_bytes
    if record.facts and record.facts.checkpoint_bytes:
        return UNMEASURED_BACKUP_FACTOR * record.facts.checkpoint_bytes
    # What it gives back or holds has the KV cache in it, which needs no backup: the factor is in there.
    if learned.freed:
        return sum(max(samples) for samples in learned.freed.values() if samples)
    if record.spec.vram_bytes is not None:
        return record.spec.vram_bytes * max(1, len(record.spec.gpus))
    if gpus is not None and record.facts is not None:
        uuids = placement(record.spec, record.placed_on, gpus)
        shares = [share_bytes(record.facts, gpu) for gpu in gpus if gpu.uuid in uuids]
        known = [b for b in shares if b is not None]
        return sum(known) if known and len(known) == len(shares) else None
    return None


def host_promised(world: World, but: str, read_s: MonotonicS | None = None) -> Bytes:
    """Host RAM that sleeps under way may still pin: their need less what their units grew by since they were sent.

    With `read_s`: beyond what a reading asked at that moment shows; growth that was seen later is not taken off.
    """
    gpus = world.gpus.value if isinstance(world.gpus, Known) else None
    promised = 0
    for name, task in world.tasks.items():
        record = world.models.get(name)
        if name == but or record is None or task.kind is not TaskKind.SLEEP or task.level != 1:
            continue
        if record.life.state in _PENDING:
            shown = read_s is None or record.unit_read_s <= read_s
            promised += left_of(backup_need(record, gpus) or 0, _grown(record, task) if shown else None)
    return promised


def limit_promised(world: World, record: ModelRecord) -> Bytes:
    """What sleeps under way may still take of the limit above this model's unit, beyond what its reading shows.

    Each server's limits are read in its own poll: what a neighbour under the same slice was seen to pin after that is
    not in this reading yet. Whether it lies under the same limit is not told.
    """
    return host_promised(world, record.spec.name, record.unit_read_s)


def _grown(record: ModelRecord, task: Task) -> Bytes | None:
    then = task.intent.kept_bytes if task.intent else None
    now = record.seen.value.unit_memory if isinstance(record.seen, Known) else None
    return now.kept_bytes - then if now is not None and now.own and then is not None else None


def host_preflight(
    record: ModelRecord,
    host: Reading[HostSeen],
    gpus: GpusSeen | None,
    reserve_bytes: Bytes,
    promised_bytes: Bytes = 0,
    limit_promised_bytes: Bytes = 0,
) -> Admitted | HostShort | Blind:
    """Say whether a level 1 sleep fits beside the reserve and what is promised, under every limit above its unit.

    `limit_promised_bytes`: what is promised beyond what the reading of that limit shows.
    """
    name = record.spec.name
    if not isinstance(host, Known):
        return Blind("host RAM is not known")
    need = backup_need(record, gpus)
    if need is None:
        return Blind(f"its backup's size is not known; set host_ram in [models.{name}]")
    if need == 0:
        return Admitted()
    deeper = f"set max_level = 2 in [models.{name}] where its weights can be read anew"
    left = host.value.available_bytes - reserve_bytes - promised_bytes
    if need > left:
        reason = "its backup would not fit into host RAM above the reserve"
        return HostShort(reason, need, left, f"free host RAM, lower [host] reserve, or {deeper}")
    unit = record.seen.value.unit_memory if isinstance(record.seen, Known) else None
    if unit is not None and unit.limit_bytes is not None and need > unit.headroom_bytes - limit_promised_bytes:
        reason = f"its backup would not fit under {unit.limited_by}"
        hint = f"raise that limit (MemoryMax=, MemoryHigh=, or the container's), or {deeper}"
        return HostShort(reason, need, unit.headroom_bytes - limit_promised_bytes, hint)
    return Admitted()


def limits_unread(models: Mapping[str, ModelRecord], record: ModelRecord) -> bool:
    """Whether the limits above its unit were last read before somebody else's step ended: what that pinned may count
    against them too, and does not show yet."""
    if not isinstance(record.seen, Known) or record.seen.value.unit_memory is None:
        return False
    return any(other is not record and other.settled_s > record.unit_read_s for other in models.values())


def admit_backup(world: World, record: ModelRecord) -> Admitted | HostShort | Blind:
    """`host_preflight` of this model in this world."""
    gpus = world.gpus.value if isinstance(world.gpus, Known) else None
    reserve = world.settings.host_reserve_bytes
    promised = host_promised(world, record.spec.name)
    return host_preflight(record, world.host, gpus, reserve, promised, limit_promised(world, record))


def backup_refusal(world: World, record: ModelRecord) -> str:
    """Why a level 1 backup may not be made, as a sentence that stays the same while it holds; empty where it may."""
    verdict = admit_backup(world, record)
    if isinstance(verdict, HostShort):
        return verdict.reason
    return verdict.wanted if isinstance(verdict, Blind) else ""
