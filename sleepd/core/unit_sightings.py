"""What a look at a model's unit means: why its server does not answer, and whether anybody brings it back."""

from sleepd.core.commands import AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.events import UnitLooked
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, State
from sleepd.core.model import Known, Missing, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.restarts import is_spent, owe_restart, unit_refusal
from sleepd.core.sightings import START_HINT
from sleepd.core.unit import UnitSeen
from sleepd.core.unit_tasks import await_start, stopped_on_purpose
from sleepd.core.units import Seconds

QUIET_S: Seconds = 30.0
"""How often the unit of a server that answers is looked at: only which start of it serves is wanted then."""
_RESULTS = {"oom-kill": "oom-kill: the kernel's OOM killer ended a process of it, see sleepctl doctor"}
"""Words for results that name a cause and what to look at (systemd.service(5), SERVICE_RESULT)."""
_ANSWERS = (State.AWAKE, State.ASLEEP_L1, State.ASLEEP_L2)


def unit_after_s(record: ModelRecord, settings: Settings) -> Seconds:
    """Seconds until the next look at the model's unit."""
    troubled = record.failed_polls > 0 or record.life.state in (State.LOST, State.STOPPED, State.FAILED, State.UNKNOWN)
    if isinstance(record.unit, Known):
        # One that serves while it is stopped or started: whose job that is changes at any moment, and must be seen.
        troubled = troubled or record.unit.value.active != "active" or bool(record.unit.value.job)
    return settings.poll_every_s if troubled else max(settings.poll_every_s, QUIET_S)


def look_at_unit(draft: Draft, event: UnitLooked) -> None:
    """Take in one look at a model's unit."""
    name, reading = event.model, event.reading
    record = draft.models.get(name)
    if record is None or not record.spec.unit:
        return
    was = record.unit
    if isinstance(reading, Missing):
        if not isinstance(was, Missing) or (was.reason, was.detail) != (reading.reason, reading.detail):
            told = f"{record.spec.unit} cannot be read, so {name} is not started, stopped or restarted"
            draft.note("unit_missing", name, f"{told}: {reading.reason}: {reading.detail}".rstrip(": "))
            draft.change(name, unit=reading)
        if record.life.state is State.LOST and name not in draft.tasks:
            _nobody_comes(draft, name, "")
        return
    if isinstance(was, Known) and reading.asked_at_s < was.asked_at_s:
        return
    if not isinstance(was, Known) and was.since_s:
        draft.note("unit_found", name, f"{record.spec.unit} can be read again")
    record = draft.change(name, unit=reading)
    refusal = unit_refusal(record)
    if refusal and (not isinstance(was, Known) or unit_refusal(replace(record, unit=was)) != refusal):
        draft.note("unit_unusable", name, refusal)
    if name not in draft.tasks and reading.asked_at_s >= record.settled_s:
        _judge(draft, name, reading)


def _judge(draft: Draft, name: str, reading: Known[UnitSeen]) -> None:
    record, unit = draft.models[name], reading.value
    state = record.life.state
    # A start that waits for the end of a stop, and never comes, was taken back by another stop.
    told = unit.job == "stop" or (unit.active == "deactivating" and unit.is_coming)
    if told and record.told_to_stop != unit.invocation:
        draft.change(name, told_to_stop=unit.invocation)
    if state in _ANSWERS and record.failed_polls == 0 and unit.active == "active":
        if isinstance(record.seen, Known) and record.served_as != unit.invocation:
            draft.change(name, served_as=unit.invocation)
    elif state is State.STOPPED:
        _judge_stopped(draft, name, unit)
    elif state is State.LOST and reading.asked_at_s >= record.since_s:
        _judge_lost(draft, name, unit)


def _judge_stopped(draft: Draft, name: str, unit: UnitSeen) -> None:
    record = draft.models[name]
    if (unit.is_coming and not unit.rests) or unit.active == "active":
        await_start(draft, name)
    elif record.stopped is not None and unit.invocation not in ("", record.stopped.invocation):
        # It ran since we stopped it: whoever started it stopped it again.
        draft.note("stopped_by_others", name, f"{record.spec.unit} ran and was stopped again, and not by us")
        draft.change(name, stopped=None, reason=f"{record.spec.unit} was stopped on purpose")


def _judge_lost(draft: Draft, name: str, unit: UnitSeen) -> None:
    """Nothing answers: what was stopped on purpose is left alone, what comes is waited for, the rest is restarted."""
    record = draft.models[name]
    ended_on_purpose = unit.has_failed and unit.invocation == record.told_to_stop
    if unit.is_stopped_on_purpose or ended_on_purpose:
        # A stop that takes until SIGKILL ends as a failure.
        stopped_on_purpose(draft, name)
    elif unit.rests:
        return  # its GPUs are others' until it starts
    elif unit.is_coming or (unit.active == "active" and (not record.served_as or unit.invocation != record.served_as)):
        await_start(draft, name)
    elif unit.active == "active":
        _restart(draft, name, f"{record.spec.unit} runs, but nothing answers at {record.spec.url}")
    elif unit.has_failed:
        _restart(draft, name, f"{record.spec.unit} failed ({_RESULTS.get(unit.result, unit.result)})")
    elif unit.load != "loaded":
        _nobody_comes(draft, name, unit_refusal(record))


def _restart(draft: Draft, name: str, why: str) -> None:
    record = draft.models[name]
    if record.restart_due:
        return
    if record.failure is None or record.failure.detail != why:
        draft.fail(name, "lost", why)
    if not owe_restart(draft, name, why):
        if draft.settings.restart_units and is_spent(draft.settings, record, draft.now):
            draft.state(name, Fact.GAVE_UP)
            draft.fail(name, "restarts_spent", f"{why}; its restarts are used up: sleepctl reset {name}, or start it")
        _nobody_comes(draft, name, why)


def _nobody_comes(draft: Draft, name: str, why: str) -> None:
    """Nobody brings it back by itself: who waits for it is told."""
    record = draft.models[name]
    detail = why or (record.failure.detail if record.failure else "nothing answers")
    for waiter in record.waiters:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=START_HINT)
