"""What a wake asked now would do, played through on a copy of the world: nothing is done and nobody is asked."""

from dataclasses import dataclass

from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.explain import eta_s, reason
from sleepd.core.frozen import replace
from sleepd.core.host_room import backup_need
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import GpusSeen, Known, Now
from sleepd.core.orders import uuids_of
from sleepd.core.plan import plan_wake
from sleepd.core.room import Go, MakeRoom, Refuse, room_for
from sleepd.core.units import Bytes, Seconds
from sleepd.core.world import World, public_state


@dataclass(frozen=True, slots=True)
class PlannedVictim:
    """A neighbour that would be put to sleep first; `frees_bytes` over all its GPUs, None where that is not known."""

    model: str
    level: int
    frees_bytes: Bytes | None


@dataclass(frozen=True, slots=True)
class WakePlan:
    """What would come of a wake. `would` is "nothing" (awake), "join", "wake", "wait" or "refuse".

    `problem` and `detail` say why where it would wait or be refused; `steps` are the calls of the wake itself.
    """

    model: str
    would: str
    level: int | None = None
    victims: tuple[PlannedVictim, ...] = ()
    steps: tuple[str, ...] = ()
    eta_s: Seconds | None = None
    problem: str = ""
    detail: str = ""
    wanted: str = ""
    found: str = ""
    hint: str = ""


def plan_of_wake(world: World, name: str, now: Now) -> WakePlan:
    """Return what a wake of this model asked now would do, by the readings there are."""
    record, task = world.models[name], world.tasks.get(name)
    state = record.life.state
    if state is State.AWAKE and isinstance(record.seen, Known):
        return WakePlan(name, "nothing", eta_s=0.0, detail=f"{name} is awake")
    if state not in (State.ASLEEP_L1, State.ASLEEP_L2) or task is not None:
        detail = f"{name} is {public_state(world, name).replace('_', ' ')}: {reason(world, name)}"
        if task is not None or state is State.UNKNOWN:
            return WakePlan(name, "join", eta_s=eta_s(world, name, now), detail=detail)
        return WakePlan(name, "refuse", problem="failed" if state is State.FAILED else "engine_failed", detail=detail)
    return _rehearse(world, name, now)


def _rehearse(world: World, name: str, now: Now) -> WakePlan:
    draft = Draft(world, now)
    if isinstance(draft.gpus, Known):
        # A wake would have them read anew; for a rehearsal what was read last will do.
        draft.gpus = replace(draft.gpus, asked_at_s=now.mono_s)
    record = draft.models[name]
    level = 2 if record.life.state is State.ASLEEP_L2 else 1
    victims: list[PlannedVictim] = []
    room = room_for(draft, name, task_id=None, barred=frozenset(), force=False)
    while isinstance(room, MakeRoom) and len(victims) < len(draft.models):
        victims.append(_put_aside(draft, room))
        room = room_for(draft, name, task_id=None, barred=frozenset(), force=False)
    made = WakePlan(name, "wake", level, tuple(victims))
    if isinstance(room, Go):
        caps = capabilities(record.facts, fenced=record.spec.fenced) if record.facts else None
        doubtful = record.life.weights is not Weights.OFFLOADED
        plan = plan_wake(level, caps, doubtful=doubtful, known=record.fingerprint is not None) if caps else None
        steps = tuple(s.verb.value for s in plan.steps) if plan else ()
        return replace(made, steps=steps, eta_s=eta_s(world, name, now))
    if isinstance(room, Refuse):
        return WakePlan(
            name,
            "refuse",
            level,
            problem=room.problem,
            detail=room.detail,
            wanted=room.wanted,
            found=room.found,
            hint=room.hint,
        )
    if isinstance(room, MakeRoom):
        return replace(made, would="refuse", victims=(), problem="no_room", detail="no sleep would make enough room")
    return replace(made, would="wait", problem=room.problem, detail=f"{name} would wait for {room.reason}")


def _put_aside(draft: Draft, room: MakeRoom) -> PlannedVictim:
    """Pretend that the victim sleeps and what it is expected to free is free."""
    victim = draft.models[room.victim]
    uuids = uuids_of(draft, victim)
    frees = {u: victim.learned.need(u) or victim.learned.awake.get(u) or victim.spec.vram_bytes for u in uuids}
    asleep = Life(State.ASLEEP_L1, Weights.OFFLOADED) if room.level == 1 else Life(State.ASLEEP_L2, Weights.BLANK)
    if room.level == 1 and isinstance(draft.host, Known):
        backup = backup_need(victim, draft.gpus.value if isinstance(draft.gpus, Known) else None) or 0
        left = max(0, draft.host.value.available_bytes - backup)
        draft.host = replace(draft.host, value=replace(draft.host.value, available_bytes=left))
    draft.put(replace(victim, life=asleep, settled_s=0.0))
    if isinstance(draft.gpus, Known):
        freed = {u: b for u, b in frees.items() if b}
        draft.gpus = replace(draft.gpus, value=_with_free(draft.gpus.value, freed))
    known = [b for b in frees.values() if b]
    return PlannedVictim(room.victim, room.level, sum(known) if len(known) == len(frees) else None)


def _with_free(gpus: GpusSeen, freed: dict[str, Bytes]) -> GpusSeen:
    return tuple(replace(g, free_bytes=min(g.total_bytes, g.free_bytes + freed.get(g.uuid, 0))) for g in gpus)
