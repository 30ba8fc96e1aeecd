"""Reservations as the API shows them: how they are made of the world. Pure."""

from sleepd.core.ledger import left_beside
from sleepd.core.memory import find_gpu
from sleepd.core.model import Known
from sleepd.core.reservation import Reservation as Kept
from sleepd.core.reservations import seniority, waited_for
from sleepd.core.world import World
from sleepd.wire.reservation_shapes import Reservation, Reservations, ReservedGpu
from sleepd.wire.values import format_time


def reservation_body(world: World, kept: Kept) -> Reservation:
    return {
        "id": kept.id,
        "uid": kept.uid,
        "who": kept.who,
        "reason": kept.reason,
        "gpus": [_reserved_gpu(world, kept, uuid) for uuid in kept.uuids or kept.gpus],
        "bytes_per_gpu": kept.bytes_per_gpu,
        "granted": kept.granted,
        "waits_for": None if kept.granted else waited_for(kept),
        "aside": list(kept.aside),
        "since": format_time(kept.since_wall_s),
        "ttl_s": kept.ttl_s,
        "until": format_time(kept.until_wall_s) if kept.until_wall_s is not None else None,
        "attached": kept.stream is not None,
    }


def reservations_body(world: World) -> Reservations:
    found = sorted(world.reservations.values(), key=seniority)
    return {"reservations": [reservation_body(world, kept) for kept in found]}


def _reserved_gpu(world: World, kept: Kept, uuid: str) -> ReservedGpu:
    gpu = find_gpu(world.gpus.value, uuid) if isinstance(world.gpus, Known) else None
    if gpu is None:
        return {"uuid": uuid, "index": None, "left_bytes": None, "missing_bytes": None}
    left = left_beside(world.models, [kept], gpu)
    free = max(0, gpu.free_bytes - world.settings.gpu_margin_bytes)
    missing = 0 if kept.granted else max(0, left - free)
    return {"uuid": gpu.uuid, "index": gpu.index, "left_bytes": left, "missing_bytes": missing}
