"""Making the room that reservations wait for: who steps aside, when the bytes are really free, when there never is any.

A reservation takes no locks: from the moment it is asked for, nobody else gets its bytes on any of its GPUs, and each
model that steps aside takes its own. So neither reservations nor wakes ever wait for each other in a circle; the oldest
reservation is served first.
"""

from dataclasses import dataclass

from sleepd.core.commands import LookNow
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.ledger import left_beside, managed_pids, own_bytes, promised_bytes, unmanaged_bytes
from sleepd.core.memory import Admitted, Blind, Short, find_gpu, preflight
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.orders import uuids_of
from sleepd.core.plan import SLEEPS
from sleepd.core.reservation import Reservation
from sleepd.core.reservations import grant, put_reservation, refuse_reservation, reserved_for, seniority
from sleepd.core.restarts import is_unit_overdue
from sleepd.core.room import FRESH_S, MakeRoom, Refuse, Room, WaitFor, claimed, last_moved_s, room_by_victims
from sleepd.core.seen import GpuSeen, GpusSeen
from sleepd.core.task import LIFTS, TaskKind
from sleepd.core.tasks import begin_sleep
from sleepd.core.units import Bytes, format_size
from sleepd.core.victims import why_chosen

LISTED_WITHIN_S = 2.0
"""How long a reservation waits for a reading that tells who holds what; where none does, its job's use is not seen."""


@dataclass(frozen=True, slots=True)
class Granted:
    unmanaged: dict[str, Bytes | None]


def make_reserved_room(draft: Draft) -> None:
    """Bring every reservation that waits one step nearer to its room, the oldest first."""
    _follow_gpus(draft)
    if draft.stopping or draft.leaving:
        return
    waiting = [r for r in draft.reservations.values() if not r.granted]
    for reservation in sorted(waiting, key=seniority):
        _lend(draft, _resolved(draft, reservation))


def _resolved(draft: Draft, reservation: Reservation) -> Reservation:
    """The reservation with its GPUs by UUID, as soon as a reading names them."""
    if reservation.uuids or not isinstance(draft.gpus, Known):
        return reservation
    gpus = [find_gpu(draft.gpus.value, address) for address in reservation.gpus]
    uuids = tuple(dict.fromkeys(gpu.uuid for gpu in gpus if gpu is not None))
    return replace(reservation, uuids=uuids) if all(gpus) else reservation


def _follow_gpus(draft: Draft) -> None:
    """What was asked for by an index stands for whatever GPU has it by now: another one in its place, or the declared
    one of `[gpu] backend = "none"`. Nobody knows what its job took there, so all of it is kept."""
    if not isinstance(draft.gpus, Known):
        return
    there = {gpu.uuid for gpu in draft.gpus.value}
    for reservation in list(draft.reservations.values()):
        if reservation.granted and not there.issuperset(reservation.uuids):
            found = _resolved(draft, replace(reservation, uuids=()))
            if found.uuids:
                put_reservation(draft, found)


def _lend(draft: Draft, reservation: Reservation) -> None:
    room = _room_for(draft, reservation)
    if isinstance(room, Granted):
        managed = managed_pids(draft.models) or ()
        grant(draft, replace(reservation, unmanaged=room.unmanaged, managed=managed))
    elif isinstance(room, MakeRoom):
        aside = tuple(dict.fromkeys((*reservation.aside, room.victim)))
        put_reservation(
            draft, replace(reservation, aside=aside, waits_for=_falls_asleep(room.victim), problem="timeout")
        )
        text = f"{room.victim} makes room for {reserved_for(reservation)} ({why_chosen(room.choice)})"
        felt_s = round(room.choice.felt_s, 3)
        data = {"reservation": reservation.id, "victim": room.victim, "level": room.level, "felt_s": felt_s}
        draft.note("victim", room.victim, text, data)
        begin_sleep(draft, room.victim, room.level, Cause(CauseKind.RESERVATION, reservation.id))
    elif isinstance(room, WaitFor):
        if room.look:
            draft.command(LookNow(gpus=True))
        waits = replace(reservation, waits_for=room.reason, problem=room.problem)
        if waits != draft.reservations[reservation.id]:
            put_reservation(draft, waits)
    elif isinstance(room, Refuse):
        refuse_reservation(draft, reservation, room.problem, room.detail, room.wanted, room.found, room.hint)


def _falls_asleep(name: str) -> str:
    return f"{name} to fall asleep"


def _room_for(draft: Draft, reservation: Reservation) -> Granted | Room:
    if not isinstance(draft.gpus, Known):
        return WaitFor(
            f"a reading of GPU memory ({draft.gpus.detail or draft.gpus.reason})", look=True, problem="blind"
        )
    gpus = draft.gpus.value
    if refused := _impossible(draft, reservation, gpus):
        return refused
    for name, task in draft.tasks.items():
        if task.kind is TaskKind.SLEEP and task.cause == Cause(CauseKind.RESERVATION, reservation.id):
            return WaitFor(_falls_asleep(name), problem="timeout")
    uuids = frozenset(reservation.uuids)
    asked_s = draft.gpus.asked_at_s
    if draft.mono_s - asked_s > FRESH_S or asked_s < max(last_moved_s(draft, uuids), reservation.asked_s):
        return WaitFor("a fresh reading of GPU memory", look=True, problem="blind")
    if managed_pids(draft.models) is None:
        return WaitFor("a first look at every server", problem="blind")
    if overdue := [n for n, r in draft.models.items() if is_unit_overdue(r)]:
        draft.command(LookNow(unit=overdue[0]))
        return WaitFor(f"a look at the unit of {overdue[0]}", problem="blind")
    seen = [gpu for gpu in gpus if gpu.uuid in uuids]
    listed = all(gpu.used_by_pid is not None for gpu in seen)
    if not listed and draft.mono_s - reservation.asked_s < LISTED_WITHIN_S:
        return WaitFor("a reading that tells who holds GPU memory", look=True, problem="blind")
    return _room_on(draft, reservation, seen, gpus)


def _impossible(draft: Draft, reservation: Reservation, gpus: GpusSeen) -> Refuse | None:
    """The refusal where no waiting helps: a GPU that is not here, or more than it has."""
    if not reservation.uuids:
        there = ", ".join(f"{g.index} ({g.uuid})" for g in gpus) or "none"
        missing = next(a for a in reservation.gpus if find_gpu(gpus, a) is None)
        return Refuse("invalid", f"there is no GPU {missing} here", "an index or UUID of nvidia-smi -L", there)
    margin = draft.settings.gpu_margin_bytes
    for uuid in reservation.uuids:
        gpu = find_gpu(gpus, uuid)
        parts = [g.uuid for g in gpus if gpu is not None and g.mig_of == gpu.index]
        if gpu is not None and parts:
            named = ", ".join(parts)
            return Refuse("invalid", f"GPU {gpu.index} is divided into MIG devices", f"one of {named}", gpu.uuid)
        if gpu is not None and reservation.bytes_per_gpu > gpu.total_bytes - margin:
            found = f"{format_size(gpu.total_bytes)} on GPU {gpu.index}, {format_size(margin)} of it margin"
            wanted = format_size(reservation.bytes_per_gpu)
            return Refuse("no_room", f"{wanted} never fits: there are {found}", wanted, found, "ask for less")
    return None


def _room_on(draft: Draft, reservation: Reservation, seen: list[GpuSeen], gpus: GpusSeen) -> Granted | Room:
    needs = {gpu.uuid: left_beside(draft.models, [reservation], gpu) for gpu in seen}
    if len(needs) < len(reservation.uuids):
        return WaitFor("a reading of all of its GPUs", look=True, problem="blind")
    before = {
        i: r
        for i, r in draft.reservations.items()
        if r.id != reservation.id and (r.granted or seniority(r) < seniority(reservation))
    }
    margin = draft.settings.gpu_margin_bytes
    promised = promised_bytes(draft.models, draft.tasks, before, gpus, but="")
    verdict = preflight(needs, gpus, margin, promised)
    if isinstance(verdict, Admitted) and (name := _disturbed(draft, frozenset(needs))):
        return WaitFor(f"{name}, which is on its way", problem="timeout")
    if isinstance(verdict, Admitted):
        managed = managed_pids(draft.models) or ()
        return Granted({gpu.uuid: _others_hold(reservation, gpu, managed) for gpu in seen})
    if isinstance(verdict, Blind):
        return WaitFor(verdict.wanted, look=True, problem="blind")
    room = room_by_victims(draft, "", verdict, {}, frozenset(), claimed(draft))
    if not isinstance(room, Refuse):
        return room
    sharing = [r for r in before.values() if not set(r.uuids).isdisjoint(reservation.uuids)]
    return _say_short(draft, reservation, verdict, room, sharing)


def _disturbed(draft: Draft, uuids: frozenset[str]) -> str:
    """Whose transition on these GPUs a job would fail by allocating now; empty where there is none. vLLM asserts that
    the device's free memory grew over a sleep (0.8.5 to 0.33, v1/worker/gpu_worker.py), and sizes its KV cache by it
    while it starts. A wake has its bytes promised, and asserts nothing."""
    for name, task in sorted(draft.tasks.items()):
        falls = task.kind is TaskKind.SLEEP or task.plan.steps[task.cursor].verb in SLEEPS
        if (falls or task.kind in LIFTS) and uuids & {*task.claims, *uuids_of(draft, draft.models[name])}:
            return name
    return ""


def _say_short(
    draft: Draft, reservation: Reservation, short: Short, room: Refuse, before: list[Reservation]
) -> WaitFor | Refuse:
    """Wait where time helps: for other people's jobs, and for models on their way somewhere. Else say what is short."""
    if before:
        first = min(before, key=seniority)
        return WaitFor(f"room that is kept for {reserved_for(first)}", problem="reserved")
    waking = [n for n, t in draft.tasks.items() if t.kind is not TaskKind.SLEEP and t.claims & set(reservation.uuids)]
    if waking:
        return WaitFor(f"{waking[0]}, which is on its way", problem="no_room")
    missing = ", ".join(f"{format_size(b)} on GPU {_index(draft, u)}" for u, b in short.missing.items())
    detail = f"{reservation.id} needs {room.wanted} of VRAM, {room.found}; missing: {missing}"
    reasons = room.detail.partition(" (")[2]
    detail += f" ({reasons}" if reasons else ""
    return Refuse("no_room", detail, room.wanted, room.found, "ask for less, or end or unpin what holds the GPU")


def _index(draft: Draft, uuid: str) -> str:
    assert isinstance(draft.gpus, Known)
    gpu = find_gpu(draft.gpus.value, uuid)
    return str(gpu.index) if gpu else uuid


def _others_hold(reservation: Reservation, gpu: GpuSeen, managed: tuple[int, ...]) -> Bytes | None:
    """What neither we manage nor the job holds already."""
    unmanaged = unmanaged_bytes(gpu, managed)
    return None if unmanaged is None else unmanaged - (own_bytes(reservation, gpu, managed) or 0)
