"""Who could make room for a wake: each neighbour's sleeps with what they give and cost, and what hinders them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sleepd.core.commands import LookNow
from sleepd.core.conditions import idle_s
from sleepd.core.draft import Draft
from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.frozen import replace
from sleepd.core.groups import PLACE, takes_place
from sleepd.core.host_room import backup_need, backup_refusal, host_promised, limits_unread
from sleepd.core.life import OUT, PUBLIC, State, wakes_from
from sleepd.core.memory import find_gpu, held_bytes, placement
from sleepd.core.model import Known
from sleepd.core.orders import pids_of
from sleepd.core.policy import is_pressed, kept_from_neighbour, level1_refusal, level2_refusal, level_for
from sleepd.core.record import ModelRecord, Yielding, is_pinned
from sleepd.core.seen import GpusSeen
from sleepd.core.sharing import is_awaited, lowest_priority, overdue_s, turn_due_s, turn_over_s
from sleepd.core.task import HOST_LOCK
from sleepd.core.units import Bytes, MonotonicS
from sleepd.core.victims import Offer


class Ready(Enum):
    """When a neighbour may be put to sleep. LOCKED: nothing but a transition under way is in its way. IN_TURN: nothing
    but its turn is, which ends at `over_s`."""

    NOW = "now"
    LOCKED = "locked"
    IN_TURN = "in turn"
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A model that holds something of what is missing. `hindrance` says why it cannot be put to sleep now."""

    name: str
    offers: tuple[Offer, ...]
    ready: Ready
    hindrance: str
    claims: frozenset[str]
    """What its sleep would take."""
    over_s: MonotonicS = 0.0
    """From when on it has to give up its turn to whoever asks for the room."""
    yields: bool = False
    """It does so already."""


def neighbours_of(draft: Draft, name: str, missing: Mapping[str, int], taken: frozenset[str]) -> tuple[Neighbour, ...]:
    """Everybody whose sleep would give any of what is missing: bytes by GPU, places by group.

    `name`: who needs it; empty for a reservation.
    """
    assert isinstance(draft.gpus, Known)
    gpus = draft.gpus.value
    found = []
    for other in draft.models.values():
        if other.spec.name == name:
            continue
        gives = _gives(draft, other, missing, gpus)
        if any(gives.get(r, 0) > 0 for r in missing):
            uuids = frozenset(placement(other.spec, other.placed_on, gpus))
            found.append(_neighbour(draft, other, name, gives, taken, uuids))
    return tuple(found)


def host_left(draft: Draft) -> Bytes:
    """Host RAM that backups may still take above the reserve and beside sleeps under way."""
    if not isinstance(draft.host, Known):
        return 0
    promised = host_promised(draft.world(), "")
    return max(0, draft.host.value.available_bytes - draft.settings.host_reserve_bytes - promised)


def _expected_frees(record: ModelRecord, gpus: GpusSeen) -> dict[str, Bytes]:
    """Bytes its sleep should give back per GPU: learned, else held, else declared, else the server's own share."""
    frees: dict[str, Bytes] = {}
    for uuid in placement(record.spec, record.placed_on, gpus):
        gpu, learned = find_gpu(gpus, uuid), record.learned
        held = held_bytes(gpu, pids_of(record)) if gpu else None
        expected = learned.need(uuid) or held or learned.awake.get(uuid) or record.spec.vram_bytes
        if expected is None and gpu and record.facts and record.facts.gpu_memory_utilization:
            expected = round(record.facts.gpu_memory_utilization * gpu.total_bytes)
        frees[uuid] = expected or 0
    return frees


def _gives(draft: Draft, other: ModelRecord, missing: Mapping[str, int], gpus: GpusSeen) -> dict[str, int]:
    gives: dict[str, int] = {}
    if other.life.state in (State.AWAKE, State.DRAINING):
        gives |= _expected_frees(other, gpus)
    for group in draft.settings.groups:
        name = other.spec.name
        if (
            PLACE + group.name in missing
            and name in group.models
            and takes_place(draft.tasks.get(name), other.life.state)
        ):
            gives[PLACE + group.name] = 1
    return gives


def _neighbour(
    draft: Draft, other: ModelRecord, name: str, gives: dict[str, int], taken: frozenset[str], uuids: frozenset[str]
) -> Neighbour:
    claims = uuids | {HOST_LOCK}
    offers, refusal = _offers(draft, other, gives)
    over_s, yields = 0.0, other.yields is not None
    if other.life.state not in (State.AWAKE, State.DRAINING):
        # On its way somewhere: it keeps its place in a group until it got there.
        hindrance, ready = f"it is {PUBLIC[other.life.state].replace('_', ' ')}", Ready.LATER
        offers = (Offer(other.spec.name, 1, gives),)
    elif is_pinned(other):
        hindrance, ready = "it is pinned", Ready.NEVER
    else:
        hindrance, ready = _hindrance(draft, other, name, refusal)
        if ready is Ready.IN_TURN:
            over_s = _turn_over_s(draft, other, name, offers)
        if over_s == float("inf"):
            # The wish for a start is left of somebody who waits no more: that ends no turn, it waits for its end.
            ready, over_s = Ready.LATER, 0.0
        if ready is Ready.IN_TURN:
            # A turn can end whatever is under way on its GPUs: that takes no lock.
            wait_s = max(0.0, over_s - draft.mono_s)
            offers = tuple(replace(o, wait_s=wait_s) for o in offers)
        elif other.spec.name in draft.tasks or uuids & taken:
            # It may be falling asleep already: what hinders the choice of a level is no reason to refuse meanwhile.
            ready, hindrance = Ready.LATER if hindrance else Ready.LOCKED, "a transition is under way"
            offers = offers or (Offer(other.spec.name, 1, gives),)
    return Neighbour(other.spec.name, offers, ready, hindrance, claims, over_s, yields)


def _turn_over_s(draft: Draft, other: ModelRecord, name: str, offers: tuple[Offer, ...]) -> MonotonicS:
    waiting = draft.models[name]
    switch_s = min(o.sleep_s for o in offers) + expected_wake(waiting, wakes_from(waiting.life.state)).seconds
    return turn_over_s(other, waiting, switch_s, _behind_s(draft, waiting))


def _behind_s(draft: Draft, waiting: ModelRecord) -> MonotonicS:
    """From when on somebody is overdue who waits behind this model for a GPU of its own. That of a model which may wait
    long itself, and comes first all the same as it is more important, would keep the others waiting as long."""
    gpus, lowest = draft.gpus.value if isinstance(draft.gpus, Known) else (), lowest_priority(draft.settings)
    wanted, due_s = set(placement(waiting.spec, waiting.placed_on, gpus)), turn_due_s(waiting, lowest)
    return min(
        (
            overdue_s(other)
            for name, other in draft.models.items()
            if other.waiters
            and name != waiting.spec.name
            and other.life.state in OUT
            and name not in draft.tasks
            and turn_due_s(other, lowest) >= due_s
            and not wanted.isdisjoint(placement(other.spec, other.placed_on, gpus))
        ),
        default=float("inf"),
    )


def _hindrance(draft: Draft, other: ModelRecord, name: str, refusal: str) -> tuple[str, Ready]:
    """Why this model cannot be put to sleep now, transitions apart; empty where it can."""
    if not isinstance(other.seen, Known):
        return "it does not answer", Ready.LATER
    if limits_unread(draft.models, other):
        draft.command(LookNow(model=other.spec.name))
        return "its memory limits are being read", Ready.LATER
    if refusal:
        return refusal, Ready.NEVER
    if other.frees_nothing:
        return "sleeping frees nothing on this server", Ready.NEVER
    if unsafe := level1_refusal(other):
        return unsafe, Ready.NEVER
    waiting = draft.models[name] if name else None
    if other.yields is not None and waiting is not None and (ahead := _promised_to(draft, other.yields, waiting)):
        return f"its turn is over, and {ahead} is next", Ready.LATER
    priority = waiting.spec.priority if waiting is not None else None
    kept = kept_from_neighbour(draft.world(), other, priority, draft.now)
    if not kept:
        return "", Ready.NOW
    if waiting is None or not is_awaited(waiting):
        return kept, Ready.LATER
    beyond = kept_from_neighbour(draft.world(), other, priority, draft.now, beyond_turn=True)
    return kept, Ready.LATER if beyond else Ready.IN_TURN


def _promised_to(draft: Draft, yields: Yielding, waiting: ModelRecord) -> str:
    """Who has its room next, where that is somebody who comes before `waiting`; else nobody."""
    first = draft.models.get(yields.to)
    if first is None or first is waiting:
        return ""
    lowest = lowest_priority(draft.settings)
    return "" if turn_due_s(waiting, lowest) < turn_due_s(first, lowest) else yields.to


def _offers(draft: Draft, other: ModelRecord, gives: dict[str, int]) -> tuple[tuple[Offer, ...], str]:
    """Its sleep at each level that is allowed, safe and fits; or none, and why.

    Level 2 is there for its cost only where its wake was measured. Where the backup of level 1 does not fit, or host
    RAM is short, it is there wherever it is allowed and proven.
    """
    world = draft.world()
    unfit = backup_refusal(world, other)
    pressed = is_pressed(world, other)
    deep = other.spec.max_level >= 2 and not level2_refusal(world, other)
    levels = [1] if other.spec.max_level >= 1 and not unfit else []
    if deep and (pressed or unfit):
        levels = [2]
    elif deep and expected_wake(other, 2).learned:
        levels = [1, 2]
    if not levels:
        return (), level_for(world, other, 1)[1]
    backup = backup_need(other, draft.gpus.value if isinstance(draft.gpus, Known) else None) or 0
    return tuple(
        Offer(
            other.spec.name,
            level,
            gives,
            other.spec.priority,
            idle_s(other, draft.mono_s),
            expected_sleep(other, level).seconds,
            expected_wake(other, level).seconds,
            backup if level == 1 else 0,
        )
        for level in levels
    ), ""
