"""When a model will be awake, and what others' turns have to do with it: seconds and sentences, nothing decided."""

from sleepd.core.conditions import is_busy
from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.life import OUT, State, wakes_from
from sleepd.core.memory import placement
from sleepd.core.model import Known, Now
from sleepd.core.record import Awaited, ModelRecord
from sleepd.core.reports import NextAction
from sleepd.core.sharing import PATIENCE, is_awaited, wake_and_turn_s
from sleepd.core.task import HOST_LOCK, Task, TaskKind
from sleepd.core.units import Seconds, format_duration
from sleepd.core.world import World

TURN = "its turn"
"""What `next` names instead of a rule where a turn brings it about; no rule can have that name."""


def eta_s(world: World, name: str, now: Now) -> Seconds | None:
    """Seconds until the model would be awake if asked now, from learned durations; None where unknown.

    The turns of others that come before are in it, with the sleeps that end them; where nobody knows how long one of
    them goes on, as if it ended now.
    """
    record, task = world.models[name], world.tasks.get(name)
    state = record.life.state
    if record.yields is not None:
        return _back_s(world, record, now)
    if state in (State.AWAKE, State.DRAINING):
        return 0.0
    if state in (State.STOPPED, State.STARTING, State.STOPPING):
        took_s = record.learned.last_s("start")
        begun_s = record.since_s if state is State.STARTING else now.mono_s
        return None if took_s is None else max(0.0, took_s - (now.mono_s - begun_s))
    level = task.level if task and task.level else wakes_from(state)
    learned = record.learned.last_s(f"wake{level}")
    if learned is None or state in (State.FAILED, State.LOST, State.FOREIGN, State.UNKNOWN):
        return None
    if record.awaited is not None:
        begins_s = _begins_s(world, record, record.awaited, now)
        return learned + (_turn_s(world, record.awaited, now) if begins_s is None else begins_s)
    # Until its first call leaves, room is made: how long that takes is not in what was learned.
    gone_s = now.mono_s - task.called_s if task is not None and task.called_s is not None else 0.0
    return max(0.0, learned - gone_s)


def come_back_s(world: World, name: str, now: Now) -> Seconds | None:
    """Seconds until whoever waited in vain should ask again; None where unknown.

    Who waits for the end of a turn has to be there when it ends, or another takes the room: it should come back with
    half of its `max_wait` left for what comes after that, and at once where the turn is due. All others should once
    the model is awake.
    """
    record = world.models[name]
    if record.awaited is None or record.life.state not in OUT or name in world.tasks:
        return eta_s(world, name, now)
    return max(0.0, record.awaited.at_s - now.mono_s - PATIENCE * record.spec.max_wait_s)


def _turn_s(world: World, awaited: Awaited, now: Now) -> Seconds:
    """Until the turns of others are over and they sleep: the last of their drains counts, the sleeps add up."""
    holders = [world.models[n] for n in awaited.after if n in world.models]
    drains_s = max((h.last_drain_s for h in holders), default=0.0)
    begun_s = max((now.mono_s - h.yields.since_s for h in holders if h.yields is not None), default=0.0)
    sleeps_s = sum(expected_sleep(h, 1).seconds for h in holders)
    return max(0.0, awaited.at_s - now.mono_s) + max(0.0, drains_s - begun_s) + sleeps_s


def _back_s(world: World, record: ModelRecord, now: Now) -> Seconds:
    """Until a model that gives up its turn has the next one: its drain, the other's whole turn, and the way back."""
    assert record.yields is not None
    drain_s = max(0.0, record.last_drain_s - (now.mono_s - record.yields.since_s))
    there_s = expected_sleep(record, 1).seconds
    first = world.models.get(record.yields.to)
    if first is not None:
        there_s += wake_and_turn_s(first) + expected_sleep(first, 1).seconds
    return drain_s + there_s + expected_wake(record, 1).seconds


def turn_reason(world: World, record: ModelRecord, now: Now) -> str:
    """What turns have to do with it, as a sentence: "waits for its turn: next in 12s, after that of chat"."""
    name = record.spec.name
    if record.yields is not None:
        left = format_duration(max(0.0, record.yields.until_s - now.mono_s))
        count = f"{record.in_flight} requests" if record.in_flight != 1 else "a request"
        doing = f"finishes {count}, in {left} at most" if record.in_flight else "about to sleep"
        return f"its turn is over: {doing}, then {record.yields.to} is next"
    if record.awaited is None or record.life.state not in OUT or name in world.tasks:
        return ""
    after = " and ".join(record.awaited.after)
    if any(_yields_to(world, n, name) for n in record.awaited.after):
        return f"waits for its turn: next when {after} has finished its requests"
    if is_awaited(record) and record.awaited.at_s <= now.mono_s:
        return _why_due(world, record)
    left = format_duration(round(max(0.0, record.awaited.at_s - now.mono_s), 1))
    if not is_awaited(record):
        return f"{record.reason}; its next turn is possible in {left}, after that of {after}"
    return f"waits for its turn: next in {left}, after that of {after}"


def _why_due(world: World, record: ModelRecord) -> str:
    """What keeps a turn that is due by now: a reading or a transition, of which no one can say how long it takes."""
    if not isinstance(world.gpus, Known):
        return "waits for its turn, which is due: GPU memory cannot be read"
    if record.reason.startswith("waits for its turn"):
        return record.reason
    return f"waits for its turn, which is due: {record.reason.removeprefix('waits for ')}"


def _yields_to(world: World, holder: str, name: str) -> bool:
    found = world.models.get(holder)
    return found is not None and found.yields is not None and found.yields.to == name


def next_turn(world: World, record: ModelRecord, now: Now) -> NextAction | None:
    """What the end of a turn will do to the model: wake it, or put it to sleep for somebody; None where nothing, or
    where nobody can tell when."""
    name = record.spec.name
    if record.awaited is not None and is_awaited(record) and name not in world.tasks:
        action, in_s = "wake", _begins_s(world, record, record.awaited, now)
    elif record.yields is not None:
        action, in_s = "sleep", _drained_s(record, now)
    elif record.life.state is State.AWAKE and (others := _waiting_for(world, name)):
        first = min(others, key=lambda other: other.awaited.at_s if other.awaited is not None else now.mono_s)
        assert first.awaited is not None
        left_s = first.awaited.at_s - now.mono_s
        action, in_s = "sleep", left_s if left_s > 0 else _kept_s(world, first, now)
    else:
        return None
    return None if in_s is None else NextAction(TURN, action, in_s)


def is_turn_told(world: World, record: ModelRecord) -> bool:
    """Whether the end of a turn comes next for the model, known or not when."""
    waits = record.awaited is not None and is_awaited(record) and record.spec.name not in world.tasks
    awake = record.life.state is State.AWAKE
    return waits or record.yields is not None or (awake and bool(_waiting_for(world, record.spec.name)))


def _begins_s(
    world: World, record: ModelRecord, awaited: Awaited, now: Now, after: frozenset[str] = frozenset()
) -> Seconds | None:
    """Until its wake: the turns before it, their drains and sleeps, and what keeps a turn that is due. `after`: whose
    turn this is asked for; who waits for one of them waits for what nobody knows."""
    holders = [world.models[n] for n in awaited.after if n in world.models]
    if any(h.yields is not None and _drained_s(h, now) is None for h in holders):
        return None
    if awaited.at_s > now.mono_s or any(h.yields is not None for h in holders):
        return _turn_s(world, awaited, now)
    kept_s = _kept_s(world, record, now)
    for first in holders:
        if first.life.state not in OUT or first.awaited is None or kept_s is None:
            continue
        after |= {record.spec.name}
        begins_s = None if first.spec.name in after else _begins_s(world, first, first.awaited, now, after)
        kept_s = None if begins_s is None else max(kept_s, begins_s + wake_and_turn_s(first))
    return None if kept_s is None else kept_s + _turn_s(world, awaited, now)


def _drained_s(holder: ModelRecord, now: Now) -> Seconds | None:
    """Until a model whose turn is over sleeps, by its last drain; None where this one takes longer already."""
    assert holder.yields is not None
    left_s = holder.last_drain_s - (now.mono_s - holder.yields.since_s)
    return left_s if left_s > 0 else None if is_busy(holder) else 0.0


def _kept_s(world: World, record: ModelRecord, now: Now) -> Seconds | None:
    """For how long a turn that is due is kept from this model: by the transitions that hold what it takes, for as long
    as they should take. None where that is not known, or is over and they still are not."""
    if not isinstance(world.gpus, Known):
        return None
    wanted = {HOST_LOCK, *placement(record.spec, record.placed_on, world.gpus.value)}
    left_s = [_left_s(world, task, now) for task in world.tasks.values() if wanted & task.claims]
    known_s = [s for s in left_s if s is not None and s > 0]
    return max(known_s, default=0.0) if len(known_s) == len(left_s) else None


def _left_s(world: World, task: Task, now: Now) -> Seconds | None:
    """Seconds until a sleep or a wake should end; None for what has no time of its own."""
    record = world.models[task.model]
    begun_s = task.called_s if task.called_s is not None else task.started_s
    if task.kind is TaskKind.SLEEP:
        return begun_s + expected_sleep(record, task.level).seconds - now.mono_s
    if task.kind is not TaskKind.WAKE:
        return None
    return begun_s + expected_wake(record, wakes_from(record.life.state)).seconds - now.mono_s


def waiting_for(world: World, name: str) -> str:
    """Who waits for the end of its turn, by name."""
    return " and ".join(sorted(other.spec.name for other in _waiting_for(world, name)))


def _waiting_for(world: World, name: str) -> list[ModelRecord]:
    return [
        other
        for other in world.models.values()
        if other.awaited is not None and name in other.awaited.after and is_awaited(other)
    ]
