"""Engines that were left half-way: they say that they sleep, or that they are awake, and their bytes say otherwise.

`/is_sleeping` is one boolean. Up to vLLM 0.27 a wake or a sleep that failed half-way leaves memory that the next call
maps twice, or unmaps twice, and the engine dies of it; nothing but the bytes it holds tells (vLLM F1, F3).
"""

from sleepd.core.dialect import Remedy
from sleepd.core.life import State
from sleepd.core.memory import held_bytes
from sleepd.core.model import Known, Reading
from sleepd.core.plan import Verb
from sleepd.core.record import ModelRecord
from sleepd.core.remedy import remedies_for
from sleepd.core.seen import GpusSeen, ModelSeen
from sleepd.core.units import Bytes, format_size


def is_to_be_weighed(record: ModelRecord) -> bool:
    """Whether what it holds is to be seen before its own word is believed: something is known to compare that with, and
    no list told since it became unknown."""
    learned = bool(record.footprint.awake or record.footprint.asleep)
    return record.life.state is State.UNKNOWN and learned and record.listed_s < record.since_s


def half_way(
    record: ModelRecord, seen: ModelSeen, gpus: Reading[GpusSeen], margin_bytes: Bytes, *, sleeps: bool
) -> str:
    """What contradicts its word, as a sentence; empty where nothing does, or where nobody tells what it holds.

    `sleeps`: it is taken for asleep; else for awake, or paused with its memory in place.
    """
    if not isinstance(gpus, Known):
        return ""
    for gpu in gpus.value:
        held, awake = held_bytes(gpu, seen.pids), record.footprint.awake.get(gpu.uuid)
        if held is None:
            continue
        asleep = record.footprint.asleep.get(gpu.uuid)
        if sleeps and _is_more(held, asleep, awake, margin_bytes) and not _maps_once(record):
            return f"it says that it sleeps and holds {format_size(held)} on GPU {gpu.index}: it is half awake"
        # Caches of the allocator come and go; more than half of what a sleep gives back does not.
        if not sleeps and awake is not None and held < (awake + (asleep or 0)) // 2 - margin_bytes:
            return f"it holds {format_size(held)} on GPU {gpu.index}, of {format_size(awake)}: it is half asleep"
    return ""


def holds_as_asleep(record: ModelRecord, gpus: Reading[GpusSeen] | None, pids: tuple[int, ...]) -> bool:
    """Whether it certainly holds no more than it was learned to hold asleep, on each GPU."""
    if not isinstance(gpus, Known) or not record.footprint.asleep:
        return False
    held = {gpu.uuid: held_bytes(gpu, pids) for gpu in gpus.value}
    return all((now := held.get(uuid)) is not None and now <= then for uuid, then in record.footprint.asleep.items())


def _is_more(held: Bytes, asleep: Bytes | None, awake: Bytes | None, margin_bytes: Bytes) -> bool:
    """Whether it holds more than a sleeper does. What one that never slept would hold is not known: certainly less
    than half of what it held awake, unless it holds all of that, as a server that frees nothing does."""
    if asleep is not None:
        return held > asleep + margin_bytes
    return awake is not None and awake // 2 + margin_bytes < held < awake - margin_bytes


def _maps_once(record: ModelRecord) -> bool:
    """Whether its next wake leaves alone what is mapped already (0.28+, one rank)."""
    return record.facts is not None and remedies_for(Verb.WAKE, record.facts, 1)[0] is not Remedy.RESTART
