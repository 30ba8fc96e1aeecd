"""What a wake asked now would do, played through on a copy of the world: nothing is done and nobody is asked."""

from collections.abc import Mapping
from dataclasses import dataclass

from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.durations import Expected, expected_reload, expected_sleep, expected_step, expected_wake
from sleepd.core.explain import reason
from sleepd.core.forecast import eta_s
from sleepd.core.frozen import replace
from sleepd.core.groups import PLACE, full_groups
from sleepd.core.ledger import promised_bytes
from sleepd.core.life import ASLEEP, Life, State, Weights, wakes_from
from sleepd.core.memory import Blind, find_gpu, placement, wake_needs
from sleepd.core.model import Cause, CauseKind, Known, Now
from sleepd.core.neighbours import Neighbour, Ready, neighbours_of
from sleepd.core.places import kept_place_s
from sleepd.core.plan import Verb, plan_wake
from sleepd.core.record import AskKind, ModelRecord, Waiter
from sleepd.core.room import Go, MakeRoom, Refuse, Room, room_for
from sleepd.core.seen import GpusSeen
from sleepd.core.sharing import is_awaited
from sleepd.core.units import Bytes, Seconds, format_duration, format_size
from sleepd.core.victims import Offer, why_chosen
from sleepd.core.world import World, public_state


@dataclass(frozen=True, slots=True)
class PlannedVictim:
    """A neighbour that would be put to sleep first, with the terms of its cost (docs/room.md)."""

    offer: Offer
    frees: Mapping[str, Bytes]
    """By GPU uuid."""


@dataclass(frozen=True, slots=True)
class PlannedStay:
    """A neighbour that would stay awake, and why. `in_s`: when it has to give up its turn, where that is all."""

    model: str
    why: str
    in_s: Seconds | None = None


@dataclass(frozen=True, slots=True)
class PlannedGpu:
    """One GPU of the wake: bytes free now, what of them is kept (margin and promises), what the victims would give,
    what the wake takes, and what would be free then."""

    uuid: str
    index: int
    free_bytes: Bytes
    kept_bytes: Bytes
    freed_bytes: Bytes
    need_bytes: Bytes

    @property
    def left_bytes(self) -> Bytes:
        return max(0, self.free_bytes + self.freed_bytes - self.need_bytes)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A call of the wake itself; `seconds` None: nobody knows."""

    call: str
    seconds: Seconds | None


@dataclass(frozen=True, slots=True)
class WakePlan:
    """What would come of a wake. `would` is "nothing" (awake), "join", "wake", "wait" or "refuse".

    `problem` and `detail` say why where it would wait or be refused. `eta_s` is all of it, `sleep_s` of that until
    there is room; `measured`: every second of it was, else some come from the size of the weights.
    """

    model: str
    would: str
    level: int | None = None
    victims: tuple[PlannedVictim, ...] = ()
    stay: tuple[PlannedStay, ...] = ()
    gpus: tuple[PlannedGpu, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    chosen: str = ""
    exact: bool = True
    sleep_s: Seconds = 0.0
    eta_s: Seconds | None = None
    measured: bool = False
    problem: str = ""
    detail: str = ""
    wanted: str = ""
    found: str = ""
    hint: str = ""


REHEARSAL = Cause(CauseKind.OPERATOR, "a rehearsal")
ASKED_FOR_S = 600.0
"""How long whoever asks is taken to wait: what the API's wake does where it is not told otherwise."""
_PROBLEMS = {State.FAILED: "failed", State.STOPPED: "stopped"}


def plan_of_wake(world: World, name: str, now: Now) -> WakePlan:
    """Return what a wake of this model asked now would do, by the readings there are."""
    record, task = world.models[name], world.tasks.get(name)
    state = record.life.state
    if state is State.AWAKE and isinstance(record.seen, Known):
        return WakePlan(name, "nothing", eta_s=0.0, detail=f"{name} is awake")
    if state not in ASLEEP or task is not None:
        detail = f"{name} is {public_state(world, name).replace('_', ' ')}: {reason(world, name, now)}"
        if state is State.STOPPED and record.stopped is not None:
            return WakePlan(name, "wake", eta_s=eta_s(world, name, now), detail=detail)
        if task is not None or state is State.UNKNOWN:
            return WakePlan(name, "join", eta_s=eta_s(world, name, now), detail=detail)
        return WakePlan(name, "refuse", problem=_PROBLEMS.get(state, "engine_failed"), detail=detail)
    return _rehearse(world, name, now)


def _rehearse(world: World, name: str, now: Now) -> WakePlan:
    draft = Draft(world, now)
    if isinstance(draft.gpus, Known):
        # A wake would have them read anew; for a rehearsal what was read last will do.
        draft.gpus = replace(draft.gpus, asked_at_s=now.mono_s)
    record = draft.models[name]
    if not is_awaited(record):
        place_s = kept_place_s(draft, name)
        asked = Waiter(0, AskKind.WAKE, REHEARSAL, now.mono_s, now.mono_s + ASKED_FOR_S, place_s=place_s)
        record = draft.change(name, waiters=(*record.waiters, asked))
    level = wakes_from(record.life.state)
    room = _ask(draft, name)
    made = WakePlan(name, "wake", level, gpus=_gpus(draft, record, {}))
    if isinstance(room, MakeRoom):
        made = _with_victims(draft, made, room)
        for offer in room.choice.offers:
            _put_aside(draft, offer)
        room = _ask(draft, name)
    if isinstance(room, Go):
        return _with_steps(world, made, record)
    bare = replace(made, victims=(), stay=_waited_for(draft, name, room), chosen="", exact=True, sleep_s=0.0)
    if isinstance(room, Refuse):
        refused = replace(bare, would="refuse", problem=room.problem, detail=room.detail)
        return replace(refused, wanted=room.wanted, found=room.found, hint=room.hint)
    if isinstance(room, MakeRoom):
        return replace(bare, would="refuse", problem="no_room", detail="no sleep would make enough room")
    return replace(bare, would="wait", problem=room.problem, detail=f"{name} would wait for {room.reason}")


def _ask(draft: Draft, name: str) -> Room:
    return room_for(draft, name, task_id=None, force=False)


def _with_victims(draft: Draft, made: WakePlan, room: MakeRoom) -> WakePlan:
    """Who sleeps, who stays and why, and what the GPUs have then."""
    assert isinstance(draft.gpus, Known)
    uuids, victims = {g.uuid for g in draft.gpus.value}, []
    for offer in room.choice.offers:
        frees = {u: b for u, b in offer.gives.items() if u in uuids}
        victims.append(PlannedVictim(offer, frees))
    sleeping = {o.model for o in room.choice.offers}
    stay = tuple(PlannedStay(n.name, _why_it_stays(n)) for n in room.around if n.name not in sleeping)
    freed: dict[str, Bytes] = {}
    for victim in victims:
        for uuid, given in victim.frees.items():
            freed[uuid] = freed.get(uuid, 0) + given
    return replace(
        made,
        victims=tuple(victims),
        stay=stay,
        gpus=_gpus(draft, draft.models[made.model], freed),
        chosen=why_chosen(room.choice),
        exact=room.choice.exact,
        sleep_s=round(sum(o.sleep_s for o in room.choice.offers), 3),
    )


def _why_it_stays(neighbour: Neighbour) -> str:
    """What hinders it, else what its sleep would have cost beside those that were chosen."""
    if neighbour.hindrance or not neighbour.offers:
        return neighbour.hindrance
    best = min(neighbour.offers, key=lambda o: (o.felt_s, o.level))
    given = sum(b for r, b in best.gives.items() if " " not in r)
    ranked = f" at priority {best.priority}" if best.priority else ""
    return f"{format_duration(round(best.felt_s, 1))} felt{ranked}, frees {format_size(given)}"


def _waited_for(draft: Draft, name: str, room: Room) -> tuple[PlannedStay, ...]:
    """Everybody who holds what is missing, what keeps them awake, and for how long where that is known."""
    if not isinstance(draft.gpus, Known) or isinstance(room, Go):
        return ()
    needs = wake_needs(draft.models[name], draft.gpus.value)
    places = {PLACE + group.name: many for group, many in full_groups(draft, name)}
    missing = places if isinstance(needs, Blind) else {**places, **needs}
    found = []
    for neighbour in neighbours_of(draft, name, missing, frozenset()):
        left_s = neighbour.over_s - draft.mono_s if neighbour.ready is Ready.IN_TURN else 0.0
        found.append(PlannedStay(neighbour.name, _why_it_stays(neighbour), round(left_s, 3) if left_s > 0 else None))
    return tuple(found)


def _gpus(draft: Draft, record: ModelRecord, freed: Mapping[str, Bytes]) -> tuple[PlannedGpu, ...]:
    if not isinstance(draft.gpus, Known):
        return ()
    seen, name = draft.gpus.value, record.spec.name
    needs = wake_needs(record, seen)
    promised = promised_bytes(draft.models, draft.tasks, draft.reservations, seen, but=name)
    found = []
    for uuid in placement(record.spec, record.placed_on, seen):
        gpu = find_gpu(seen, uuid)
        if gpu is not None and not isinstance(needs, Blind):
            kept = draft.settings.gpu_margin_bytes + promised.get(uuid, 0)
            found.append(PlannedGpu(uuid, gpu.index, gpu.free_bytes, kept, freed.get(uuid, 0), needs[uuid]))
    return tuple(found)


def _with_steps(world: World, made: WakePlan, record: ModelRecord) -> WakePlan:
    caps = capabilities(record.facts, fenced=record.spec.fenced) if record.facts else None
    doubtful, level = record.life.weights is not Weights.OFFLOADED, made.level or 1
    plan = plan_wake(level, caps, doubtful=doubtful, known=record.fingerprint is not None) if caps else None
    steps = tuple(PlannedStep(s.verb.value, _step_s(record, s.verb)) for s in plan.steps) if plan else ()
    whole = expected_wake(record, level)
    sleeps = (expected_sleep(world.models[v.offer.model], v.offer.level) for v in made.victims)
    measured = all(e.learned for e in (whole, *sleeps))
    return replace(made, steps=steps, eta_s=round(made.sleep_s + whole.seconds, 3), measured=measured)


def _step_s(record: ModelRecord, verb: Verb) -> Seconds | None:
    expected: Expected | None = expected_step(record, verb)
    if expected is None and verb is Verb.RELOAD:
        expected = expected_reload(record)
    elif expected is None and verb is Verb.WAKE:
        expected = expected_wake(record, 1)
    return expected.seconds if expected else None


def _put_aside(draft: Draft, offer: Offer) -> None:
    """Pretend that the victim sleeps and what it is expected to free is free."""
    victim = draft.models[offer.model]
    asleep = Life(State.ASLEEP_L1, Weights.OFFLOADED) if offer.level == 1 else Life(State.ASLEEP_L2, Weights.BLANK)
    if isinstance(draft.host, Known):
        left = max(0, draft.host.value.available_bytes - offer.host_bytes)
        draft.host = replace(draft.host, value=replace(draft.host.value, available_bytes=left))
    draft.put(replace(victim, life=asleep, settled_s=0.0))
    if isinstance(draft.gpus, Known):
        draft.gpus = replace(draft.gpus, value=_with_free(draft.gpus.value, offer.gives))


def _with_free(gpus: GpusSeen, freed: Mapping[str, Bytes]) -> GpusSeen:
    return tuple(replace(g, free_bytes=min(g.total_bytes, g.free_bytes + freed.get(g.uuid, 0))) for g in gpus)
