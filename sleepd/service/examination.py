"""What `GET /v1/doctor` judges: the world, and what is read for it alone."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.adapters.declared_gpus import DeclaredGpus
from sleepd.adapters.store import DATABASE
from sleepd.api.daemon import RingEvent
from sleepd.core.model import Known, Now
from sleepd.core.seen import MemoryLimit
from sleepd.core.world import World
from sleepd.doctor.daemon import DiskSeen, judge_daemon, judge_gpus, judge_host
from sleepd.doctor.findings import Finding
from sleepd.doctor.limits import judge_limits
from sleepd.doctor.models import judge_models
from sleepd.doctor.placement import judge_placement
from sleepd.ports import Gpus


def look_at_disk(folder: Path, unrecorded: str) -> DiskSeen:
    """What is left for the state database; `unrecorded`: why the last records could not be committed. Asks the file
    system, which may take as long as its disk."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        return DiskSeen(str(folder), wrong=error.strerror or str(error))
    return DiskSeen(str(folder), free_bytes, _why_unwritable(folder), unrecorded)


def _why_unwritable(folder: Path) -> str:
    database = folder / DATABASE
    if not database.exists():
        return f"{DATABASE} is gone: what is recorded now ends with this daemon; restart it"
    locked = next((path for path in (database, folder) if not os.access(path, os.W_OK)), None)
    return f"{locked.name} cannot be written" if locked else ""


def look_at_limits(world: World, units: CgroupMemory | None) -> Mapping[str, Sequence[MemoryLimit]]:
    """The memory limits of every model's unit, container or process, and of all that they lie in."""
    if units is None:
        return {}
    pids = {name: m.seen.value.pids if isinstance(m.seen, Known) else () for name, m in world.models.items()}
    return {name: units.limits(record.spec, pids[name]) for name, record in world.models.items()}


async def examine(
    world: World,
    disk: DiskSeen,
    gpus: Gpus,
    limits: Mapping[str, Sequence[MemoryLimit]],
    *,
    started: Now,
    now: Now,
    events: Sequence[RingEvent],
) -> tuple[Finding, ...]:
    """Judge all that the daemon sees. Waits for one look at the GPUs with their processes, at most its deadline."""
    jumped_s = (now.wall_s - started.wall_s) - (now.mono_s - started.mono_s)
    strangers = Counter(event.note.model for event in events if event.note.kind == "foreign")
    seen = await gpus.read(processes=True)
    return (
        *judge_daemon(world, disk, jumped_s),
        *judge_gpus(seen, declared=isinstance(gpus, DeclaredGpus)),
        *judge_host(world),
        *judge_models(world, now.mono_s, strangers),
        *judge_placement(world, seen.value if isinstance(seen, Known) else ()),
        *judge_limits(world, limits),
    )
