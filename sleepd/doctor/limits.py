"""Memory limits of units, and of what they lie in, against what their servers need there (F36 of the failure modes).

Source: kernel, Documentation/admin-guide/cgroup-v2.rst: above memory.high a cgroup is throttled, at memory.max killed;
the checkpoint's pages count too until the kernel takes them back, and so do the pinned pages of a backup (as shmem).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sleepd.core.host_room import backup_size
from sleepd.core.model import Known
from sleepd.core.record import ModelRecord
from sleepd.core.seen import MemoryLimit
from sleepd.core.units import Bytes, format_size
from sleepd.core.world import World
from sleepd.doctor.findings import Finding, fail, ok, warn


def judge_limits(world: World, limits: Mapping[str, Sequence[MemoryLimit]]) -> Iterator[Finding]:
    """One finding for each limit, against the backups of all models below it and the largest checkpoint that is read
    there. `limits`: by model, those at and above its cgroup."""
    below: dict[MemoryLimit, list[ModelRecord]] = defaultdict(list)
    for name in sorted(limits):
        for limit in limits[name]:
            if world.models[name].spec.max_level > 0:
                below[limit].append(world.models[name])
    for limit, records in below.items():
        yield _judge_limit(world, limit, records)


def _judge_limit(world: World, limit: MemoryLimit, records: Sequence[ModelRecord]) -> Finding:
    about = limit.group.rpartition("/")[2] or limit.group
    gpus = world.gpus.value if isinstance(world.gpus, Known) else None
    sizes = {record.spec.name: backup_size(record, gpus) for record in records}
    told = f"{limit.file} is {format_size(limit.limit_bytes)}"
    unknown = [name for name, size in sizes.items() if size is None]
    if unknown:
        return warn("unit.memory", f"{told}; how large a backup is, is not known: set host_ram of {unknown[0]}", about)
    backups = [size for size in sizes.values() if size is not None]
    weights = max(_weights(record, size) for record, size in zip(records, backups, strict=True))
    whose = f"the backups of {len(backups)} models" if len(backups) > 1 else "a backup"
    if max(backups) > limit.limit_bytes:
        return fail("unit.memory", f"{told}, and a backup alone is up to {format_size(max(backups))}", about)
    found = f"{told}; weights and {whose} are up to {format_size(weights + sum(backups))}"
    return (warn if weights + sum(backups) > limit.limit_bytes else ok)("unit.memory", found, about)


def _weights(record: ModelRecord, backup_bytes: Bytes) -> Bytes:
    """The checkpoint's pages while it is read; where it is not known, about as much as its backup."""
    return (record.facts.checkpoint_bytes if record.facts else None) or backup_bytes
