"""Which units are started and restarted in this turn, which are stopped, and whether there is room for a start."""

from sleepd.core.budget import cooling_s
from sleepd.core.choices import past_victim, refuse_wakers, sleep_victim, wait_for, wake_cause
from sleepd.core.commands import AnswerKind, LookNow
from sleepd.core.conditions import is_idle_for
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.handover import room_in_turn
from sleepd.core.life import ASLEEP, State
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.onward import look_again
from sleepd.core.orders import uuids_of
from sleepd.core.owed_wakes import restore_victims
from sleepd.core.plan import Verb
from sleepd.core.record import AskKind, ModelRecord, is_pinned, is_start_wanted, is_wanted_awake, wakes_asked
from sleepd.core.restarts import count_restart, is_unit_unread, restart_refusal, unit_refusal
from sleepd.core.room import Go, MakeRoom, Refuse, WaitFor, claimed, room_for, wished_s
from sleepd.core.task import LIFTS, UNIT_TASKS, Phase, Task
from sleepd.core.tasks import carry_on
from sleepd.core.unit_asks import is_to_be_read, stop_told
from sleepd.core.unit_tasks import (
    begin_restart,
    begin_start,
    begin_stop,
    claim_late,
    claims_of,
    is_on_unit,
    wait_stopped,
)
from sleepd.core.units import Seconds

RESTART = Cause(CauseKind.RECOVERY, "a failure")


def lift(draft: Draft) -> None:
    """Let tasks on units that pause go on, and starts that we did not begin take the locks of their GPUs."""
    for name in sorted(draft.tasks):
        task = draft.tasks.get(name)
        if task is not None and task.kind in UNIT_TASKS and is_on_unit(task) and not task.running:
            _lift(draft, task)
    claim_late(draft)


def _lift(draft: Draft, task: Task) -> None:
    """Carry a task on: resumed by a new daemon, or about to start its unit."""
    if task.resume_s is not None and task.resume_s > draft.mono_s:
        return
    if task.phase is Phase.FENCE:
        carry_on(draft, replace(task, phase=Phase.DO))
    elif task.kind not in LIFTS or task.plan.steps[task.cursor].verb is not Verb.START_UNIT:
        carry_on(draft, task)
    else:
        _take_room(draft, task)


def _take_room(draft: Draft, held: Task) -> None:
    """Start the unit once there is room for it: next victim, go, or wait without keeping its GPUs from others."""
    task, name = past_victim(draft, held), held.model
    if task is None:
        return
    record = draft.models[name]
    room = room_for(draft, name, task_id=task.id, force=False)
    if isinstance(room, Go):
        carry_on(draft, task)
    elif isinstance(room, WaitFor) and room.look:
        look_again(draft, task)
    elif isinstance(room, MakeRoom) and _is_asked(record):
        sleep_victim(draft, task, room)
    elif isinstance(room, Refuse):
        wait_stopped(draft, task, f"room: {room.detail}")
        refuse_wakers(draft, name, room)
        restore_victims(draft, task)
    else:
        wait_stopped(draft, task, room.reason if isinstance(room, WaitFor) else f"room: {room.victim} is awake")


def _is_asked(record: ModelRecord) -> bool:
    """Whether somebody waits for it, rather than that we owe it: only then others sleep for it."""
    return wakes_asked(record) or record.start_wanted is not None


def begin_starts(draft: Draft) -> None:
    """Begin the starts and restarts that are wanted and possible, oldest wish first."""
    if draft.stopping or draft.leaving:
        return
    wanted = [r for r in draft.models.values() if is_start_wanted(r) and r.spec.name not in draft.tasks]
    for record in sorted(wanted, key=lambda r: (wished_s(r), r.spec.name)):
        name = record.spec.name
        if not isinstance(draft.gpus, Known):
            draft.command(LookNow(gpus=True))
        elif is_unit_unread(record):
            draft.command(LookNow(unit=name))
        elif refusal := unit_refusal(record):
            _refuse_start(draft, name, refusal)
        elif record.start_wanted is None and cooling_s(record, draft.mono_s) > 0:
            continue
        elif record.life.state is State.STOPPED:
            _begin_start(draft, record)
        else:
            claims = claims_of(draft, record)
            if not claims & claimed(draft):
                begin_restart(draft, name, record.start_wanted or RESTART, claims)


def _refuse_start(draft: Draft, name: str, why: str) -> None:
    for waiter in draft.models[name].waiters:
        if waiter.ask is AskKind.WAKE:
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="stopped", detail=why)
    if draft.models[name].reason != why:
        draft.change(name, start_wanted=None, reason=why)


def _begin_start(draft: Draft, record: ModelRecord) -> None:
    name = record.spec.name
    room = room_in_turn(draft, name, force=False)
    if isinstance(room, MakeRoom) and not _is_asked(record):
        wait_for(draft, name, WaitFor(f"room: {room.victim} is awake"))
    elif isinstance(room, Go | MakeRoom):
        # What was left of it is ended first; whether there is room is asked again then, and victims sleep.
        begin_start(draft, name, _cause_of(record), claims_of(draft, record))
    elif isinstance(room, WaitFor):
        wait_for(draft, name, room)
    else:
        refuse_wakers(draft, name, room)
        draft.change(name, start_wanted=None)


def _cause_of(record: ModelRecord) -> Cause:
    if record.start_wanted is not None:
        return record.start_wanted
    if is_wanted_awake(record):
        return wake_cause(record)
    return record.stopped.cause if record.stopped is not None else RESTART


QUIET_S: Seconds = 600.0
"""A model that nobody used for this long has its leak ended by a restart, where it has room to come back at once."""


def begin_quiet_restarts(draft: Draft) -> None:
    """Restart sleepers that leak in a quiet moment: within the budget, and never on somebody else's sleep."""
    if draft.stopping or draft.leaving or not isinstance(draft.gpus, Known):
        return
    for name in sorted(draft.touched):
        record = draft.models.get(name)
        if record is None or not record.restart_wanted or record.life.state not in ASLEEP:
            continue
        if not is_idle_for(record, QUIET_S, draft.mono_s) or restart_refusal(draft.settings, record, draft.now):
            continue
        if is_pinned(record) or record.waiters or is_wanted_awake(record) or name in draft.tasks:
            continue
        room = room_for(draft, name, task_id=None, force=False)
        if isinstance(room, Go):
            draft.note("quiet_restart", name, f"{name} is restarted in a quiet moment: {record.restart_wanted}")
            count_restart(draft, name)
            begin_stop(draft, name, Cause(CauseKind.RECOVERY, "a leak"))
        elif isinstance(room, WaitFor) and room.look:
            draft.command(LookNow(gpus=True))


def begin_asked_stops(draft: Draft) -> None:
    """Begin stops that a person waits for, where nothing else is under way with the model or on its GPUs."""
    for name, record in list(draft.models.items()):
        if not record.waiters:
            continue
        wishes = [w for w in record.waiters if w.ask is AskKind.STOP]
        task = draft.tasks.get(name)
        if not wishes or draft.stopping:
            continue
        if told := stop_told(draft, name, wishes[0].cause) if task is None or record.life.state in STOPPABLE else None:
            # A first look that told, or a hold or a pin that came while it waited for that or for its turn.
            for waiter in wishes:
                draft.answer(name, waiter, told.kind, problem=told.problem, detail=told.detail, hint=told.hint)
            continue
        if is_unit_unread(record):
            draft.command(LookNow(unit=name))
        if is_to_be_read(record) or record.life.state not in STOPPABLE:
            continue
        if task is not None:
            if record.life.state is not State.STARTING or task.victim is not None:
                continue
            draft.end_task(task, "to be stopped")
        elif set(uuids_of(draft, record)) & claimed(draft):
            continue
        begin_stop(draft, name, wishes[0].cause)


STOPPABLE = frozenset({State.AWAKE, State.ASLEEP_L1, State.ASLEEP_L2, State.FAILED, State.LOST, State.STARTING})
"""Where a person may have a unit stopped at once; elsewhere the stop waits until what is under way has ended."""
