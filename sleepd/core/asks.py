"""What callers ask for: admitted to the queue with a deadline, or answered at once."""

from sleepd.core.budget import clear_failures
from sleepd.core.commands import Answer, AnswerKind, LookNow
from sleepd.core.conditions import is_busy
from sleepd.core.draft import Draft
from sleepd.core.ends import take_back_drain
from sleepd.core.first_looks import is_to_be_placed
from sleepd.core.frozen import replace
from sleepd.core.host_room import limits_unread
from sleepd.core.life import ASLEEP, LEVEL, Fact, State
from sleepd.core.memory import unplaced
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason
from sleepd.core.orders import uuids_of
from sleepd.core.places import keep_place, kept_place_s, place_of
from sleepd.core.policy import held_by, level1_refusal, level2_refusal
from sleepd.core.record import WAITERS_LIMIT, AskKind, ModelRecord, Waiter, is_pinned, wants_deeper
from sleepd.core.refusals import backup_refused, refuse_wishes
from sleepd.core.restarts import clear_restarts
from sleepd.core.room import claimed
from sleepd.core.strangers import let_go
from sleepd.core.task import HOST_LOCK
from sleepd.core.tasks import begin_sleep
from sleepd.core.wishes import GOES_ON_S, AttendanceChanged, CallerGone, ResetAsked, SleepAsked, WakeAsked

SECOND_LOOK_S = 0.5
_ON_THE_WAY_DOWN = (State.DRAINING, State.FALLING_ASLEEP, State.SLEEP_PENDING)


def ask_wake(draft: Draft, ask: WakeAsked) -> None:
    """Queue the wish; it is served in this turn where the model is awake or can be woken."""
    record = draft.models[ask.model]
    if len(record.waiters) >= WAITERS_LIMIT:
        detail = f"{WAITERS_LIMIT} callers wait for {ask.model} already"
        draft.refuse(ask.waiter, "busy", detail)
        return
    waiter = Waiter(
        ask.waiter,
        AskKind.WAKE,
        Cause(ask.cause, ask.who),
        draft.mono_s,
        draft.mono_s + ask.timeout_s,
        force=ask.force,
        place_s=kept_place_s(draft, ask.model),
    )
    if not ask.wait and record.life.state is not State.AWAKE:
        # Nobody waits for it, so nobody's patience bounds it: the wish lives long enough to be served.
        waiter = replace(waiter, silent=True, deadline_s=draft.mono_s + max(ask.timeout_s, GOES_ON_S))
        draft.command(Answer(ask.waiter, AnswerKind.ACCEPTED, task_id=None))
    draft.change(ask.model, waiters=(*record.waiters, waiter))
    task = draft.tasks.get(ask.model)
    if record.yields is None and (task is None or task.cause.kind is not CauseKind.RESERVATION):
        take_back_drain(draft, ask.model, "wanted again before it fell asleep")


def ask_sleep(draft: Draft, ask: SleepAsked) -> None:
    """Answer at once what needs no task or may not be; else queue the wish until its GPUs are free."""
    record = draft.models[ask.model]
    refused = _refuse_sleep(draft, record, ask)
    level = LEVEL[record.life.state]
    if refused is not None:
        draft.command(refused)
    elif level is not None and level >= 1 and not (ask.via_wake and level < ask.level):
        draft.command(Answer(ask.waiter, AnswerKind.DONE, level=level))
    else:
        deadline_s = draft.mono_s + ask.timeout_s
        cause = Cause(CauseKind.OPERATOR, ask.who)
        patience_s = ask.drain_s
        if is_busy(record):
            # In use when it was last looked at, which may be over: nobody is refused by a look older than the wish.
            patience_s = max(ask.drain_s, SECOND_LOOK_S)
            draft.command(LookNow(model=ask.model))
        if _is_to_be_seen(draft, record):
            draft.command(LookNow(model=ask.model, gpus=True))
        drain_until_s = draft.mono_s + patience_s
        waiter = Waiter(
            ask.waiter,
            AskKind.SLEEP,
            cause,
            draft.mono_s,
            deadline_s,
            ask.level,
            ask.force,
            drain_until_s,
            ask.via_wake,
            not ask.wait,
        )
        draft.change(ask.model, waiters=(*record.waiters, waiter))
        begin_asked_sleeps(draft)
        if not ask.wait:
            task = draft.tasks.get(ask.model)
            draft.command(Answer(ask.waiter, AnswerKind.ACCEPTED, task_id=task.id if task else None))


def _refuse_sleep(draft: Draft, record: ModelRecord, ask: SleepAsked) -> Answer | None:
    name, state = record.spec.name, record.life.state

    def no(problem: str, detail: str, hint: str = "") -> Answer:
        return Answer(ask.waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)

    if len(record.waiters) >= WAITERS_LIMIT:
        return no("busy", f"{WAITERS_LIMIT} callers wait for {name} already")
    if _is_to_be_seen(draft, record):
        return None  # judged as soon as it was
    if refused := _refused_as_it_is(record, ask.level, via_wake=ask.via_wake):
        return replace(refused, waiter=ask.waiter)
    if LEVEL[state] and not ask.via_wake:
        return None
    if unseen := _unseen(draft, record):
        return no("blind", _unproven(name, unseen))
    if forbidden := _forbidden(draft, record, ask.level, force=ask.force):
        return replace(forbidden, waiter=ask.waiter)
    if record.in_flight and ask.drain_s <= 0:
        return no("busy", f"{name} is in use", "wait until its requests end, or give drain_s")
    return None


def _refused_as_it_is(record: ModelRecord, level: int, *, via_wake: bool) -> Answer | None:
    """The answer where a model in this state cannot fall asleep to that level, or deeper than it is; else None."""
    name, state, refused = record.spec.name, record.life.state, Answer(0, AnswerKind.REFUSED)
    asleep = LEVEL[state]
    if via_wake and state in ASLEEP:
        return None
    if asleep and asleep < level:
        hint = "wake it first, or say via_wake: on stock vLLM a deeper sleep of a sleeper does nothing"
        return replace(
            refused, problem="needs_wake", detail=f"{name} is asleep at level {asleep}, {level} is deeper", hint=hint
        )
    if asleep or state is State.AWAKE or state in _ON_THE_WAY_DOWN:
        return None
    problem = "stopped" if state is State.STOPPED else "engine_failed"
    return replace(refused, problem=problem, detail=f"{name} is {state.replace('_', ' ')}: {record.why}")


def _forbidden(draft: Draft, record: ModelRecord, level: int, *, force: bool) -> Answer | None:
    """The answer where a person may not put this awake model to sleep at this level as things are; else None."""
    name, refused = record.spec.name, Answer(0, AnswerKind.REFUSED)
    if unsafe := level1_refusal(record):
        return replace(refused, problem="level_unsafe", detail=f"{name} stays awake: {unsafe}")
    if not force and (kept := _kept_awake(record)):
        return kept
    if level == 2 and (unsafe := level2_refusal(draft.world(), record)):
        return replace(refused, problem="level_unsafe", detail=f"level 2 is not safe for {name}: {unsafe}")
    return backup_refused(draft, record) if level == 1 else None


def _kept_awake(record: ModelRecord) -> Answer | None:
    """The answer to a sleep without force where somebody keeps the model awake."""
    name, refused = record.spec.name, Answer(0, AnswerKind.REFUSED)
    if is_pinned(record):
        hint = f"sleepctl unpin {name}, or use force (admin)"
        return replace(refused, problem="pinned", detail=f"{name} is pinned", hint=hint)
    if record.holds:
        detail, hint = f"{name} stays awake: {held_by(record)}", "wait until it lets go, or use force (admin)"
        return replace(refused, problem="held", detail=detail, hint=hint)
    return None


def _is_to_be_seen(draft: Draft, record: ModelRecord) -> bool:
    """Whether a first look is still to come without which nobody can say whether it may sleep: at the server, at GPU
    memory, or at where its processes hold it."""
    first = MissingReason.NOT_YET
    if isinstance(record.seen, Missing) and record.seen.reason is first and record.life.state is State.UNKNOWN:
        return True
    if record.life.state is not State.AWAKE:
        return False
    if isinstance(draft.gpus, Missing):
        return draft.gpus.reason is first
    return is_to_be_placed(record, draft.gpus.value)


def _unseen(draft: Draft, record: ModelRecord) -> str:
    """What cannot be seen of the model or its GPUs, as a sentence; empty where a sleep can be proven."""
    if not isinstance(record.seen, Known):
        return f"the server cannot be read: {record.seen.reason}: {record.seen.detail}".rstrip(": ")
    return _gpus_unseen(draft, record)


def _gpus_unseen(draft: Draft, record: ModelRecord) -> str:
    if not isinstance(draft.gpus, Known):
        return f"GPU memory cannot be read: {draft.gpus.reason}: {draft.gpus.detail}".rstrip(": ")
    return "" if uuids_of(draft, record) else unplaced(record, draft.gpus.value)


def _unproven(name: str, unseen: str) -> str:
    return f"a sleep of {name} could not be proven: {unseen}"


def begin_asked_sleeps(draft: Draft) -> None:
    """Begin sleeps that callers wait for, where the GPUs are free and nobody is being served."""
    for name, record in list(draft.models.items()):
        if not record.waiters:
            continue
        wishes = [w for w in record.waiters if w.ask is AskKind.SLEEP]
        if not wishes or name in draft.tasks or draft.stopping or _is_to_be_seen(draft, record):
            continue
        if record.life.state is not State.AWAKE:
            _answer_found(draft, record, wishes)
            continue
        if unseen := _gpus_unseen(draft, record):
            blind = Answer(0, AnswerKind.REFUSED, problem="blind")
            refuse_wishes(draft, name, wishes, replace(blind, detail=_unproven(name, unseen)))
            continue
        if {*uuids_of(draft, record), HOST_LOCK} & claimed(draft) or any(w.ask is AskKind.WAKE for w in record.waiters):
            continue
        if kept := _kept_awake(record):
            # A hold or a pin that came while it waited for its turn.
            refuse_wishes(draft, name, [w for w in wishes if not w.force], kept)
            wishes = [w for w in wishes if w.force]
            if not wishes:
                continue
        if is_busy(record):
            _give_up_draining(draft, name, wishes)
            continue
        if limits_unread(draft.models, record):
            draft.command(LookNow(model=name))
            continue
        granted = []
        for wish in wishes:
            # Granted when it was asked for; while it waited the room may have gone, or another engine come.
            refused = _forbidden(draft, record, wish.level, force=wish.force)
            if refused is None:
                granted.append(wish)
            else:
                refuse_wishes(draft, name, [wish], refused)
        if granted:
            begin_sleep(draft, name, max(w.level for w in granted), granted[0].cause)


def _answer_found(draft: Draft, record: ModelRecord, wishes: list[Waiter]) -> None:
    """Answer whoever waited for a first look, or for a turn, where the model turns out to be asleep or nobody's to put
    to sleep. What passes by itself is waited for."""
    name, state = record.spec.name, record.life.state
    told = state is State.UNKNOWN and record.unreadable is not None
    if not told and state not in (*ASLEEP, State.FOREIGN, State.STOPPED):
        return
    for wish in wishes:
        if refused := _refused_as_it_is(record, wish.level, via_wake=wish.via_wake):
            refuse_wishes(draft, name, [wish], refused)
        elif not wants_deeper(record, wish):
            draft.answer(name, wish, AnswerKind.DONE, level=LEVEL[state])


def _give_up_draining(draft: Draft, name: str, wishes: list[Waiter]) -> None:
    for waiter in wishes:
        if waiter.drain_until_s <= draft.mono_s:
            hint = "wait until its requests end, or give drain_s"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="busy", detail=f"{name} is in use", hint=hint)


def ask_reset(draft: Draft, ask: ResetAsked) -> None:
    """Take a failed model back: it is looked at anew, and its weights stay as doubtful as they were."""
    record = draft.models[ask.model]
    if record.life.state is State.FOREIGN:
        draft.change(ask.model, hold_down_until_s=draft.mono_s)
        let_go(draft, ask.model)
        draft.change(ask.model, reason=f"taken back by {ask.who}: looking at it anew")
        draft.command(LookNow(model=ask.model))
        draft.note("reset", ask.model, f"{ask.model} was taken back by {ask.who}")
        draft.command(Answer(ask.waiter, AnswerKind.DONE))
        return
    clear_restarts(draft, ask.model)
    if record.life.state is not State.FAILED:
        if record.failure or record.check_failed or record.frees_nothing or record.attempts:
            draft.change(ask.model, failure=None, check_failed="", frees_nothing=False)
            clear_failures(draft, ask.model)
        draft.command(Answer(ask.waiter, AnswerKind.DONE, level=LEVEL[record.life.state]))
        return
    draft.state(ask.model, Fact.OPERATOR_RESET)
    clear_failures(draft, ask.model)
    draft.change(
        ask.model,
        failure=None,
        check_failed="",
        frees_nothing=False,
        belief=None,
        seen=Missing(MissingReason.NOT_YET),
        settled_s=draft.mono_s,
        reason=f"reset by {ask.who}: looking at it anew",
    )
    draft.command(LookNow(model=ask.model))
    draft.note("reset", ask.model, f"{ask.model} was reset by {ask.who}")
    draft.command(Answer(ask.waiter, AnswerKind.DONE))


def change_attendance(draft: Draft, event: AttendanceChanged) -> None:
    """Take in whether anybody waits behind a wish. It keeps its age: who comes back has not lost its place."""
    record = draft.models.get(event.model)
    if record is not None and any(w.id == event.waiter for w in record.waiters):
        if not event.attended:
            keep_place(draft, event.model, place_of(draft, event.model))
        present = draft.models[event.model].waiters
        waiters = (replace(w, attended=event.attended) if w.id == event.waiter else w for w in present)
        draft.change(event.model, waiters=tuple(waiters))


def forget_caller(draft: Draft, gone: CallerGone) -> None:
    """Drop a caller that left; a wake that nobody else wants is not begun, one already begun is finished."""
    record = draft.models.get(gone.model)
    if record is not None and any(w.id == gone.waiter for w in record.waiters):
        draft.change(gone.model, waiters=tuple(w for w in record.waiters if w.id != gone.waiter))
