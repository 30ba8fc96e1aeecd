"""What persons ask of a model's unit: stop it, start it."""

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.conditions import is_busy
from sleepd.core.draft import Draft
from sleepd.core.first_looks import is_unread
from sleepd.core.frozen import replace
from sleepd.core.life import State
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason
from sleepd.core.policy import held_by
from sleepd.core.record import WAITERS_LIMIT, AskKind, ModelRecord, Waiter, is_pinned
from sleepd.core.restarts import is_unit_unread, unit_refusal
from sleepd.core.wishes import StartAsked, StopAsked
from sleepd.core.wording import describe

_RUNS = (State.AWAKE, State.DRAINING)


def ask_stop(draft: Draft, ask: StopAsked) -> None:
    """Queue the wish until it can be begun, or answer at once where it is stopped already or may not be."""
    record = draft.models[ask.model]
    cause = Cause(CauseKind.OPERATOR, ask.who)
    told = stop_told(draft, ask.model, cause)
    if told is None and record.life.state in _RUNS and is_busy(record):
        told = _no("busy", f"{ask.model} is in use", "wait until its requests end")
    if told is None and len(record.waiters) >= WAITERS_LIMIT:
        told = _no("busy", f"{WAITERS_LIMIT} callers wait for {ask.model} already")
    if told is not None:
        draft.command(replace(told, waiter=ask.waiter))
        return
    deadline_s = draft.mono_s + ask.timeout_s
    waiter = Waiter(ask.waiter, AskKind.STOP, cause, draft.mono_s, deadline_s, silent=not ask.wait)
    draft.change(ask.model, waiters=(*record.waiters, waiter), restart_due="")
    if not ask.wait:
        draft.command(Answer(ask.waiter, AnswerKind.ACCEPTED))


def stop_told(draft: Draft, name: str, cause: Cause) -> Answer | None:
    """The answer to a person's stop that needs no task, its waiter still to be named: it is stopped already, or may not
    be stopped. None where it may, or where that is not read yet."""
    record = draft.models[name]
    if (refusal := unit_refusal(record)) and not is_unit_unread(record):
        return _no("engine_failed", f"{name} cannot be stopped: {refusal}")
    if kept := _kept_running(record):
        return kept
    if is_to_be_read(record):
        return None
    if record.life.state is State.STOPPED:
        # It stays stopped now, whoever wants it awake.
        draft.change(name, stopped=None, start_wanted=None, reason=f"stopped: {describe(cause)}")
        return Answer(0, AnswerKind.DONE)
    if record.life.state in (State.UNKNOWN, State.FOREIGN):
        detail = f"{name} is {record.life.state}: {record.why}; whether it is in use is not known"
        return _no("engine_failed", detail, f"systemctl stop {record.spec.unit}")
    return None


def is_to_be_read(record: ModelRecord) -> bool:
    """Whether the first look at its unit or at its server is still to come: a stop waits for both."""
    return is_unit_unread(record) or is_unread(record)


def _no(problem: str, detail: str, hint: str = "") -> Answer:
    return Answer(0, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)


def _kept_running(record: ModelRecord) -> Answer | None:
    name = record.spec.name
    if is_pinned(record):
        return _no("pinned", f"{name} is pinned", f"sleepctl unpin {name}, or systemctl stop {record.spec.unit}")
    if record.holds:
        return _no("held", f"{name} stays: {held_by(record)}", f"wait, or systemctl stop {record.spec.unit}")
    return None


def ask_start(draft: Draft, ask: StartAsked) -> None:
    """Let the unit be started where nothing of it runs; answered once the model serves."""
    record = draft.models[ask.model]
    name, state = record.spec.name, record.life.state
    refusal = _refuse_start(record)
    if refusal is not None:
        draft.refuse(ask.waiter, *refusal)
        return
    if state not in (State.STOPPED, State.LOST, State.STARTING) and not _is_unseen(record):
        # Its process runs: there is nothing to start.
        draft.command(Answer(ask.waiter, AnswerKind.DONE, level=0 if state is State.AWAKE else None))
        return
    cause, deadline_s = Cause(CauseKind.OPERATOR, ask.who), draft.mono_s + ask.timeout_s
    waiter = Waiter(ask.waiter, AskKind.WAKE, cause, draft.mono_s, deadline_s, silent=not ask.wait)
    wanted = record.start_wanted if state is State.STARTING else cause
    draft.change(name, waiters=(*record.waiters, waiter), start_wanted=wanted)
    if not ask.wait:
        draft.command(Answer(ask.waiter, AnswerKind.ACCEPTED))


def _is_unseen(record: ModelRecord) -> bool:
    """Whether nobody knows yet if its process runs: the first look tells, and the wish waits for it."""
    unread = isinstance(record.seen, Missing) and record.seen.reason is MissingReason.NOT_YET
    return record.life.state is State.UNKNOWN and unread


def _refuse_start(record: ModelRecord) -> tuple[str, str, str] | None:
    name = record.spec.name
    if len(record.waiters) >= WAITERS_LIMIT:
        return "busy", f"{WAITERS_LIMIT} callers wait for {name} already", ""
    if (refusal := unit_refusal(record)) and not is_unit_unread(record):
        return "engine_failed", f"{name} cannot be started: {refusal}", ""
    if record.life.state is State.FAILED and not record.restart_due:
        detail = record.failure.detail if record.failure else "it failed"
        return "failed", detail, f"sleepctl reset {name}, or stop it first"
    return None
