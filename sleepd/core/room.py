"""Whether a wake may go ahead now: locks, preflight, who makes room, whom to wait for, when to refuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sleepd.core.conditions import idle_s
from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.events import LookNow
from sleepd.core.groups import full_group
from sleepd.core.host_room import backup_need, backup_refusal, host_promised, limits_unread
from sleepd.core.ledger import promised_bytes
from sleepd.core.life import PUBLIC, State
from sleepd.core.memory import (
    Admitted,
    Blind,
    Candidate,
    Short,
    choose_victim,
    find_gpu,
    held_bytes,
    placement,
    preflight,
    start_needs,
    wake_needs,
)
from sleepd.core.model import GpusSeen, Group, Known
from sleepd.core.orders import pids_of
from sleepd.core.policy import is_pressed, kept_from_neighbour, level_for
from sleepd.core.units import Bytes, format_size
from sleepd.core.world import HOST_LOCK, AskKind, ModelRecord, is_pinned, is_wanted_awake

FRESH_S = 0.5
"""Readings older than this admit nothing: a neighbour may have taken the room meanwhile."""


@dataclass(frozen=True, slots=True)
class Go:
    claims: frozenset[str]


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Put `victim` to sleep first, at `level`; the claims cover target and victim."""

    victim: str
    level: int
    claims: frozenset[str]


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Nothing is wrong that time does not change; `reason` is a sentence, `claims` what younger wishes must leave alone
    once this one has waited long: its GPUs, and where a lock is all that is missing, everything it would take."""

    reason: str
    claims: frozenset[str] = frozenset()
    look: bool = False
    """A reading would settle it: it is asked for at once."""
    problem: str = "no_room"
    """What a caller is told whose time ran out while waiting for this."""


@dataclass(frozen=True, slots=True)
class Refuse:
    problem: str
    detail: str
    wanted: str = ""
    found: str = ""
    hint: str = ""


Room: TypeAlias = Go | MakeRoom | WaitFor | Refuse


def claimed(draft: Draft, but: int | None = None) -> frozenset[str]:
    """Everything that running tasks hold, except the task `but`."""
    return frozenset(c for t in draft.tasks.values() if t.id != but for c in t.claims)


def room_for(draft: Draft, name: str, *, task_id: int | None, barred: frozenset[str], force: bool) -> Room:
    """Decide for a sleeping model that is wanted awake. `task_id`: the wake already holding claims for it."""
    record = draft.models[name]
    if not isinstance(draft.gpus, Known):
        missing = f"a reading of GPU memory ({draft.gpus.detail or draft.gpus.reason})"
        return WaitFor(missing, look=True, problem="blind")
    starts = record.life.state in (State.STOPPED, State.STARTING)
    if not starts and not isinstance(record.seen, Known):
        return WaitFor(f"the server's answer ({record.seen.detail or record.seen.reason})", problem="engine_failed")
    gpus = draft.gpus.value
    uuids = frozenset(placement(record.spec, record.placed_on, gpus) or (g.uuid for g in gpus if starts))
    claims = uuids | ({HOST_LOCK} if record.life.state is State.ASLEEP_L2 else frozenset())
    taken = claimed(draft, task_id) | barred
    stale = draft.mono_s - draft.gpus.asked_at_s > FRESH_S
    if uuids and (stale or draft.gpus.asked_at_s < _last_moved_s(draft, uuids)):
        # A moment only, so the host is kept too: whoever must make room will need it.
        return WaitFor("a fresh reading of GPU memory", uuids | {HOST_LOCK}, look=True)
    if claims & taken:
        return WaitFor(f"another transition is under way on its {'GPU' if uuids & taken else 'host'}", claims)
    full = full_group(draft, name)
    if full is not None:
        return _place_in_group(draft, name, full, claims, taken)
    if force and uuids:
        return Go(claims)
    needs = start_needs(record, gpus) if starts else wake_needs(record, gpus)
    if starts and isinstance(needs, Blind):
        # Nobody knows what it takes: it starts under the locks of all its GPUs, and looks itself whether it fits.
        return Go(claims)
    if isinstance(needs, Blind):
        return Refuse("blind", f"cannot tell whether {name} fits: {needs.wanted}", hint=needs.wanted)
    promised = promised_bytes(draft.models, draft.tasks, draft.reservations, gpus, but=name)
    verdict = preflight(needs, gpus, draft.settings.gpu_margin_bytes, promised)
    if isinstance(verdict, Admitted):
        return Go(claims)
    if isinstance(verdict, Blind):
        return WaitFor(f"{verdict.wanted} is missing", uuids, look=True)
    room = _room_by_victims(draft, name, verdict, claims, taken)
    if isinstance(room, Refuse) and draft.gpus.asked_at_s < _first_wished_s(record):
        # Somebody may have made the room just before asking: nobody is refused by what was read before the wish.
        return WaitFor("a fresh reading of GPU memory", uuids | {HOST_LOCK}, look=True)
    return room


def _place_in_group(
    draft: Draft,
    name: str,
    full: tuple[Group, tuple[ModelRecord, ...]],
    claims: frozenset[str],
    taken: frozenset[str],
) -> MakeRoom | WaitFor | Refuse:
    """Its group has as many awake as it may have: one of them sleeps first, or the wake waits or is refused."""
    assert isinstance(draft.gpus, Known)
    gpus, (group, members) = draft.gpus.value, full
    reasons, passes = [], False
    for other in members:
        hindrance, soon = _hindrance(draft, other, name, taken, gpus)
        if other.life.state is not State.AWAKE:
            hindrance, soon = hindrance or f"it is {PUBLIC[other.life.state].replace('_', ' ')}", True
        if not hindrance:
            both = claims | {HOST_LOCK} | set(placement(other.spec, other.placed_on, gpus))
            if both & taken:
                return WaitFor("another transition is under way on the host", both, problem="group_full")
            level, _ = level_for(draft.world(), other, _wanted_level(draft, other))
            return MakeRoom(other.spec.name, level, both)
        reasons.append(f"{other.spec.name}: {hindrance}")
        passes = passes or soon
    why = f"group {group.name} has {group.max_awake} awake already ({'; '.join(reasons)})"
    if passes:
        return WaitFor(f"a place: {why}", problem="group_full")
    hint = f"let one of them sleep, or raise max_awake in [groups.{group.name}]"
    return Refuse("group_full", f"{name} cannot be woken: {why}", str(group.max_awake), str(len(members)), hint)


def _last_moved_s(draft: Draft, uuids: frozenset[str]) -> float:
    assert isinstance(draft.gpus, Known)
    moved = [
        r.settled_s
        for r in draft.models.values()
        if uuids & set(placement(r.spec, r.placed_on, draft.gpus.value)) and r.life.state is not State.UNKNOWN
    ]
    return min(max(moved, default=0.0), draft.mono_s)


def _room_by_victims(
    draft: Draft, name: str, short: Short, claims: frozenset[str], taken: frozenset[str]
) -> MakeRoom | WaitFor | Refuse:
    assert isinstance(draft.gpus, Known)
    gpus = draft.gpus.value
    now, later, reasons = [], [], []
    for other in draft.models.values():
        candidate = _candidate(draft, other, name, short, gpus)
        if candidate is None:
            continue
        hindrance, passes = _hindrance(draft, other, name, taken, gpus)
        if not hindrance:
            now.append(candidate)
        else:
            reasons.append(f"{other.spec.name}: {hindrance}")
            if passes:
                later.append(candidate)
    victim = choose_victim(short, now)
    if victim is not None and not all(victim.frees.get(u, 0) >= m for u, m in short.missing.items()):
        # More than one must sleep: nobody does for nothing because the next one's backup finds no room any more.
        together = _backed_up(draft, now)
        reasons += [f"{c.model}: its backup would not fit beside the others'" for c in now if c not in together]
        now, victim = together, choose_victim(short, together)
    if victim is not None:
        chosen = draft.models[victim.model]
        both = claims | {HOST_LOCK} | set(placement(chosen.spec, chosen.placed_on, gpus))
        if both & taken:
            return WaitFor("another transition is under way on the host", both)
        level, _ = level_for(draft.world(), chosen, _wanted_level(draft, chosen))
        return MakeRoom(victim.model, level, both)
    if choose_victim(short, [*now, *later]) is not None:
        return WaitFor(f"room: {'; '.join(reasons)}", claims - {HOST_LOCK})
    reclaimable = sum(c.frees.get(u, 0) for c in [*now, *later] for u in short.missing)
    found = f"{_sum(short.free)} free beside the margin, {format_size(reclaimable)} reclaimable"
    detail = f"{name} needs {_sum(short.wanted)} of VRAM, {found}" + (f" ({'; '.join(reasons)})" if reasons else "")
    return Refuse(
        "no_room", detail, _sum(short.wanted), found, "stop or unpin what holds the GPU, or use a smaller one"
    )


def _backed_up(draft: Draft, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those whose backups fit into host RAM all together, the smallest first; a sleep at level 2 takes none."""
    world = draft.world()
    if not isinstance(draft.host, Known):
        return []
    gpus = draft.gpus.value if isinstance(draft.gpus, Known) else None
    takes: dict[str, Bytes] = {}
    for candidate in candidates:
        record = draft.models[candidate.model]
        level, _ = level_for(world, record, _wanted_level(draft, record))
        takes[candidate.model] = (backup_need(record, gpus) or 0) if level == 1 else 0
    left = draft.host.value.available_bytes - draft.settings.host_reserve_bytes - host_promised(world, "")
    fitting = []
    for candidate in sorted(candidates, key=lambda c: (takes[c.model], c.model)):
        if takes[candidate.model] <= left:
            left -= takes[candidate.model]
            fitting.append(candidate)
    return fitting


def _candidate(draft: Draft, other: ModelRecord, name: str, short: Short, gpus: GpusSeen) -> Candidate | None:
    if other.spec.name == name or other.life.state not in (State.AWAKE, State.DRAINING):
        return None
    frees: dict[str, Bytes] = {}
    for uuid in placement(other.spec, other.placed_on, gpus):
        gpu = find_gpu(gpus, uuid)
        held = held_bytes(gpu, pids_of(other)) if gpu else None
        learned = other.learned
        expected = learned.need(uuid) or held or learned.awake.get(uuid) or other.spec.vram_bytes
        if expected is None and gpu and other.facts and other.facts.gpu_memory_utilization:
            expected = round(other.facts.gpu_memory_utilization * gpu.total_bytes)
        frees[uuid] = expected or 0
    if not any(frees.get(u) for u in short.missing):
        return None
    return Candidate(other.spec.name, frees, other.spec.priority, idle_s(other, draft.mono_s))


def _hindrance(draft: Draft, other: ModelRecord, name: str, taken: frozenset[str], gpus: GpusSeen) -> tuple[str, bool]:
    """Why this model cannot be put to sleep now (empty: it can), and whether that passes by itself."""
    if is_pinned(other):
        return "it is pinned", False
    if other.spec.name in draft.tasks or set(placement(other.spec, other.placed_on, gpus)) & taken:
        return "a transition is under way", True
    if not isinstance(other.seen, Known):
        return "it does not answer", True
    if limits_unread(draft.models, other):
        draft.command(LookNow(model=other.spec.name))
        return "its memory limits are being read", True
    level, refusal = level_for(draft.world(), other, _wanted_level(draft, other))
    if level == 0:
        return refusal, False
    if other.frees_nothing:
        return "sleeping frees nothing on this server", False
    if other.facts is not None and (unsafe := capabilities(other.facts, fenced=other.spec.fenced).level1_unsafe):
        return unsafe, False
    return kept_from_neighbour(draft.world(), other, draft.models[name].spec.priority, draft.now), True


def _wanted_level(draft: Draft, record: ModelRecord) -> int:
    """Under host-RAM pressure, and where its backup does not fit, a victim is to sleep at level 2 where that is
    allowed and proven; `level_for` has the last word."""
    world = draft.world()
    return 2 if is_pressed(world, record) or backup_refusal(world, record) else 1


def _sum(by_gpu: object) -> str:
    assert isinstance(by_gpu, dict)
    if len(by_gpu) == 1:
        return format_size(next(iter(by_gpu.values())))
    return ", ".join(format_size(b) for b in by_gpu.values()) + " per GPU"


def wakes_waiting(draft: Draft) -> list[ModelRecord]:
    """Sleeping models that are wanted awake and have no task, oldest wish first; what we owe comes last."""
    wanted = [
        r
        for r in draft.models.values()
        if r.life.state in (State.ASLEEP_L1, State.ASLEEP_L2) and r.spec.name not in draft.tasks and is_wanted_awake(r)
    ]
    return sorted(wanted, key=lambda r: (wished_s(r), r.spec.name))


def _first_wished_s(record: ModelRecord) -> float:
    """When the first of those who wait asked; 0 where nobody does."""
    return min((w.asked_s for w in record.waiters if w.ask is AskKind.WAKE), default=0.0)


def wakes_asked(record: ModelRecord) -> bool:
    """Whether somebody waits for it to be awake, rather than that a rule or a debt of ours wants it so."""
    return any(w.ask is AskKind.WAKE for w in record.waiters)


def wished_s(record: ModelRecord) -> float:
    return min((w.asked_s for w in record.waiters if w.ask is AskKind.WAKE), default=float("inf"))
