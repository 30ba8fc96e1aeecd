"""Callers who wait: answered where their wish is true already or can never come true, and where their time is up."""

from sleepd.core.choices import NOBODY_WAITS, WAITS
from sleepd.core.commands import AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.life import ASLEEP, State
from sleepd.core.owed_wakes import owe_wakes
from sleepd.core.places import is_returning, keep_place, place_of
from sleepd.core.record import AskKind, Waiter, is_start_wanted, is_wanted_awake, wants_deeper
from sleepd.core.refusals import refuse_users
from sleepd.core.restarts import is_unit_unread, may_come_back
from sleepd.core.room import Refuse, WaitFor, room_for
from sleepd.core.sightings import START_HINT
from sleepd.core.task import TaskKind
from sleepd.core.wishes import GOES_ON_S


def serve_callers(draft: Draft) -> None:
    """Answer callers whose wish is true already or can never come true, and those whose time is up."""
    for name, record in list(draft.models.items()):
        if not (record.waiters or record.made_room or record.reason.startswith(WAITS)):
            continue
        for waiter in record.waiters:
            if is_returning(waiter) and waiter not in draft.models[name].waiters:
                continue  # another caller's time is up as well, and was told anew when to come back
            if waiter.ask is AskKind.WAKE:
                _serve_wake(draft, name, waiter.id)
            served = all(w.id != waiter.id for w in draft.models[name].waiters)
            if not served and waiter.deadline_s <= draft.mono_s:
                _time_out(draft, name, waiter.id)
        failed = draft.models[name].life.state is State.FAILED and not may_come_back(draft.models[name])
        if failed and draft.models[name].waiters:
            failure = draft.models[name].failure
            detail = failure.detail if failure else "it failed"
            refuse_users(draft, name, "failed", detail, f"when the cause is gone: sleepctl reset {name}")
        record = draft.models[name]
        if (
            record.made_room
            and name not in draft.tasks
            and not is_start_wanted(record)
            and not any(w.ask is AskKind.WAKE for w in record.waiters)
        ):
            # Nobody waits any more for what others made room for.
            owe_wakes(draft, record.made_room, name)
            draft.change(name, made_room=())
        record = draft.models[name]
        if record.reason.startswith(WAITS) and record.life.state in ASLEEP and not is_wanted_awake(record):
            draft.change(name, reason=NOBODY_WAITS)


def _time_out(draft: Draft, name: str, waiter_id: int) -> None:
    record = draft.models[name]
    waiter = next(w for w in record.waiters if w.id == waiter_id)
    if waiter.ask is AskKind.WAKE and not is_returning(waiter):
        keep_place(draft, name, place_of(draft, name))
    task = draft.tasks.get(name)
    if task is not None:
        detail = f"{name} is not ready yet; the task goes on"
        draft.answer(name, waiter, AnswerKind.TIMED_OUT, task_id=task.id, problem="timeout", detail=detail)
        if task.kind is TaskKind.WAKE and not waiter.silent:
            # A wake that still makes room lasts as long as somebody wishes it: the promise just made is a wish.
            promised_s = max(GOES_ON_S, waiter.deadline_s - waiter.asked_s)
            wish = replace(waiter, silent=True, deadline_s=draft.mono_s + promised_s)
            draft.change(name, waiters=(*draft.models[name].waiters, wish))
        return
    problem = "engine_failed"
    to_wake = waiter.ask is AskKind.WAKE or wants_deeper(record, waiter)
    if to_wake and record.life.state in ASLEEP:
        room = room_for(draft, name, task_id=None, force=waiter.force)
        problem = room.problem if isinstance(room, WaitFor | Refuse) else "no_room"
    elif waiter.ask is AskKind.SLEEP or record.yields is not None:
        problem = "busy"
    draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=f"{name}: {record.reason}")


def _serve_wake(draft: Draft, name: str, waiter_id: int) -> None:
    record = draft.models[name]
    waiter = next(w for w in record.waiters if w.id == waiter_id)
    state = record.life.state
    if state in (State.AWAKE, State.UNKNOWN) and record.unreadable is not None:
        # Last seen awake, maybe, but it does not answer any more: nobody is sent there.
        detail = record.unreadable.detail
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail)
    elif state is State.AWAKE and record.yields is not None:
        return  # its gate is shut: it waits for the next turn
    elif state is State.AWAKE:
        last = record.last_wake
        task_id = last.task_id if last is not None and record.awake_since_s >= waiter.asked_s else None
        draft.answer(name, waiter, AnswerKind.DONE, task_id=task_id, level=0)
    elif state is State.LOST and may_come_back(record):
        return
    elif state is State.STOPPED:
        _serve_stopped(draft, name, waiter)
    elif state is State.LOST:
        detail = record.failure.detail if record.failure else "nothing answers"
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=START_HINT)
    elif state is State.FOREIGN:
        detail = f"{name} is held by somebody else: {record.reason}"
        hint = f"to take it back at once: sleepctl reset {name}"
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=hint)


def _serve_stopped(draft: Draft, name: str, waiter: Waiter) -> None:
    """What we stopped is started for whoever wants it awake; what a person stopped stays stopped."""
    record = draft.models[name]
    if record.stopped is None and record.start_wanted is None and not is_unit_unread(record):
        hint = f"sleepctl start {name}"
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="stopped", detail=f"{name}: {record.reason}", hint=hint)
