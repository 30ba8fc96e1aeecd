"""A rule of a model as an operator reads it: its conditions, whether it holds, what is missing, when it would act."""

from sleepd.core.conditions import timed
from sleepd.core.detector import Evaluated, evaluate
from sleepd.core.life import ASLEEP, State
from sleepd.core.limits import Limit, limit_of
from sleepd.core.model import Mode, Now
from sleepd.core.policy import STOP_LEVEL, acting, is_ram_pressure, protections, stop_refusal, wake_wanted, want_of
from sleepd.core.record import ModelRecord, is_pinned, is_wanted_awake
from sleepd.core.reports import ConditionReport, NextAction, RuleReport
from sleepd.core.rules import ActionKind, Rule, RuleClass
from sleepd.core.units import Seconds, format_duration
from sleepd.core.wording import report_condition
from sleepd.core.world import World

NO_SLEEP_HELPS = "no sleep gives host RAM back: it only makes sleeps that are due go to level 2 where that is proven"


def report_rules(world: World, record: ModelRecord, now: Now) -> tuple[RuleReport, ...]:
    """Every rule of the files for the model, those that are disabled too."""
    return tuple(_report(rule, world, record, now) for rule in world.settings.rules_of.get(record.spec.name, ()))


def _report(rule: Rule, world: World, record: ModelRecord, now: Now) -> RuleReport:
    found = _evaluate(rule, record, world, now)
    limit = limit_of(rule, record.spec.name, world, now) if found.holds else None
    conditions = [report_condition(rule, i, j, record, world, now) for i, j in enumerate(found.judged)]
    if found.ready_s is not None:
        since_s, left_s = found.ready_s - rule.for_s, max(0.0, found.ready_s - now.mono_s)
        held = format_duration(max(0.0, now.mono_s - since_s))
        conditions.append(ConditionReport("for", format_duration(rule.for_s), held, left_s <= 0, left_s))
    return RuleReport(
        rule=rule.name,
        action=str(rule.action),
        conditions=tuple(conditions),
        holds=found.holds and rule.enabled,
        due_in_s=_due_in_s(found, limit, now) if rule.enabled else None,
        kind=str(rule.kind),
        missing=_missing(found, limit, conditions, world, record, now),
    )


def _evaluate(rule: Rule, record: ModelRecord, world: World, now: Now) -> Evaluated:
    """What the rule says of the model now, with when that changes."""
    found = evaluate(rule, record, world, now)
    return found._replace(judged=timed(found.judged, rule, record, world, now))


def _due_in_s(found: Evaluated, limit: Limit | None, now: Now) -> Seconds | None:
    """Seconds until time alone would let the rule act; None where it would not, as far as can be told."""
    if limit is not None:
        return None if limit.until_s is None else max(0.0, limit.until_s - now.mono_s)
    if found.holds:
        return 0.0
    if found.ready_s is not None:
        due_s = found.ready_s
    else:
        waits = [j.changes_s for j in found.judged if not j.holds]
        if None in waits:
            return None
        due_s = max(w for w in waits if w is not None) + found.rule.for_s
    ends = (j.changes_s for j in found.judged if j.holds and j.changes_s is not None)
    return None if any(end <= due_s for end in ends) else max(0.0, due_s - now.mono_s)


def _missing(
    found: Evaluated,
    limit: Limit | None,
    conditions: list[ConditionReport],
    world: World,
    record: ModelRecord,
    now: Now,
) -> str:
    rule = found.rule
    if not rule.enabled:
        return "disabled"
    if not found.holds:
        return "; ".join(f"wants {c.wanted}, found {c.found}" for c in conditions if not c.holds)
    if limit is not None:
        return limit.why
    kind = rule.action.kind
    if kind is ActionKind.STOP and (refusal := stop_refusal(record)):
        return refusal
    if kind is ActionKind.KEEP_AWAKE:
        return "a reading is missing, so it counts as holding" if found.blind else ""
    against = _wake_missing(world, record, now) if kind is ActionKind.WAKE else _sleep_missing(rule, world, record, now)
    if not against and record.spec.mode is Mode.OBSERVE:
        return "observe mode: told, not done"
    return against


def _wake_missing(world: World, record: ModelRecord, now: Now) -> str:
    if record.life.state is State.AWAKE:
        return "it is awake"
    if record.life.state not in ASLEEP:
        return "it is not asleep"
    if wake_wanted(world, record, now) is None:
        return "another rule would put it to sleep again at once"
    return record.reason if record.wanted_by and record.reason.startswith("waits") else ""


def _sleep_missing(rule: Rule, world: World, record: ModelRecord, now: Now) -> str:
    stops = rule.action.kind is ActionKind.STOP
    if record.life.state in ASLEEP and not stops:
        return "it is asleep"
    if record.life.state in ASLEEP:
        return "somebody wants it" if is_wanted_awake(record) or record.holds or is_pinned(record) else ""
    if record.life.state is not State.AWAKE:
        return "it is not awake"
    protected = protections(record, now.mono_s)
    if protected:
        return protected[0]
    want, refusal = want_of(world, record, now)
    if want is None and not refusal and is_ram_pressure(rule):
        return NO_SLEEP_HELPS
    if want is None:
        return refusal or "another rule keeps it awake"
    if want.rule.name == rule.name:
        return ""
    if is_ram_pressure(rule):
        return NO_SLEEP_HELPS
    return f"rule {want.rule.name} wants it {'stopped' if want.level == STOP_LEVEL else f'at level {want.level}'}"


def next_by_rules(world: World, record: ModelRecord, now: Now) -> NextAction | None:
    """The first thing that rules would do with the model if nobody asked for anything; None where nothing."""
    asleep = record.life.state in ASLEEP
    wanted = ActionKind.WAKE if asleep else ActionKind.SLEEP
    kept_s = 0.0 if asleep else _kept_awake_s(world, record, now)
    due: list[tuple[Seconds, str, str]] = []
    for rule in world.settings.rules_of.get(record.spec.name, ()):
        if not rule.enabled or rule.action.kind is not wanted or is_ram_pressure(rule):
            continue
        found = _evaluate(rule, record, world, now)
        limit = limit_of(rule, record.spec.name, world, now) if found.holds else None
        in_s = _due_in_s(found, limit, now)
        if in_s is not None and rule.kind is RuleClass.IDLE:
            in_s = None if kept_s is None else max(in_s, kept_s)
        if in_s is not None:
            due.append((in_s, rule.name, str(rule.action)))
    if not due:
        return None
    in_s, name, action = min(due)
    since_s = 0.0 if asleep else record.awake_since_s + record.spec.min_awake_s
    return NextAction(name, action, max(in_s, max(since_s, record.not_before_s) - now.mono_s, 0.0))


def _kept_awake_s(world: World, record: ModelRecord, now: Now) -> Seconds | None:
    """Seconds until no rule keeps the model awake that does now; None where time alone does not end it."""
    left_s = 0.0
    for found in acting(record, world, now):
        if found.rule.action.kind is ActionKind.KEEP_AWAKE:
            judged = timed(found.judged, found.rule, record, world, now)
            ends = [j.changes_s for j in judged if j.holds and j.changes_s is not None]
            if not ends:
                return None
            left_s = max(left_s, min(ends) - now.mono_s)
    return left_s
