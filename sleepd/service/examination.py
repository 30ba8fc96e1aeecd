"""What `GET /v1/doctor` judges: the world, and what is read for it alone."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sleepd.adapters.declared_gpus import DeclaredGpus
from sleepd.api.daemon import RingEvent
from sleepd.core.model import Now
from sleepd.core.world import World
from sleepd.doctor.daemon import DiskSeen, judge_daemon, judge_gpus, judge_host
from sleepd.doctor.findings import Finding
from sleepd.doctor.models import judge_models
from sleepd.ports import Gpus


def look_at_disk(folder: Path) -> DiskSeen:
    """What is left for the state database. Asks the file system, which may take as long as its disk."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        return DiskSeen(str(folder), wrong=error.strerror or str(error))
    if not os.access(folder, os.W_OK):
        return DiskSeen(str(folder), free_bytes, "it cannot be written")
    return DiskSeen(str(folder), free_bytes)


async def examine(
    world: World, disk: DiskSeen, gpus: Gpus, *, started: Now, now: Now, events: Sequence[RingEvent]
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
    )
