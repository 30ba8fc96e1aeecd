"""Turns given up: a gate shut to new requests for somebody who waits, and opened again where that comes to nothing.

Nothing is sent to an engine here, and nothing that runs is ended. A model whose turn is over finishes what its gate let
in; idle by then, it sleeps for whoever is next as any idle neighbour would (core/room.py). When a turn is over is
worked out in core/sharing.py.
"""

from collections.abc import Mapping

from sleepd.core.commands import AnswerKind, LookNow, OpenGate
from sleepd.core.draft import Draft
from sleepd.core.events import GateEmptied
from sleepd.core.life import OUT, State
from sleepd.core.places import keep_place, place_of
from sleepd.core.record import AskKind, Awaited, ModelRecord, Yielding, is_used_since_wake, serves, wakes_asked
from sleepd.core.room import NOBODYS, Room, WaitFor, room_for
from sleepd.core.sharing import is_awaited
from sleepd.core.task import TaskKind
from sleepd.core.units import format_duration


def room_in_turn(draft: Draft, name: str, *, force: bool, barred: Mapping[str, str] = NOBODYS) -> Room:
    """Decide for a model that is wanted awake and has no task yet, once every turn that is over is given up."""
    room = room_for(draft, name, task_id=None, force=force, barred=barred)
    if isinstance(room, WaitFor) and await_turn(draft, name, room):
        return room_for(draft, name, task_id=None, force=force, barred=barred)
    return room


def await_turn(draft: Draft, name: str, room: WaitFor) -> bool:
    """Remember whose turns this model waits for. Return whether any of them was over, and given up just now."""
    if room.briefly:
        return False
    record, turns = draft.models[name], room.turns
    draft.waits_for[name] = turns.of if turns is not None else ()
    if turns is None and not is_awaited(record):
        return False  # what is known of its wait stays, for who comes back
    awaited = Awaited(turns.of, turns.over_s) if turns is not None else None
    if record.awaited != awaited:
        record = draft.change(name, awaited=awaited)
    if turns is None or turns.over_s > draft.mono_s or not is_awaited(record):
        return False
    ending = [n for n in turns.of if _may_yield(draft.models[n], name)]
    for other in ending:
        _end_turn(draft, draft.models[other], name)
    return bool(ending)


def await_no_turn(draft: Draft, name: str) -> None:
    """Remember that no end of a turn would help this model now: gates that are shut for it open again."""
    draft.waits_for[name] = ()
    if draft.models[name].awaited is not None:
        draft.change(name, awaited=None)


def _may_yield(holder: ModelRecord, to: str) -> bool:
    return holder.life.state is State.AWAKE and (holder.yields is None or holder.yields.to != to)


def _end_turn(draft: Draft, holder: ModelRecord, to: str) -> None:
    """Shut the gate. Whoever takes its place in the line shortens nobody's time to finish."""
    name, drain_s = holder.spec.name, draft.settings.turn_drain_s
    was = holder.yields
    yields = (
        Yielding(to, draft.mono_s, draft.mono_s + drain_s) if was is None else Yielding(to, was.since_s, was.until_s)
    )
    draft.change(name, yields=yields, reason=f"its turn is over: {to} is next")
    text = f"the turn of {name} is over: it finishes its requests, then {to} is next"
    draft.note("turn_over", name, text, {"next": to, "drain_s": yields.until_s - draft.mono_s})


def gate_emptied(draft: Draft, event: GateEmptied) -> None:
    """Take in that the last request left a shut gate; where somebody waits for that, its server is looked at now."""
    record = draft.change(event.model, in_flight=0)
    if record.yields is not None:
        draft.command(LookNow(model=event.model))


def settle_turns(draft: Draft) -> None:
    """Open the gates that are shut for nobody any more, or whose requests did not end in time."""
    yielding = [n for n, r in draft.models.items() if r.yields is not None]
    for name in yielding:
        if _is_late(draft, draft.models[name]):
            _serve_on(draft, name)
    for name in yielding:
        record = draft.models[name]
        if record.yields is not None and (why := _in_vain(draft, record)):
            _reopen(draft, name, why)
    for name, record in list(draft.models.items()):
        if record.awaited is not None and not _still_waits(draft, record):
            draft.change(name, awaited=None)
        # A wake that nobody came back for in time takes nobody's place.
        if record.place is not None and serves(record) and is_used_since_wake(record):
            draft.change(name, place=None)


def _is_late(draft: Draft, record: ModelRecord) -> bool:
    return record.life.state is State.AWAKE and record.yields is not None and record.yields.until_s <= draft.mono_s


def _serve_on(draft: Draft, name: str) -> None:
    """Its requests did not end in time: it begins another turn, and those who waited for its room are told so.

    The turn lasts at least as long as the gate was shut, so that one endless request costs its neighbours' clients half
    of the time at most.
    """
    record = draft.models[name]
    assert record.yields is not None
    first, tried_s = record.yields.to, draft.mono_s - record.yields.since_s
    place_s = place_of(draft, first) if first in draft.models else None
    again_s = max(tried_s, record.spec.min_awake_s)
    draft.change(name, turn_until_s=draft.mono_s + again_s)
    detail = f"{name} did not finish its requests within {format_duration(tried_s)}"
    hint = f"{name} is asked again in {format_duration(again_s)}, and makes room as soon as it is idle"
    for waiter in draft.models[first].waiters if first in draft.models else ():
        if waiter.ask is AskKind.WAKE:
            told = f"{first} cannot have its turn: {detail}"
            draft.answer(first, waiter, AnswerKind.REFUSED, problem="busy", detail=told, hint=hint)
    if first in draft.models:
        draft.change(first, awaited=Awaited((name,), draft.mono_s + again_s), reason=f"asleep: {detail}")
        keep_place(draft, first, place_s)
    _reopen(draft, name, f"it did not finish its requests within {format_duration(tried_s)}")


def _in_vain(draft: Draft, record: ModelRecord) -> str:
    """Why its gate is shut for nothing, as a sentence; empty where somebody still waits for its room."""
    assert record.yields is not None
    to, name = record.yields.to, record.spec.name
    first, task = draft.models.get(to), draft.tasks.get(to)
    if record.life.state not in (State.AWAKE, State.DRAINING):
        return "it is not awake any more"
    if first is None or not wakes_asked(first):
        return f"{to} is not waited for any more"
    makes_room = task is not None and not task.running and task.kind in (TaskKind.WAKE, TaskKind.START)
    if task is None and first.life.state in OUT:
        return "" if name in draft.waits_for.get(to, (name,)) else f"{to} does not wait for its turn any more"
    return "" if makes_room else f"{to} needs no room of it any more"


def _reopen(draft: Draft, name: str, why: str) -> None:
    """Let it serve on, and tell who waited for its gate meanwhile."""
    record = draft.change(name, yields=None)
    if record.life.state is not State.AWAKE:
        return
    draft.change(name, reason=f"awake: {why}")
    draft.command(OpenGate(name))
    draft.note("turn_goes_on", name, f"{name} serves on: {why}")
    for waiter in record.waiters:
        if waiter.ask is AskKind.WAKE:
            draft.answer(name, waiter, AnswerKind.DONE, level=0)


def _still_waits(draft: Draft, record: ModelRecord) -> bool:
    """Whether what is remembered of its wait is still of use: to its callers, or to who asks when to come back."""
    assert record.awaited is not None
    if record.spec.name in draft.tasks or record.life.state not in OUT:
        return False
    return is_awaited(record) or record.awaited.at_s > draft.mono_s
