"""Whether a wake may go ahead now: locks, preflight, who makes room, whom to wait for, when to refuse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sleepd.core.draft import Draft
from sleepd.core.first_looks import FIRST_LOOKS_S, is_to_be_placed, unread_beside
from sleepd.core.groups import PLACE, full_groups
from sleepd.core.ledger import promised_bytes, with_jobs_gone
from sleepd.core.life import ASLEEP, State
from sleepd.core.memory import Admitted, Blind, Short, placement, preflight, start_needs, wake_needs
from sleepd.core.model import Known
from sleepd.core.neighbours import Neighbour, Ready, host_left, neighbours_of
from sleepd.core.record import AskKind, ModelRecord, is_wanted_awake
from sleepd.core.remedy import only_a_restart_helps
from sleepd.core.reservation import Reservation
from sleepd.core.reservations import reserved_for, seniority, size_of
from sleepd.core.sharing import lowest_priority, turn_due_s, wake_and_turn_s
from sleepd.core.task import HOST_LOCK
from sleepd.core.units import Bytes, MonotonicS, format_size, format_wall
from sleepd.core.victims import Choice, choose_victims

UNLIMITED_BYTES: Bytes = 1 << 62
PASSING = (Ready.NOW, Ready.LOCKED, Ready.IN_TURN, Ready.LATER)
NOBODYS: Mapping[str, str] = {}
FRESH_S = 0.5
"""Readings older than this admit nothing: a neighbour may have taken the room meanwhile."""


@dataclass(frozen=True, slots=True)
class Go:
    claims: frozenset[str]


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Put these to sleep first, one after the other; the claims cover the target and all of them.

    What a sleep really freed is measured before the next begins, and the rest is chosen anew.
    """

    choice: Choice
    claims: frozenset[str]
    around: tuple[Neighbour, ...] = field(default=(), compare=False, repr=False)
    """Everybody who was considered."""

    @property
    def victim(self) -> str:
        """Who sleeps first."""
        return self.choice.offers[0].model

    @property
    def level(self) -> int:
        return self.choice.offers[0].level


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns that have to end before a wake: whose, and from when on the last of them has to."""

    of: tuple[str, ...]
    over_s: MonotonicS


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Nothing is wrong that time does not change. `reason` follows "waits for". `claims` is what younger wishes must
    leave alone once this one has waited long: its GPUs, and where a lock is all that is missing, everything it would
    take."""

    reason: str
    claims: frozenset[str] = frozenset()
    look: bool = False
    """A reading would settle it: it is asked for at once."""
    problem: str = "no_room"
    """What a caller is told whose time ran out while waiting for this."""
    turns: Turns | None = None
    """Whose turns have to end first, where nothing else is in the way."""
    briefly: bool = False
    """It says nothing of turns: a reading or a transition comes first."""


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


def room_for(draft: Draft, name: str, *, task_id: int | None, force: bool, barred: Mapping[str, str] = NOBODYS) -> Room:
    """Decide for a sleeping model that is wanted awake.

    `task_id`: the wake already holding claims for it. `barred`: what must be left to others, and to whom.
    """
    record = draft.models[name]
    if not isinstance(draft.gpus, Known):
        missing = f"a reading of GPU memory ({draft.gpus.detail or draft.gpus.reason})"
        return WaitFor(missing, look=True, problem="blind", briefly=True)
    starts = record.life.state in (State.STOPPED, State.STARTING)
    if not starts and not isinstance(record.seen, Known):
        return WaitFor(f"the server's answer ({record.seen.detail or record.seen.reason})", problem="engine_failed")
    gpus = draft.gpus.value
    uuids = frozenset(placement(record.spec, record.placed_on, gpus) or (g.uuid for g in gpus if starts))
    claims = uuids | ({HOST_LOCK} if record.life.state is State.ASLEEP_L2 else frozenset())
    held = claimed(draft, task_id)
    taken = held | barred.keys()
    stale = draft.mono_s - draft.gpus.asked_at_s > FRESH_S
    if uuids and (stale or draft.gpus.asked_at_s < last_moved_s(draft, uuids)):
        return WaitFor("a fresh reading of GPU memory", _reach(draft, uuids), look=True, briefly=True)
    if claims & held:
        why = f"another transition on its {'GPU' if uuids & held else 'host'}"
        return WaitFor(why, claims, briefly=True)
    if ahead := sorted({barred[claim] for claim in claims & barred.keys()}):
        return _behind(draft, ahead[0], claims)
    places = {PLACE + group.name: many for group, many in full_groups(draft, name)}
    if force and uuids and not places:
        return Go(claims)
    needs = {} if force and uuids else start_needs(record, gpus) if starts else wake_needs(record, gpus)
    if starts and isinstance(needs, Blind):
        # Nobody knows what it takes: it starts under the locks of all its GPUs, and looks itself whether it fits.
        kept = [r for r in draft.reservations.values() if not claims.isdisjoint(r.uuids)]
        return _beside_jobs(f"{name} does not start, as nobody knows what it takes,", kept) if kept else Go(claims)
    if isinstance(needs, Blind) and is_to_be_placed(record, gpus):
        return WaitFor(f"a first look at where {name} lies", look=True, problem="blind", briefly=True)
    if isinstance(needs, Blind):
        return Refuse("blind", f"cannot tell whether {name} fits: {needs.wanted}", hint=needs.wanted)
    promised = promised_bytes(draft.models, draft.tasks, draft.reservations, gpus, but=name)
    verdict = preflight(needs, gpus, draft.settings.gpu_margin_bytes, promised)
    if isinstance(verdict, Blind):
        return WaitFor(verdict.wanted, uuids, look=True, briefly=True)
    old = draft.gpus.asked_at_s < _first_wished_s(record)
    if isinstance(verdict, Admitted) and not places:
        if old and only_a_restart_helps(record.facts):
            # A job that came since would cost the engine. One reading takes less than a millisecond.
            return WaitFor("a fresh reading of GPU memory", _reach(draft, uuids), look=True, briefly=True)
        return Go(claims)
    short = Short({}, needs, {}) if isinstance(verdict, Admitted) else verdict
    room = room_by_victims(draft, name, short, places, claims, taken)
    if isinstance(room, Refuse) and room.problem == "no_room" and old:
        # Somebody may have made the room just before asking: nobody is refused by what was read before the wish.
        return WaitFor("a fresh reading of GPU memory", _reach(draft, uuids), look=True, briefly=True)
    if isinstance(room, Refuse) and room.problem == "no_room":
        return _reserved(draft, name, needs, places, room)
    return room


def _reserved(
    draft: Draft, name: str, needs: Mapping[str, Bytes], places: Mapping[str, int], refused: Refuse
) -> Refuse:
    """The refusal, with the reservation's own reason where there would be room but for reservations, and for what their
    jobs took of them."""
    assert isinstance(draft.gpus, Known)
    gpus = with_jobs_gone(draft.models, draft.reservations.values(), draft.gpus.value)
    keeping = [r for r in draft.reservations.values() if not needs.keys().isdisjoint(r.uuids)]
    if not keeping:
        return refused
    promised = promised_bytes(draft.models, draft.tasks, {}, gpus, but=name)
    verdict = preflight(needs, gpus, draft.settings.gpu_margin_bytes, promised)
    if isinstance(verdict, Short):
        room = room_by_victims(draft, name, verdict, places, frozenset(), frozenset())
        if isinstance(room, Refuse) and room.problem == "no_room":
            return refused
    return _beside_jobs(f"{name} does not fit", keeping, refused.wanted, refused.found)


def _beside_jobs(what: str, keeping: Sequence[Reservation], wanted: str = "", found: str = "") -> Refuse:
    kept = "; ".join(_kept_for(r) for r in sorted(keeping, key=seniority))
    hint = "wait until it ends (sleepctl reservations), or let its owner or an admin end it"
    return Refuse("reserved", f"{what} beside what is reserved: {kept}", wanted, found, hint)


def _kept_for(reservation: Reservation) -> str:
    """Who keeps how much, why, since when and until when, as a sentence that time does not change."""
    ends = (
        "while its job runs" if reservation.until_wall_s is None else f"until {format_wall(reservation.until_wall_s)}"
    )
    since = format_wall(reservation.since_wall_s)
    return f"{size_of(reservation)} for {reserved_for(reservation)} since {since}, {ends}"


def _reach(draft: Draft, uuids: frozenset[str]) -> frozenset[str]:
    """Everything that making room on these GPUs may take: the host, and every GPU of whoever is awake on them. It is
    kept for a moment only, until a reading tells who is needed."""
    assert isinstance(draft.gpus, Known)
    awake = (r for r in draft.models.values() if r.life.state in (State.AWAKE, State.DRAINING))
    spread = (frozenset(placement(r.spec, r.placed_on, draft.gpus.value)) for r in awake)
    return uuids.union({HOST_LOCK}, *(s for s in spread if s & uuids))


def last_moved_s(draft: Draft, uuids: frozenset[str]) -> float:
    """When a model last moved memory on these GPUs, or may have: one that just came up, and nobody saw where yet; or
    when a job last gave back what it had reserved somewhere."""
    assert isinstance(draft.gpus, Known)
    moved_s = draft.given_back_s
    for record in draft.models.values():
        # Where a model lies costs more to find out than when it was settled.
        if record.settled_s > moved_s:
            place = set(placement(record.spec, record.placed_on, draft.gpus.value))
            moved_s = record.settled_s if not place or uuids & place else moved_s
    return min(moved_s, draft.mono_s)


def room_by_victims(
    draft: Draft, name: str, short: Short, places: Mapping[str, int], claims: frozenset[str], taken: frozenset[str]
) -> MakeRoom | WaitFor | Refuse:
    """Who sleeps for what is missing: bytes on GPUs, and `places` in groups."""
    missing = {**places, **short.missing}
    around = neighbours_of(draft, name, missing, taken)
    left = host_left(draft)
    problem = "group_full" if places else "no_room"
    choice = _choose(missing, around, left, Ready.NOW)
    if choice is not None:
        whole = _with_claims_of(choice, around, claims)
        if whole & taken:
            return WaitFor("another transition on the host", whole, problem=problem, briefly=True)
        return MakeRoom(choice, whole, around)
    reasons = [f"{n.name}: {n.hindrance}" for n in around if n.hindrance] + _beside_others(missing, around, left)
    why = _why_full(draft, places, around) if places else f"room: {'; '.join(reasons)}"
    choice = _choose(missing, around, left, Ready.NOW, Ready.LOCKED)
    if choice is not None:
        # Locks are all that is missing: whoever is younger leaves alone everything that it would take.
        return WaitFor(why, _with_claims_of(choice, around, claims), problem=problem, briefly=True)
    if (turns := _turns(missing, around, left)) is not None:
        why = f"its turn, after that of {' and '.join(turns.of)}"
        return WaitFor(why, claims - {HOST_LOCK}, problem=problem, turns=turns)
    if _choose(missing, around, left, *PASSING) is not None:
        return WaitFor(why, claims - {HOST_LOCK}, problem=problem)
    unread = unread_beside(draft, name, missing)
    if unread and (not name or draft.mono_s < _first_wished_s(draft.models[name]) + FIRST_LOOKS_S):
        return WaitFor(unread, problem=problem, briefly=True)
    if places and _choose(places, around, left, *PASSING) is None:
        return _refuse_place(draft, name, places, why)
    able = [n for n in around if n.offers and n.ready is not Ready.NEVER]
    reclaimable = sum(n.offers[0].gives.get(u, 0) for n in able for u in short.missing)
    found = f"{_sum(short.free)} free beside the margin, {format_size(reclaimable)} reclaimable"
    detail = f"{name} needs {_sum(short.wanted)} of VRAM, {found}" + (f" ({'; '.join(reasons)})" if reasons else "")
    hint = "stop or unpin what holds the GPU, or use a smaller one"
    return Refuse("no_room", detail, _sum(short.wanted), found, hint)


def _turns(missing: Mapping[str, int], around: Sequence[Neighbour], left: Bytes) -> Turns | None:
    """The turns that have to end for what is missing, where no more than that has to happen: of those first whose turn
    is over already, lest one gate after the other is shut for the same room."""
    others = [n for n in around if n.ready is not Ready.IN_TURN]
    ending = [n for n in around if n.ready is Ready.IN_TURN and n.yields]
    for among in ([*others, *ending], around):
        choice = _choose(missing, among, left, Ready.NOW, Ready.LOCKED, Ready.IN_TURN)
        if choice is not None:
            chosen = {o.model for o in choice.offers}
            of = [n for n in among if (n.ready is Ready.IN_TURN or n.yields) and n.name in chosen]
            return Turns(tuple(n.name for n in of), max(n.over_s for n in of))
    return None


def _behind(draft: Draft, first: str, claims: frozenset[str]) -> WaitFor:
    """It waits for whoever is next on its GPUs: until that has had its turn too, as far as can be told."""
    record, why = draft.models[first], f"its turn: {first} is next"
    if record.awaited is None:
        return WaitFor(why, claims)
    return WaitFor(why, claims, turns=Turns((first,), record.awaited.at_s + wake_and_turn_s(record)))


def _choose(missing: Mapping[str, int], around: Sequence[Neighbour], host_bytes: Bytes, *ready: Ready) -> Choice | None:
    return choose_victims(missing, [o for n in around if n.ready in ready for o in n.offers], host_bytes)


def _with_claims_of(choice: Choice, around: Sequence[Neighbour], claims: frozenset[str]) -> frozenset[str]:
    """What the target and the sleeps that are chosen for it take together."""
    sleeping = {o.model for o in choice.offers}
    return claims.union({HOST_LOCK}, *(n.claims for n in around if n.name in sleeping))


def _beside_others(missing: Mapping[str, int], around: Sequence[Neighbour], left: Bytes) -> list[str]:
    """Whose backup finds no room any more once those of others are made, where that is what keeps all from sleeping."""
    able = [n for n in around if n.ready is Ready.NOW and n.offers]
    if choose_victims(missing, [o for n in able for o in n.offers], UNLIMITED_BYTES) is None:
        return []
    reasons = []
    for neighbour in sorted(able, key=lambda n: (min(o.host_bytes for o in n.offers), n.name)):
        least = min(o.host_bytes for o in neighbour.offers)
        if least > left:
            reasons.append(f"{neighbour.name}: its backup would not fit beside the others'")
        else:
            left -= least
    return reasons


def _why_full(draft: Draft, places: Mapping[str, int], around: Sequence[Neighbour]) -> str:
    """Why a place in a group is missing, as a sentence."""
    group = next(g for g in draft.settings.groups if PLACE + g.name in places)
    members = [n for n in around if n.name in group.models]
    reasons = "; ".join(f"{n.name}: {n.hindrance or 'it may sleep'}" for n in members)
    return f"a place: group {group.name} has {group.max_awake} awake already ({reasons})"


def _refuse_place(draft: Draft, name: str, places: Mapping[str, int], why: str) -> Refuse:
    group = next(g for g in draft.settings.groups if PLACE + g.name in places)
    awake = places[PLACE + group.name] + group.max_awake - 1
    detail = f"{name} cannot be woken: {why.removeprefix('a place: ')}"
    hint = f"let one of them sleep, or raise max_awake in [groups.{group.name}]"
    return Refuse("group_full", detail, f"at most {group.max_awake} awake", f"{awake} awake", hint)


def _sum(by_gpu: object) -> str:
    assert isinstance(by_gpu, dict)
    if len(by_gpu) == 1:
        return format_size(next(iter(by_gpu.values())))
    return ", ".join(format_size(b) for b in by_gpu.values()) + " per GPU"


def wakes_waiting(draft: Draft) -> list[ModelRecord]:
    """Sleeping models that are wanted awake and have no task, in the order of their turns; what we owe comes last."""
    wanted = [
        r
        for r in draft.models.values()
        if r.life.state in ASLEEP and r.spec.name not in draft.tasks and is_wanted_awake(r)
    ]
    if len(wanted) < 2:
        return wanted
    lowest = lowest_priority(draft.settings)
    return sorted(wanted, key=lambda r: (turn_due_s(r, lowest), r.spec.name))


def _first_wished_s(record: ModelRecord) -> float:
    """When the first of those who wait asked; 0 where nobody does."""
    return min((w.asked_s for w in record.waiters if w.ask is AskKind.WAKE), default=0.0)


def wished_s(record: ModelRecord) -> float:
    return min((w.asked_s for w in record.waiters if w.ask is AskKind.WAKE), default=float("inf"))
