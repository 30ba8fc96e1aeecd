"""What rules bring about in this turn: wishes to wake, sleeps, level 2 checks, and what is told instead of done."""

from sleepd.core.commands import LookNow
from sleepd.core.conditions import idle_s, is_idle_for
from sleepd.core.detector import count_looks, remember, watch_thresholds
from sleepd.core.draft import Draft
from sleepd.core.host_room import backup_refusal, limits_unread
from sleepd.core.life import ASLEEP, State
from sleepd.core.limits import limit_of
from sleepd.core.model import Cause, CauseKind, Known, Mode
from sleepd.core.orders import uuids_of
from sleepd.core.policy import (
    NO_ANSWER_YET,
    NOT_CHECKED,
    STOP_LEVEL,
    Want,
    is_ram_pressure,
    level2_refusal,
    protecting,
    stop_refusal,
    wake_wanted,
    want_of,
)
from sleepd.core.record import ModelRecord
from sleepd.core.relief import may_be_stopped, tell_helpless
from sleepd.core.room import claimed, wakes_waiting
from sleepd.core.rules import ActionKind, HostAvailableBelow, HostPressureAbove
from sleepd.core.saying import evidence, rules_said, say, tell_act
from sleepd.core.sharing import barred_from_s
from sleepd.core.strangers import let_go
from sleepd.core.task import HOST_LOCK
from sleepd.core.tasks import begin_proof, begin_sleep, begin_verification
from sleepd.core.unit_tasks import begin_stop
from sleepd.core.visits import note_requests
from sleepd.core.world import World

VERIFY_AFTER_S = 0.05
"""How long after its gate opened a model is asked for the known answer: who waited for it comes first."""


def take_note(draft: Draft, before: World, *, anew: bool) -> None:
    """Let the rules remember what this turn's events showed, and tell of host RAM that ran short.

    `anew`: thresholds are compared with readings that are no news too.
    """
    note_requests(draft, before)
    news = draft.host is not before.host or draft.gpus is not before.gpus
    names = [n for n in (draft.models if news else draft.touched) if n in draft.models]
    draft.memory = watch_thresholds(draft.world(), names, None if anew else before)
    if draft.memory is not before.memory:
        draft.touched.update(draft.models)
        _tell_pressure(draft, before)
    draft.memory = count_looks(before, draft.world(), sorted(draft.touched & draft.models.keys()), draft.now)
    remember_rules(draft, sorted(draft.touched))


def remember_rules(draft: Draft, names: list[str]) -> None:
    """Bring what the rules remember of these models up to date."""
    for name in names:
        if name in draft.models:
            record = draft.models[name]
            draft.memory = remember(record, draft.world(), draft.now, rules_said(draft, record))


def _tell_pressure(draft: Draft, before: World) -> None:
    was = {key[0] for key in before.memory.crossed}
    now = {key[0] for key in draft.memory.crossed}
    for rule in draft.settings.rules:
        if (rule.name in was) == (rule.name in now) or not is_ram_pressure(rule):
            continue
        short = rule.name in now
        on_host = any(isinstance(c, HostAvailableBelow | HostPressureAbove) for c in rule.conditions)
        what = "host RAM is" if on_host else "the RAM of a unit is"
        text = f"rule {rule.name}: {what} {'short' if short else 'enough again'}"
        draft.note("pressure" if short else "pressure_over", "", text)
        was ^= {rule.name}  # a rule that some models have under other conditions is told once


def wish_wakes(draft: Draft) -> None:
    """Let rules want sleepers awake, or no longer."""
    for name in sorted(draft.touched):
        record = draft.models.get(name)
        sleeps = record is not None and (record.life.state in ASLEEP or _was_stopped_by_us(record))
        if record is None or (not sleeps and not record.wanted_by):
            continue
        want = None
        if sleeps and record.not_before_s <= draft.mono_s and not draft.stopping:
            want = wake_wanted(draft.world(), record, draft.now, rules_said(draft, record))
        if want is not None and record.spec.mode is Mode.OBSERVE:
            _tell_would(draft, want, "wake")
            want = None
        wanted_by = want.rule.name if want is not None else ""
        if wanted_by != record.wanted_by:
            draft.change(name, wanted_by=wanted_by)


def _was_stopped_by_us(record: ModelRecord) -> bool:
    return record.life.state is State.STOPPED and record.stopped is not None


def begin_sleeps(draft: Draft) -> None:
    """Begin what rules want of models with news, and the level 2 checks that are due."""
    if draft.stopping:
        return
    wants = []
    barred = _barred(draft)
    for name in sorted(draft.touched):
        record = draft.models.get(name)
        if record is None or name in draft.tasks:
            continue
        let_go(draft, name)
        record = draft.models[name]
        if record.life.state is State.PROVING:
            _prove(draft, name)
        if _verification_due(draft, record):
            begin_verification(draft, name)
            continue
        if draft.leaving:
            continue
        _tell_limits(draft, record)
        if record.life.state is State.AWAKE and _is_free(draft, record, barred):
            wants += _want_sleep(draft, record)
        elif record.life.state in ASLEEP and may_be_stopped(draft, record):
            wants += _want_stop(draft, record)
    for want in sorted(wants, key=lambda w: _order(draft, w)):
        record = draft.models[want.model]
        if want.level == 1 and limits_unread(draft.models, record):
            draft.command(LookNow(model=want.model))
        elif want.model not in draft.tasks and not _claimed(draft, record):
            _begin(draft, want)


def _order(draft: Draft, want: Want) -> tuple[int, int, float, str]:
    """Pressure before idleness; then what matters least and was idle longest."""
    record = draft.models[want.model]
    return (want.rank, record.spec.priority, -idle_s(record, draft.mono_s), want.model)


def _want_sleep(draft: Draft, record: ModelRecord) -> list[Want]:
    """What rules want begun with this awake model, if anything; a check that is due is begun at once."""
    name = record.spec.name
    observed = record.spec.mode is Mode.OBSERVE
    if not observed and _check_due(draft, record):
        begin_sleep(draft, name, 2, Cause(CauseKind.CHECK, "level 2"))
        return []
    if not observed and _prime_due(draft, record) and not limits_unread(draft.models, record):
        begin_sleep(draft, name, 1, Cause(CauseKind.PRIME, "prime"))
        return []
    want, refusal = want_of(draft.world(), record, draft.now, rules_said(draft, record))
    if want is not None and observed:
        what = f"stop {name}" if want.level == STOP_LEVEL else f"put {name} to sleep at level {want.level}"
        _tell_would(draft, want, what)
        return []
    if refusal:
        _tell_once(draft, name, f"stays awake: {refusal}")
    return [want] if want is not None else []


def _want_stop(draft: Draft, record: ModelRecord) -> list[Want]:
    """What rules want begun with this sleeper: to be stopped, or nothing."""
    name = record.spec.name
    want, _ = want_of(draft.world(), record, draft.now, rules_said(draft, record))
    if want is None or want.level != STOP_LEVEL:
        return []
    if record.spec.mode is Mode.OBSERVE:
        _tell_would(draft, want, f"stop {name}")
        return []
    return [want]


def _begin(draft: Draft, want: Want) -> None:
    name, record, cause = want.model, draft.models[want.model], Cause(CauseKind.RULE, want.rule.name)
    if want.level == STOP_LEVEL:
        tell_act(draft, want.rule, record, "stop", f"stops {name}")
        begin_stop(draft, name, cause)
        return
    tell_act(draft, want.rule, record, f"sleep {want.level}", f"puts {name} to sleep at level {want.level}")
    begin_sleep(draft, name, want.level, cause)


# --- what is told instead of done --------------------------------------------------------------------------------


def _tell_would(draft: Draft, want: Want, what: str) -> None:
    found = evidence(draft, want.rule, draft.models[want.model])
    say(draft, "would", want.rule.name, want.model, f"rule {want.rule.name} would {what} (observe mode)", found)


def _tell_limits(draft: Draft, record: ModelRecord) -> None:
    """Tell of rules that hold but go in circles, want what cannot be done, or find nothing that helps."""
    name, world = record.spec.name, draft.world()
    for found in rules_said(draft, record):
        rule = found.rule
        if not found.holds:
            continue
        limit = limit_of(rule, name, world, draft.now)
        if limit is not None and limit.is_alarm:
            say(draft, "alarm", rule.name, name, f"rule {rule.name} goes in circles with {name}: {limit.why}")
        if rule.action.kind is ActionKind.STOP and limit is None and (refusal := stop_refusal(record)):
            say(draft, "stop_wanted", rule.name, name, f"rule {rule.name} wants {name} stopped: {refusal}")
        if is_ram_pressure(rule) and rule.action.kind in (ActionKind.SLEEP, ActionKind.STOP):
            tell_helpless(draft, rule, name)


def _tell_once(draft: Draft, name: str, reason: str) -> None:
    if draft.models[name].reason != reason:
        draft.change(name, reason=reason)
        draft.note("kept_awake", name, f"{name} {reason}")


# --- what may be begun -------------------------------------------------------------------------------------------


def _prove(draft: Draft, name: str) -> None:
    record = draft.models[name]
    if not isinstance(record.seen, Known) or record.not_before_s > draft.mono_s:
        return
    in_use = bool(record.seen.value.running) or bool(record.seen.value.waiting)
    if uuids_of(draft, record) and not in_use and not _claimed(draft, record):
        begin_proof(draft, name)


def _verification_due(draft: Draft, record: ModelRecord) -> bool:
    """Whether to ask a model that serves since a wake: not in the wake's own turn, which owes its caller an answer."""
    if not record.unverified or record.life.state is not State.AWAKE or record.fingerprint is None:
        return False
    return isinstance(record.seen, Known) and draft.mono_s >= record.awake_since_s + VERIFY_AFTER_S


def _claimed(draft: Draft, record: ModelRecord) -> bool:
    return bool((set(uuids_of(draft, record)) | {HOST_LOCK}) & claimed(draft))


def _barred(draft: Draft) -> frozenset[str]:
    """GPUs that somebody has waited for so long that nobody else is begun with on them."""
    return frozenset(u for r in wakes_waiting(draft) for u in uuids_of(draft, r) if barred_from_s(r) <= draft.mono_s)


def _is_free(draft: Draft, record: ModelRecord, barred: frozenset[str]) -> bool:
    """Whether rules may put this awake model to sleep in this turn: known, unprotected, its GPUs unclaimed."""
    if not isinstance(record.seen, Known) or not isinstance(draft.gpus, Known) or not isinstance(draft.host, Known):
        return False
    if any(True for _ in protecting(record, draft.mono_s)):
        return False
    uuids = uuids_of(draft, record)
    return bool(uuids) and not _claimed(draft, record) and barred.isdisjoint(uuids)


def _prime_due(draft: Draft, record: ModelRecord) -> bool:
    """A model with `prime` sleeps once in its first idle moment, and is woken again: its backup is pinned then, which
    is what makes a first sleep slow. Not where the backup would not fit; that may change."""
    if not record.spec.prime or record.prime_failed or record.footprint.host_pinned or record.spec.max_level == 0:
        return False
    if not is_idle_for(record, record.spec.min_awake_s, draft.mono_s):
        return False
    return not backup_refusal(draft.world(), record)


def _check_due(draft: Draft, record: ModelRecord) -> bool:
    """A model allowed at level 2 is checked in its first idle moment, once per release and arguments."""
    if record.spec.max_level < 2 or record.checking or record.check_failed or record.facts is None:
        return False
    if not is_idle_for(record, record.spec.min_awake_s, draft.mono_s):
        return False
    refusal = level2_refusal(draft.world(), record)
    return refusal in (NO_ANSWER_YET, NOT_CHECKED)
