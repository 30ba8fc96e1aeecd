"""Who was promised which bytes, and how much of it is still to be taken: wakes under way, other people's jobs.

A promise shrinks by what its owner took since, because that is missing from free memory already: nothing is counted
twice, and nothing that was promised is given away.
"""

from collections.abc import Collection, Iterable, Mapping

from sleepd.core.frozen import replace
from sleepd.core.life import State
from sleepd.core.memory import Blind, find_gpu, held_bytes, wake_needs
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.record import PLAIN, ModelRecord
from sleepd.core.reservation import Reservation
from sleepd.core.seen import GpuSeen, GpusSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Bytes


def left_of(promised: Bytes, grown: Bytes | None) -> Bytes:
    """What of a promise is still to be taken; all of it where growth cannot be told."""
    return promised if grown is None else max(0, promised - max(0, grown))


def unmanaged_bytes(gpu: GpuSeen, managed: Iterable[int]) -> Bytes | None:
    """What nobody we manage holds of the GPU; None where per-process bytes are not told."""
    if gpu.used_by_pid is None:
        return None
    return gpu.total_bytes - gpu.free_bytes - (held_bytes(gpu, tuple(managed)) or 0)


def left_beside(models: Mapping[str, ModelRecord], reservations: Collection[Reservation], gpu: GpuSeen) -> Bytes:
    """What these reservations of the GPU still keep free there, beside these servers: before its grant all of its bytes
    less what its job holds already, from then on less what unmanaged memory grew since.

    All of them where servers cannot be told from jobs: what a server holds would count as a job's.
    """
    managed = managed_pids(models)
    if managed is None or not _are_told_apart(models, gpu):
        return sum(r.bytes_per_gpu for r in reservations)
    granted = [r for r in reservations if r.granted]
    waiting = (r for r in reservations if not r.granted)
    wanted = sum(left_of(r.bytes_per_gpu, own_bytes(r, gpu, managed)) for r in waiting)
    return wanted + _left_of_granted(granted, gpu, managed)


def own_bytes(reservation: Reservation, gpu: GpuSeen, managed: Iterable[int]) -> Bytes | None:
    """What the job's processes hold already; our servers are nobody's job, whoever started them."""
    return held_bytes(gpu, tuple(set(reservation.pids) - set(managed)))


def reserved_bytes(
    models: Mapping[str, ModelRecord], reservations: Iterable[Reservation], gpus: GpusSeen
) -> dict[str, Bytes]:
    """Bytes by GPU uuid that are kept free for jobs and not taken by them yet."""
    reserved: dict[str, Bytes] = {}
    standing = tuple(reservations)
    for gpu in gpus if standing else ():
        if here := [r for r in standing if gpu.uuid in r.uuids]:
            reserved[gpu.uuid] = left_beside(models, here, gpu)
    return reserved


def _left_of_granted(granted: Iterable[Reservation], gpu: GpuSeen, managed: Iterable[int]) -> Bytes:
    """What all of these still keep free on a GPU. What grew there counts once: those granted since some moment have
    together taken no more than what grew since then. The strictest such moment decides."""
    left = together = 0
    for reservation in sorted(granted, key=lambda r: r.granted_as, reverse=True):
        together += reservation.bytes_per_gpu
        then, now = reservation.unmanaged.get(gpu.uuid), unmanaged_bytes(gpu, {*managed, *reservation.managed})
        left = max(left, left_of(together, None if now is None or then is None else now - then))
    return left


def with_jobs_gone(models: Mapping[str, ModelRecord], reservations: Iterable[Reservation], gpus: GpusSeen) -> GpusSeen:
    """The reading as it will be once the reservations have ended and their jobs gave back what they took of them."""
    granted = [r for r in reservations if r.granted]
    found = []
    for gpu in gpus:
        size = sum(r.bytes_per_gpu for r in granted if gpu.uuid in r.uuids)
        taken = size - reserved_bytes(models, granted, (gpu,)).get(gpu.uuid, 0)
        found.append(replace(gpu, free_bytes=min(gpu.total_bytes, gpu.free_bytes + taken)) if taken > 0 else gpu)
    return tuple(found)


def managed_pids(models: Mapping[str, ModelRecord]) -> tuple[int, ...] | None:
    """The processes of all servers; None while one was not looked at yet."""
    if any(isinstance(r.seen, Missing) and r.seen.reason is MissingReason.NOT_YET for r in models.values()):
        return None
    return tuple(p for r in models.values() if isinstance(r.seen, Known) for p in r.seen.value.pids)


def _are_told_apart(models: Mapping[str, ModelRecord], gpu: GpuSeen) -> bool:
    """Whether this list of processes tells our servers on this GPU from strangers, once all were looked at: none is
    silent while its processes may run, and none is there without being named (in a container without the host's pids).
    """
    for record in models.values():
        if not _is_on(record, gpu):
            continue
        if isinstance(record.seen, Missing):
            # One that answers, and cannot be put to sleep, is a stranger, whose memory stands still.
            if not _is_gone(record) and record.seen.reason not in PLAIN:
                return False
        elif record.seen.value.pids and gpu.used_by_pid is not None and held_bytes(gpu, record.seen.value.pids) is None:
            return False
    return True


def _is_on(record: ModelRecord, gpu: GpuSeen) -> bool:
    """Whether it lies on this GPU, as far as is known."""
    said = any(find_gpu((gpu,), address) for address in record.spec.gpus)
    return said if record.spec.gpus else gpu.uuid in record.placed_on


def _is_gone(record: ModelRecord) -> bool:
    """Whether nobody listens any more: one that was given up stays failed when its process ends."""
    refused = isinstance(record.seen, Missing) and record.seen.reason is MissingReason.REFUSED
    return record.life.state in (State.LOST, State.STOPPED) or (refused and record.life.state is State.FAILED)


def promised_bytes(
    models: Mapping[str, ModelRecord],
    tasks: Mapping[str, Task],
    reservations: Mapping[str, Reservation],
    gpus: GpusSeen,
    *,
    but: str,
) -> dict[str, Bytes]:
    """Bytes by GPU uuid that are free and not to be given out: wakes under way except of `but`, and reservations."""
    promised = reserved_bytes(models, reservations.values(), gpus)
    for name, task in tasks.items():
        if name == but or task.kind is not TaskKind.WAKE or name not in models:
            continue
        needs = wake_needs(models[name], gpus)  # what it took already is taken off
        for uuid, need in {} if isinstance(needs, Blind) else needs.items():
            promised[uuid] = promised.get(uuid, 0) + need
    return promised
