"""What goes on and what is begun in this turn: tasks that paused or make room, and wakes that are wanted."""

from sleepd.core.budget import cooling_s
from sleepd.core.commands import AnswerKind, LookNow
from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.handover import await_no_turn, await_turn, room_in_turn
from sleepd.core.life import ASLEEP, Fact, State, Weights
from sleepd.core.line import in_line, kept_for_start
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.onward import look_again, send_into_room, takes_memory
from sleepd.core.owed_wakes import owe_wakes, restore_victims
from sleepd.core.plan import Verb
from sleepd.core.record import AskKind, ModelRecord, is_wanted_awake, wakes_asked, wants_deeper
from sleepd.core.refusals import refuse_all
from sleepd.core.repair import put_back, retry, was_ignored
from sleepd.core.restarts import owe_restart
from sleepd.core.room import Go, MakeRoom, Refuse, WaitFor, room_for
from sleepd.core.saying import note_act
from sleepd.core.sharing import barred_from_s
from sleepd.core.task import UNIT_TASKS, Phase, Task, TaskKind
from sleepd.core.tasks import begin_sleep, begin_wake, carry_on
from sleepd.core.unanswered import BLIND_S, leave_silent, silent_until_s
from sleepd.core.unit_tasks import is_on_unit
from sleepd.core.units import format_duration
from sleepd.core.victims import why_chosen

WAITS = "waits for "
NOBODY_WAITS = "asleep: whoever wanted it left"


def go_on(draft: Draft) -> None:
    """Let tasks that pause or make room continue, where their time has come."""
    for name in sorted(draft.tasks):
        task = draft.tasks.get(name)
        if task is None or task.running:
            continue
        if task.kind in UNIT_TASKS and is_on_unit(task):
            continue  # see core/starts.py
        record = draft.models[name]
        silent_s = silent_until_s(draft.settings, record, task)
        if silent_s is not None and silent_s <= draft.mono_s:
            leave_silent(draft, task)
            continue
        if not isinstance(record.seen, Known) or (task.resume_s is not None and task.resume_s > draft.mono_s):
            continue
        if record.life.state in ASLEEP and task.kind is TaskKind.WAKE:
            _make_room(draft, task)
        elif record.life.state is State.BROKEN and task.phase is not Phase.FENCE:
            _retry(draft, task)
        elif takes_memory(record, task):
            _go_onward(draft, task)
        else:
            carry_on(draft, task)


def _retry(draft: Draft, task: Task) -> None:
    """Send a refused wake call again, if there is room for it now; else put back what it mapped."""
    if task.plan.steps[task.cursor].verb in (Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.WAKE_KV):
        room = room_for(draft, task.model, task_id=task.id, force=False)
        if isinstance(room, WaitFor) and room.look and draft.mono_s - task.sent_s < BLIND_S:
            look_again(draft, task)
            return
        if not isinstance(room, Go):
            put_back(draft, task, untouched=was_ignored(draft.models[task.model], task))
            return
    retry(draft, task)


def _go_onward(draft: Draft, task: Task) -> None:
    """Send the next call of a wake that takes memory; whoever must sleep for it first does."""
    met = past_victim(draft, task)
    if met is not None and (room := send_into_room(draft, met)) is not None:
        sleep_victim(draft, met, room)


def past_victim(draft: Draft, task: Task) -> Task | None:
    """The task once its victim sleeps, or does not after all; None as long as that is under way."""
    if task.victim is None:
        return task
    if task.victim in draft.tasks:
        return None
    victim = draft.models.get(task.victim)
    slept = victim is not None and victim.life.state in ASLEEP
    return draft.put_task(replace(task, victim=None, slept=(*task.slept, task.victim) if slept else task.slept))


def _make_room(draft: Draft, held: Task) -> None:
    """Carry a wake forward that holds its claims but has not begun: next victim, go, or refuse."""
    task, name = past_victim(draft, held), held.model
    if task is None:
        return
    record = draft.models[name]
    if not is_wanted_awake(record):
        draft.end_task(task, "nobody waits for it any more")
        owe_wakes(draft, task.slept, name)
        draft.change(name, reason=NOBODY_WAITS)
        return
    force = any(w.force for w in record.waiters)
    room = room_for(draft, name, task_id=task.id, force=force)
    if isinstance(room, Go):
        carry_on(draft, task)
    elif isinstance(room, MakeRoom) and wakes_asked(record):
        sleep_victim(draft, task, room)
    elif isinstance(room, WaitFor) and room.look:
        look_again(draft, task)
    elif isinstance(room, WaitFor | MakeRoom):
        # Whoever must make room is in use: its GPUs are not kept from others meanwhile, the wish stays queued.
        waits = room if isinstance(room, WaitFor) else WaitFor(f"room: {room.victim} is awake")
        draft.change(name, made_room=task.slept)
        draft.end_task(task, f"waits for {waits.reason}")
        wait_for(draft, name, waits)
    else:
        draft.end_task(task, f"refused: {room.detail}")
        refuse_wakers(draft, name, room)
        restore_victims(draft, task)


def sleep_victim(draft: Draft, task: Task, room: MakeRoom) -> None:
    """Put the victim to sleep under the claims of the task it makes room for."""
    why = why_chosen(room.choice)
    task = draft.put_task(replace(task, victim=room.victim, claims=task.claims | room.claims, chosen=why))
    yields = draft.models[room.victim].yields
    if yields is not None:
        draft.change(room.victim, last_drain_s=round(draft.mono_s - yields.since_s, 3))
    data = {"task": task.id, "victim": room.victim, "level": room.level, "felt_s": round(room.choice.felt_s, 3)}
    draft.note("victim", task.model, f"{room.victim} makes room for {task.model} ({why})", data)
    begin_sleep(draft, room.victim, room.level, Cause(CauseKind.VICTIM, task.model), parent=task)


def begin_wakes(draft: Draft) -> None:
    """Begin the wakes that are wanted and possible, whose turn is due first first."""
    barred: dict[str, str] = {}
    for record in in_line(draft):
        name = record.spec.name
        if draft.stopping:
            break
        if record.life.state is State.STOPPED:
            barred = {**kept_for_start(draft, record), **barred}
            continue
        if _unwakeable(draft, record) or _cooling(draft, record):
            continue
        force = any(w.force for w in record.waiters)
        room = room_in_turn(draft, name, force=force, barred=barred)
        if isinstance(room, MakeRoom) and not wakes_asked(record):
            # What we merely owe (a check, a restored victim), or a rule wants, is not worth somebody else's sleep; nor
            # is a deeper sleep, which is to give memory back.
            _refuse_deeper(draft, record, room.victim)
            wait_for(draft, name, WaitFor(f"room: {room.victim} is awake"))
        elif isinstance(room, Go | MakeRoom):
            cause = wake_cause(record)
            if cause.kind is CauseKind.RULE:
                note_act(draft, cause.who, name)
            task = begin_wake(draft, name, cause, room.claims)
            if isinstance(room, MakeRoom):
                sleep_victim(draft, task, room)
            else:
                carry_on(draft, task)
        elif isinstance(room, WaitFor):
            wait_for(draft, name, room)
            if barred_from_s(record) <= draft.mono_s:
                barred = dict.fromkeys(room.claims, name) | barred
        else:
            refuse_wakers(draft, name, room)


def _unwakeable(draft: Draft, record: ModelRecord) -> bool:
    """A stranger's level 2 sleep of an engine whose weights no recipe brings back: give it up, told."""
    if record.life.state is not State.ASLEEP_L2:
        return False
    assert record.facts is not None
    caps = capabilities(record.facts, fenced=record.spec.fenced)
    # A stranger's sleep with nothing to compare with afterwards: the reload alone must make up for it.
    incomparable = record.life.weights is Weights.DOUBTFUL and record.fingerprint is None
    unsafe = caps.cure_unsafe if incomparable else caps.level2_unsafe
    if not unsafe:
        return False
    name = record.spec.name
    draft.state(name, Fact.GAVE_UP)
    detail = f"it is asleep at level 2 and cannot be brought back ({unsafe}): restart the server"
    draft.fail(name, "level_unsafe", detail)
    if not owe_restart(draft, name, detail):
        refuse_all(draft, name, "failed", detail)
    return True


def _cooling(draft: Draft, record: ModelRecord) -> bool:
    """Whether it is left alone after a failure. Requests are refused meanwhile, what we owe waits; a person may try."""
    rest_s = cooling_s(record, draft.mono_s)
    if rest_s <= 0 or any(w.ask is AskKind.WAKE and w.cause.kind is CauseKind.OPERATOR for w in record.waiters):
        return False
    name = record.spec.name
    why = record.failure.detail if record.failure else "its last wake failed"
    detail = f"{name} is left alone after a failure ({why}); next attempt in {format_duration(rest_s)}"
    hint = f"sleepctl wake {name} tries at once"
    for waiter in [w for w in record.waiters if w.ask is AskKind.WAKE]:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=hint)
    return True


def wait_for(draft: Draft, name: str, room: WaitFor) -> None:
    await_turn(draft, name, room)
    reason = draft.models[name].reason
    if room.look:
        # One that failed just now would fail again at once: the next poll tells.
        if isinstance(draft.gpus, Known):
            draft.command(LookNow(gpus=True))
        # A reading that merely grew old says nothing new about what it waits for, nor about what we merely owe.
        if reason.startswith(WAITS) or not draft.models[name].waiters:
            return
    if reason != f"{WAITS}{room.reason}":
        draft.change(name, reason=f"{WAITS}{room.reason}")


def _refuse_deeper(draft: Draft, record: ModelRecord, victim: str) -> None:
    """Tell whoever wants it deeper asleep that the wake it needs finds no room, and whose sleep would make it."""
    name, hint = record.spec.name, f"sleepctl sleep {victim} first"
    detail = f"{name} must be woken to sleep deeper, and {victim} is awake where it needs the room"
    for waiter in [w for w in record.waiters if wants_deeper(record, w)]:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="no_room", detail=detail, hint=hint)


def refuse_wakers(draft: Draft, name: str, room: Refuse) -> None:
    """Tell everybody who waits for it to be awake why it will not be."""
    await_no_turn(draft, name)
    record = draft.models[name]
    wished = [w for w in record.waiters if w.ask is AskKind.WAKE or wants_deeper(record, w)]
    if room.problem == "reserved":
        # What is reserved comes back: requests wait for it as long as they may.
        wished = [w for w in wished if w.cause.kind is not CauseKind.REQUEST]
    if record.reason != room.detail:
        draft.change(name, reason=room.detail)
    if wished:
        data = {"problem": room.problem, "wanted": room.wanted, "found": room.found}
        draft.note("wake_refused", name, room.detail, data)
    for waiter in wished:
        draft.answer(
            name,
            waiter,
            AnswerKind.REFUSED,
            problem=room.problem,
            detail=room.detail,
            wanted=room.wanted,
            found=room.found,
            hint=room.hint,
        )


def wake_cause(record: ModelRecord) -> Cause:
    first = next((w for w in record.waiters if w.ask is AskKind.WAKE), None)
    first = first or next((w for w in record.waiters if w.via_wake), None)
    if first is not None:
        return first.cause
    return record.owed_wake or Cause(CauseKind.RULE, record.wanted_by)
