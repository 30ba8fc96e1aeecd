"""Whether a model's unit may be restarted by us, and how often: the budget of the configuration, counted over restarts
of the daemon."""

from sleepd.core.budget import is_given_up
from sleepd.core.draft import Draft
from sleepd.core.life import State
from sleepd.core.model import Known, Missing, MissingReason, Mode, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.units import HOUR_S, MonotonicS


def unit_refusal(record: ModelRecord) -> str:
    """Why the model's unit cannot be controlled, as a sentence; empty where it can, as far as is known."""
    name, unit = record.spec.name, record.unit
    if not record.spec.unit:
        return f"{name} has no unit: set unit in [models.{name}]"
    if isinstance(unit, Missing):
        return f"{record.spec.unit} cannot be read: {unit.reason}: {unit.detail}".rstrip(": ")
    if unit.value.is_masked:
        return f"{record.spec.unit} is masked: systemctl unmask {record.spec.unit}"
    if unit.value.load != "loaded":
        return f"wanted the unit {record.spec.unit}, found: {unit.value.load}; check unit in [models.{name}]"
    return ""


def restart_refusal(settings: Settings, record: ModelRecord, now: Now) -> str:
    """Why we do not restart the model's unit by ourselves, as a sentence; empty where we do."""
    if refusal := unit_refusal(record):
        return refusal
    if not settings.restart_units:
        return "[recovery] restart_units = false"
    if record.spec.mode is Mode.OBSERVE:
        return "it is only observed"
    if isinstance(record.unit, Known) and record.unit.value.is_stopped_on_purpose:
        return f"{record.spec.unit} was stopped on purpose"
    if record.restarts_spent:
        return "its restarts are used up"
    if is_given_up(record):
        return f"{record.attempts} attempts in a row failed"
    if is_spent(settings, record, now):
        return f"it was restarted {settings.max_restarts} times within an hour ([recovery] max_restarts)"
    return ""


def is_spent(settings: Settings, record: ModelRecord, now: Now) -> bool:
    """Whether the hour's restarts are used up."""
    return len(recent(record.restarts_s, now)) >= settings.max_restarts


def recent(restarts_s: tuple[MonotonicS, ...], now: Now) -> tuple[MonotonicS, ...]:
    """The restarts of the last hour."""
    return tuple(at_s for at_s in restarts_s if now.mono_s - at_s < HOUR_S)


def owe_restart(draft: Draft, name: str, why: str) -> bool:
    """Let the model's unit be restarted as soon as its GPUs are free. Return whether it will be; where not, why is told
    with the failure, and nothing is tried again by itself."""
    record = draft.models[name]
    if record.restart_due:
        return True
    if not record.spec.unit or isinstance(record.unit, Missing):
        return False
    refusal = restart_refusal(draft.settings, record, draft.now)
    if refusal:
        _tell_left(draft, name, refusal)
        return False
    draft.change(name, restart_due=why)
    draft.note("restart_due", name, f"{record.spec.unit} is restarted: {why}")
    return True


def _tell_left(draft: Draft, name: str, refusal: str) -> None:
    """Say once why a model that only a restart helps is not restarted."""
    record = draft.models[name]
    if record.restarts_spent:
        return
    draft.change(name, restarts_spent=True)
    told = f"{name} is not restarted by sleepd: {refusal}; restart {record.spec.unit} by hand, or sleepctl reset {name}"
    draft.note("restart_left", name, told)


def owe_restarts(draft: Draft) -> None:
    """Models that failed and have a unit are restarted, whatever brought them there."""
    for name in sorted(draft.touched):
        record = draft.models.get(name)
        if record is None or record.life.state is not State.FAILED or name in draft.tasks or draft.stopping:
            continue
        if record.spec.unit and not record.restart_due and not record.restarts_spent:
            owe_restart(draft, name, record.failure.detail if record.failure else "it failed")


def count_restart(draft: Draft, name: str) -> None:
    """A restart is begun: it counts against the hour, whether it succeeds or not."""
    record = draft.models[name]
    draft.change(name, restarts_s=(*recent(record.restarts_s, draft.now), draft.mono_s))


def clear_restarts(draft: Draft, name: str) -> None:
    """A person takes the model back: what was tried before counts no longer."""
    draft.change(name, restarts_s=(), restarts_spent=False, restart_due="")


def is_unit_unread(record: ModelRecord) -> bool:
    """Whether its unit was not looked at yet by this daemon. A look that fails is one: nothing stays unread for longer
    than the service manager may take to answer."""
    unit = record.unit
    return bool(record.spec.unit) and isinstance(unit, Missing) and unit.reason is MissingReason.NOT_YET


def is_unit_overdue(record: ModelRecord) -> bool:
    """Whether the server was lost since its unit was looked at: it may be starting, and take memory at any moment."""
    unit, lost = record.unit, record.life.state is State.LOST
    return lost and bool(record.spec.unit) and isinstance(unit, Known) and unit.asked_at_s < record.since_s


def may_come_back(record: ModelRecord) -> bool:
    """Whether a model that does not answer may do so without anybody's help: its unit is being restarted, or what
    becomes of its unit is not known yet."""
    if record.restart_due or record.start_wanted is not None or (is_unit_unread(record) and not record.restarts_spent):
        return True
    unit = record.unit
    if record.life.state is not State.LOST or not record.spec.unit or isinstance(unit, Missing):
        return False
    # Asked before it was lost, or on its way to somewhere that nobody asked for: the next look tells.
    return unit.asked_at_s < record.since_s or unit.value.active == "deactivating" or unit.value.rests
