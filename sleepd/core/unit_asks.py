"""What persons ask of a model's unit: stop it, start it."""

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.conditions import is_busy
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.life import State
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason
from sleepd.core.policy import held_by
from sleepd.core.record import WAITERS_LIMIT, AskKind, ModelRecord, Waiter, is_pinned
from sleepd.core.restarts import is_unit_unread, unit_refusal
from sleepd.core.wishes import StartAsked, StopAsked

_RUNS = (State.AWAKE, State.DRAINING)


def ask_stop(draft: Draft, ask: StopAsked) -> None:
    """Queue the wish, or answer at once where it is stopped already or may not be."""
    record = draft.models[ask.model]
    refused = _refuse_stop(record, ask)
    if refused is None and record.life.state is State.STOPPED:
        # It stays stopped now, whoever wants it awake.
        draft.change(ask.model, stopped=None, start_wanted=None, reason=f"stopped: asked for by {ask.who}")
        refused = Answer(ask.waiter, AnswerKind.DONE)
    if refused is not None:
        draft.command(refused)
        return
    cause = Cause(CauseKind.OPERATOR, ask.who)
    deadline_s = draft.mono_s + ask.timeout_s
    waiter = Waiter(ask.waiter, AskKind.STOP, cause, draft.mono_s, deadline_s, silent=not ask.wait)
    draft.change(ask.model, waiters=(*record.waiters, waiter), restart_due="")
    if not ask.wait:
        draft.command(Answer(ask.waiter, AnswerKind.ACCEPTED))


def _refuse_stop(record: ModelRecord, ask: StopAsked) -> Answer | None:
    name = record.spec.name

    def no(problem: str, detail: str, hint: str = "") -> Answer:
        return Answer(ask.waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)

    if refusal := unit_refusal(record):
        return no("engine_failed", f"{name} cannot be stopped: {refusal}")
    if len(record.waiters) >= WAITERS_LIMIT:
        return no("busy", f"{WAITERS_LIMIT} callers wait for {name} already")
    if kept := kept_running(record):
        return replace(kept, waiter=ask.waiter)
    if record.life.state in _RUNS and is_busy(record):
        return no("busy", f"{name} is in use", "wait until its requests end")
    if record.life.state in (State.UNKNOWN, State.FOREIGN):
        detail = f"{name} is {record.life.state}: {record.reason}; whether it is in use is not known"
        return no("engine_failed", detail, f"systemctl stop {record.spec.unit}")
    return None


def kept_running(record: ModelRecord) -> Answer | None:
    """The answer to a person's stop where somebody keeps the model; its waiter is still to be named."""
    name, refused = record.spec.name, Answer(0, AnswerKind.REFUSED)
    if is_pinned(record):
        hint = f"sleepctl unpin {name}, or systemctl stop {record.spec.unit}"
        return replace(refused, problem="pinned", detail=f"{name} is pinned", hint=hint)
    if record.holds:
        hint = f"wait, or systemctl stop {record.spec.unit}"
        return replace(refused, problem="held", detail=f"{name} stays: {held_by(record)}", hint=hint)
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
