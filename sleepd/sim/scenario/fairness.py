"""What must hold of turns: nobody waits too long while another is served again, and no gate is shut for too long.

How long a turn lasts at least is looked at for every sleep (invariants.py).
"""

from sleepd.core.life import ASLEEP, State
from sleepd.core.model import CauseKind, Known
from sleepd.core.record import AskKind, ModelRecord, placed_s, wakes_asked
from sleepd.core.sharing import PATIENCE, is_awaited
from sleepd.core.task import TaskKind
from sleepd.sim.scenario.stage import Stage

LATE_S = 100.0
"""A disk that is slow or full keeps a turn that long; nothing else does."""


def nobody_is_served_again_before_who_is_pressing(stage: Stage) -> None:
    """no wake begins that was asked for after another, on the same GPUs, had waited for half of its max_wait"""
    world, begun = stage.daemon.world, stage.account.turns_begun
    for name, task in world.tasks.items():
        if task.kind is not TaskKind.WAKE or task.id in begun:
            continue
        begun.add(task.id)
        asked_s = _asked_s(world.models[name])
        if asked_s is None:
            continue
        for other, record in world.models.items():
            first_s = _asked_s(record)
            shares = set(stage.models[name].gpus) & set(stage.models[other].gpus)
            if other == name or first_s is None or not shares or not _could_be_next(stage, record):
                continue
            overtaken = asked_s > first_s + PATIENCE * record.spec.max_wait_s
            assert not overtaken, stage.say(f"{name}, asked at {asked_s:.1f}s, before {other}, asked at {first_s:.1f}s")


def _asked_s(record: ModelRecord) -> float | None:
    return min((placed_s(w) for w in record.waiters if w.ask is AskKind.WAKE and w.attended), default=None)


def _could_be_next(stage: Stage, record: ModelRecord) -> bool:
    """Whether nothing but its turn is in its way: it sleeps, answers, rests after no failure, and nobody's job has
    reserved its GPUs."""
    world = stage.daemon.world
    if record.life.state not in ASLEEP or record.spec.name in world.tasks:
        return False
    reserved = {uuid for reservation in world.reservations.values() for uuid in reservation.uuids}
    if not reserved.isdisjoint(record.placed_on):
        return False
    now_s, unharmed = stage.daemon.now().mono_s, record.spec.name not in stage.account.blamed
    return unharmed and isinstance(record.seen, Known) and record.cooldown_until_s <= now_s


def no_gate_is_shut_for_longer_than_a_drain(stage: Stage) -> None:
    """a model whose turn is over finishes within drain, or serves on"""
    now_s = stage.daemon.now().mono_s
    for name, record in stage.daemon.world.models.items():
        late = record.yields is not None and now_s > record.yields.until_s + LATE_S
        assert not late, stage.say(f"{name}'s gate should have opened again: {record.yields}")


def every_shut_gate_has_somebody_waiting(stage: Stage) -> None:
    """a gate is shut for a turn only while somebody waits for it"""
    for name, record in stage.daemon.world.models.items():
        if record.yields is not None:
            waiting = wakes_asked(stage.daemon.world.models[record.yields.to])
            assert waiting, stage.say(f"{name}'s gate is shut for {record.yields.to}, whom nobody waits for")


def nobody_sleeps_for_who_left(stage: Stage) -> None:
    """nobody is put to sleep for a model that nobody waits for, unless its wake is under way"""
    world, now_s = stage.daemon.world, stage.daemon.now().mono_s
    for name, task in world.tasks.items():
        begun = task.started_s == now_s and world.models[name].life.state is State.DRAINING
        if task.cause.kind is not CauseKind.VICTIM or not begun or task.cause.who not in world.models:
            continue
        waking = world.models[task.cause.who]
        asked = is_awaited(waking) or waking.life.state not in ASLEEP
        assert asked, stage.say(f"{name} is put to sleep for {task.cause.who}, whom nobody waits for")
