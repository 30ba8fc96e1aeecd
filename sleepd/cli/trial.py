"""`sleepctl doctor --try MODEL`: one sleep and one wake through the daemon, and the GPUs' bytes before and after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.declared_gpus import DECLARED, NAMED_FROM
from sleepd.adapters.nvml import NvmlGpus
from sleepd.client import ApiProblem, Client, DaemonUnreachable
from sleepd.core.model import Known
from sleepd.core.units import format_duration
from sleepd.doctor.findings import Finding, fail, ok, warn
from sleepd.doctor.trial import Free, judge_trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sleepd.core.model import Reading
    from sleepd.core.seen import GpusSeen


def read_nvml() -> Reading[GpusSeen]:
    """What the driver tells whoever runs this, now."""
    return asyncio.run(NvmlGpus(SystemClock()).read(processes=False))


def try_sleep(client: Client, name: str, read: Callable[[], Reading[GpusSeen]] = read_nvml) -> list[Finding]:
    """Put an awake model to sleep, compare its GPUs' free bytes, and wake it again, whatever came of the sleep.

    Bytes are those of NVML, asked here or, where only the daemon may, there. A sleeper is left alone. Waits for both,
    ten minutes each at most.
    """
    try:
        status = client.status().body
        model = next((model for model in status["models"] if model["name"] == name), None)
        if model is None:
            return [fail("try.sleep", "not tried: no model is named so", name)]
        if model["state"] != "awake":
            return [fail("try.sleep", f"not tried: it is {model['state']}; wake it first", name)]
    except (ApiProblem, DaemonUnreachable) as error:
        return [fail("try.sleep", f"not tried: {error}", name)]
    try:
        slept = _sleep(client, name, status, model, read)
    except KeyboardInterrupt:
        # Whoever has seen enough has not asked for a model that stays asleep.
        client.wake(name, wait=False)
        raise
    return [slept, _wake(client, name)]


def _sleep(client: Client, name: str, status: Any, model: Any, read: Callable[[], Reading[GpusSeen]]) -> Finding:
    gpus = model["gpus"]
    before = _free_bytes(status, gpus, read())
    try:
        client.sleep(name)
        now = client.status().body
        after = _free_bytes(now, gpus, read())
    except (ApiProblem, DaemonUnreachable) as error:
        return fail("try.sleep", str(error), name)
    if before is None or after is None or before.by != after.by:
        return warn("try.sleep", "it slept, but the memory of its GPUs cannot be read: nothing was measured", name)
    # One that was just found awake may be measured only as it falls asleep.
    learned: Any = next((model["gpus"] for model in now["models"] if model["name"] == name), gpus)
    held = [gpu["awake_bytes"] for gpu in learned]
    known = bool(held) and all(bytes_ is not None for bytes_ in held)
    return judge_trial(name, before, after, held_bytes=sum(held) if known else None)


def _free_bytes(status: Any, gpus: Any, own: Reading[GpusSeen]) -> Free | None:
    """The free bytes of these GPUs together; None where not all of them are read by anybody."""
    uuids = {gpu["uuid"] for gpu in gpus}
    here = own.value if isinstance(own, Known) else ()
    mine = {gpu.uuid: gpu.free_bytes for gpu in here} | {f"{DECLARED}{gpu.index}": gpu.free_bytes for gpu in here}
    theirs = {gpu["uuid"]: gpu["free_bytes"] for gpu in status["gpus"] if not is_declared(gpu)}
    for read, by in ((mine, "by NVML"), (theirs, "by NVML as the daemon reads it")):
        if uuids and uuids <= read.keys():
            return Free(sum(read[uuid] for uuid in uuids), by)
    return None


def is_declared(gpu: Any) -> bool:
    """Whether the daemon was told this GPU's bytes ([gpu] backend = "none") and reads none."""
    return bool(gpu["uuid"].startswith(DECLARED) or (gpu["mig_of"] is None and gpu["index"] >= NAMED_FROM))


def _wake(client: Client, name: str) -> Finding:
    try:
        waited_s = client.wake(name).body["waited_s"]
    except (ApiProblem, DaemonUnreachable) as error:
        return fail("try.wake", str(error), name)
    return ok("try.wake", f"awake after {format_duration(waited_s)}" if waited_s else "it is awake", name)
