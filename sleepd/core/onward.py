"""Calls in the middle of a wake that take GPU memory: sent while it is still there, as it was when the wake began.

Memory that was free may be somebody else's by now: a server that starts, a job, a stranger's wake. An allocation that
fails half-way costs older engines a restart, so what certainly does not fit is not sent.
"""

from collections.abc import Mapping

from sleepd.core.commands import LookNow
from sleepd.core.draft import Draft
from sleepd.core.ends import NO_ROOM
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, Life, State, Weights
from sleepd.core.memory import Short, find_gpu, held_bytes
from sleepd.core.model import Known, Reading
from sleepd.core.orders import pids_of, uuids_of
from sleepd.core.owed_wakes import owe_wakes
from sleepd.core.plan import Verb
from sleepd.core.record import AskKind, Belief, ModelRecord
from sleepd.core.repair import can_put_back, put_back
from sleepd.core.room import FRESH_S, Go, MakeRoom, WaitFor, claimed, room_by_victims, room_for
from sleepd.core.seen import GpusSeen
from sleepd.core.task import Phase, Task, TaskKind
from sleepd.core.tasks import carry_on
from sleepd.core.unanswered import BLIND_S
from sleepd.core.units import Bytes, format_size

LOOK_AGAIN_S = 0.25
ROOM_S, LAST_S = 30.0, 60.0
"""How long a wake that came half-way waits for memory that somebody else took meanwhile, before it is put back; and
before its last call is tried all the same, where the release cannot put it back."""
_FROM_SLEEP = {State.WAKING: Verb.WAKE, State.WAKING_WEIGHTS: Verb.WAKE_WEIGHTS}


def takes_memory(record: ModelRecord, task: Task) -> bool:
    """Whether the call that the task is about to send takes GPU memory in the middle of a wake."""
    if task.kind is not TaskKind.WAKE or task.phase is not Phase.DO:
        return False
    verb = task.plan.steps[task.cursor].verb
    return verb is Verb.WAKE_KV or _FROM_SLEEP.get(record.life.state) is verb


def send_into_room(draft: Draft, task: Task) -> MakeRoom | None:
    """Send the call where its memory is free; else wait for it, or take back what was done so far. Return who is to
    sleep for it first, where somebody may."""
    if task.plan.steps[task.cursor].verb is Verb.WAKE_KV:
        return _send_last_stage(draft, task)
    _send_again(draft, task)
    return None


def _send_again(draft: Draft, task: Task) -> None:
    """The call of an earlier try never reached the engine, and time passed: its room is looked for anew."""
    name = task.model
    force = any(w.force for w in draft.models[name].waiters)
    room = room_for(draft, name, task_id=task.id, force=force)
    if isinstance(room, Go):
        carry_on(draft, task)
    elif isinstance(room, WaitFor) and room.look and draft.mono_s - task.sent_s < BLIND_S:
        look_again(draft, task)
    elif task.refusals:
        _give_back(draft, task, "its room is gone")
    else:
        _leave_asleep(draft, task)


def _leave_asleep(draft: Draft, task: Task) -> None:
    """Nothing was sent and there is no room any more: it sleeps as before, and whoever wants it awake waits anew."""
    name = task.model
    record = draft.models[name]
    was = {Weights.OFFLOADED: State.ASLEEP_L1, Weights.BLANK: State.ASLEEP_L2}.get(record.life.weights)
    belief = Belief(Life(was, record.life.weights), record.incarnation, record.control) if was else None
    draft.state(name, Fact.CONTRADICTED)
    draft.end_task(task, "never carried out, and its room is gone")
    draft.change(name, belief=belief, reason="asleep: its wake was never carried out, and its room is gone")
    if any(w.ask is AskKind.WAKE for w in record.waiters):
        draft.change(name, made_room=task.slept)
    else:
        owe_wakes(draft, task.slept, name)
    draft.command(LookNow(model=name))


def _send_last_stage(draft: Draft, task: Task) -> MakeRoom | None:
    missing, waited_s = _missing_bytes(draft, task), draft.mono_s - task.sent_s
    if missing is None and waited_s < ROOM_S:
        look_again(draft, task)
    elif not missing or waited_s >= LAST_S:
        carry_on(draft, task)
    elif (room := _room_by_victims(draft, task, missing)) is not None:
        return room
    elif waited_s < ROOM_S or not can_put_back(draft.models[task.model], task):
        lacking = format_size(max(missing.values()))
        told = f"half awake: somebody took memory meanwhile, and {lacking} of VRAM are missing"
        draft.change(task.model, reason=told)
        look_again(draft, task)
    else:
        lacking = format_size(max(missing.values()))
        _give_back(draft, task, f"somebody took memory in the middle of it: {lacking} of VRAM are missing")
    return None


def _room_by_victims(draft: Draft, task: Task, missing: Mapping[str, Bytes]) -> MakeRoom | None:
    """Who can sleep for what is missing: a neighbour whose server started meanwhile, say."""
    short = Short(missing, task.rest, {})
    room = room_by_victims(draft, task.model, short, {}, task.claims, claimed(draft, task.id))
    return room if isinstance(room, MakeRoom) else None


def _missing_bytes(draft: Draft, task: Task) -> Mapping[str, Bytes] | None:
    """By how much the rest of the wake certainly does not fit, by GPU; None where only a fresh reading can tell. What
    cannot be told is not missing: the wake was let in with all it needs."""
    if not task.rest:
        return {}
    if not isinstance(draft.gpus, Known) or draft.mono_s - draft.gpus.asked_at_s > FRESH_S:
        return None
    free = {gpu.uuid: gpu.free_bytes for gpu in draft.gpus.value}
    return {u: bytes_ - free[u] for u, bytes_ in task.rest.items() if bytes_ > free.get(u, bytes_)}


def with_rest(draft: Draft, task: Task, after: Reading[GpusSeen] | None) -> Task:
    """The task with what the rest of its wake takes by GPU: all that its last sleep gave back, less what it holds again
    by now. Where processes are not told, nothing is known."""
    record = draft.models[task.model]
    rest: dict[str, Bytes] = {}
    for uuid in uuids_of(draft, record) if isinstance(after, Known) else ():
        assert isinstance(after, Known)
        gpu, asleep = find_gpu(after.value, uuid), record.footprint.asleep.get(uuid)
        gave, held = record.footprint.freed.get(uuid), held_bytes(gpu, pids_of(record)) if gpu else None
        if asleep is not None and gave and held is not None:
            rest[uuid] = max(0, gave[-1] - max(0, held - asleep))
    return replace(task, rest=rest)


def look_again(draft: Draft, task: Task) -> None:
    """Let the task wait for a new reading of GPU memory."""
    draft.command(LookNow(gpus=True))
    draft.put_task(replace(task, resume_s=draft.mono_s + LOOK_AGAIN_S))


def _give_back(draft: Draft, task: Task, why: str) -> None:
    draft.fail(task.model, NO_ROOM, f"{task.model} was put back to sleep: {why}")
    draft.state(task.model, Fact.REFUSED)
    put_back(draft, task, untouched=False)
