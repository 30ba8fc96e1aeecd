"""Callers that wait for a model and are told that nothing comes of it."""

from sleepd.core.commands import AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.record import AskKind


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
