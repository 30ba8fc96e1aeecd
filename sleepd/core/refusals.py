"""Callers that wait for a model and are told that nothing comes of it."""

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.host_room import HostShort, admit_backup
from sleepd.core.memory import Blind
from sleepd.core.record import AskKind, ModelRecord, Waiter


def refuse_users(draft: Draft, name: str, problem: str, detail: str, hint: str = "") -> None:
    """Tell everybody who waits for the engine that it did not work; who wants it stopped goes on waiting."""
    for waiter in draft.models[name].waiters:
        if waiter.ask is not AskKind.STOP:
            draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)


def refuse_all(draft: Draft, name: str, problem: str, detail: str, hint: str = "") -> None:
    """Tell everybody who waits for the model that nothing will come of it."""
    for waiter in draft.models[name].waiters:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint)


def refuse_sleepers(draft: Draft, name: str) -> None:
    """Tell those who wanted it asleep that it is not, and why: the failure, else the reason it is as it is."""
    record = draft.models[name]
    for waiter in record.waiters:
        if waiter.ask is AskKind.SLEEP:
            detail = record.failure.detail if record.failure else f"{name} does not sleep: {record.reason}"
            draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail)


def backup_refused(draft: Draft, record: ModelRecord) -> Answer | None:
    """The answer where a level 1 backup would not fit: nothing overrides that, as the kernel would end the engine."""
    name, verdict = record.spec.name, admit_backup(draft.world(), record)
    refused = Answer(0, AnswerKind.REFUSED, problem="level_unsafe")
    if isinstance(verdict, Blind):
        return replace(refused, detail=f"{name} stays awake: {verdict.wanted}")
    if isinstance(verdict, HostShort):
        detail = f"{name} stays awake: {verdict.reason} ({verdict.wanted}, {verdict.found})"
        return replace(refused, detail=detail, wanted=verdict.wanted, found=verdict.found, hint=verdict.hint)
    return None


def refuse_wishes(draft: Draft, name: str, wishes: list[Waiter], why: Answer) -> None:
    """Answer these callers of the model with what was said of all."""
    for waiter in wishes:
        answered = {"problem": why.problem, "detail": why.detail, "wanted": why.wanted}
        draft.answer(name, waiter, AnswerKind.REFUSED, **answered, found=why.found, hint=why.hint)
