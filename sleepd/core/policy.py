"""Rules: which hold, why, and what they want of a model. Pure; every verdict carries its evidence.

Missing readings give no opinion: a condition on one does not hold, and its `for` starts anew.
"""

from dataclasses import dataclass, replace

from sleepd.core.dialect import capabilities
from sleepd.core.host_room import backup_refusal
from sleepd.core.known_answer import NEVER_TAKEN, UPDATED, has_other_weights, may_take_answer
from sleepd.core.life import State
from sleepd.core.model import HostSeen, Known, Reading
from sleepd.core.reports import ConditionReport, RuleReport
from sleepd.core.rules import ActionKind, Condition, HostAvailableBelow, IdleFor, Rule
from sleepd.core.units import MonotonicS, Seconds, format_duration, format_size
from sleepd.core.world import DetectorMemory, ModelRecord, World, is_pinned, proof_key

NO_ANSWER_YET = "no known answer was taken yet"
NOT_CHECKED = "its level 2 cycle was not checked yet"


@dataclass(frozen=True, slots=True)
class Want:
    """What the rules want of an awake model: sleep at `level`, because of `rule`."""

    model: str
    level: int
    rule: str
    evidence: tuple[RuleReport, ...]


def is_busy(record: ModelRecord) -> bool:
    """Whether somebody uses the model right now, as far as it was seen."""
    if record.in_flight > 0:
        return True
    if record.life.state is not State.AWAKE or not isinstance(record.seen, Known):
        return False
    return bool(record.seen.value.running) or bool(record.seen.value.waiting)


def idle_s(record: ModelRecord, now_s: MonotonicS) -> Seconds:
    """Seconds since the model was last used, held, woken or became ready; it goes on counting while asleep."""
    return 0.0 if is_busy(record) or record.holds else max(0.0, now_s - record.last_active_s)


def watch_host(rules: tuple[Rule, ...], host: Reading[HostSeen], memory: DetectorMemory) -> DetectorMemory:
    """Remember which host thresholds are crossed: entered below one bound, left above the other."""
    below = set(memory.below)
    for rule in rules:
        for condition in rule.conditions:
            if not isinstance(condition, HostAvailableBelow):
                continue
            if not isinstance(host, Known):
                below.discard(rule.name)
                continue
            total, available = host.value.total_bytes, host.value.available_bytes
            if available < condition.enter.of(total):
                below.add(rule.name)
            elif available > condition.leave.of(total):
                below.discard(rule.name)
    return memory if below == memory.below else replace(memory, below=frozenset(below))


def report_rule(
    rule: Rule, record: ModelRecord, host: Reading[HostSeen], memory: DetectorMemory, now_s: MonotonicS
) -> RuleReport:
    """Say for one rule and model which conditions hold, and when time alone would make the rule hold."""
    conditions = tuple(_report(c, rule, record, host, memory, now_s) for c in rule.conditions)
    all_hold = all(c.holds for c in conditions)
    action = str(rule.action)
    if not all_hold:
        waits = [c.in_s for c in conditions if not c.holds]
        due = max((w for w in waits if w is not None), default=None) if None not in waits else None
        return RuleReport(rule.name, action, conditions, False, None if due is None else due + rule.for_s)
    since_s = memory.held_since_s.get((rule.name, record.spec.name), now_s)
    left_s = max(0.0, since_s + rule.for_s - now_s)
    if rule.for_s > 0:
        found = format_duration(now_s - since_s)
        conditions += (ConditionReport("for", format_duration(rule.for_s), found, left_s <= 0, left_s),)
    return RuleReport(rule.name, action, conditions, left_s <= 0, left_s)


def _report(
    condition: Condition,
    rule: Rule,
    record: ModelRecord,
    host: Reading[HostSeen],
    memory: DetectorMemory,
    now_s: MonotonicS,
) -> ConditionReport:
    if isinstance(condition, IdleFor):
        return _report_idle(condition, record, now_s)
    if isinstance(condition, HostAvailableBelow):
        return _report_host(condition, rule, host, memory)
    return ConditionReport(type(condition).__name__, "", "not evaluated by this version", None)


def _concerns(rule: Rule, record: ModelRecord) -> bool:
    return rule.enabled and rule.action.kind is ActionKind.SLEEP and record.spec.name in rule.applies_to


def _report_idle(condition: IdleFor, record: ModelRecord, now_s: MonotonicS) -> ConditionReport:
    wanted = f"idle {format_duration(condition.seconds)}"
    if not isinstance(record.seen, Known):
        return ConditionReport("idle", wanted, f"not known: {record.seen.reason}", None)
    if is_busy(record) or record.holds:
        return ConditionReport("idle", wanted, "in use" if is_busy(record) else "held", False)
    # The deadline is this very sum: a difference of the same floats may fall short of it by an ulp.
    due_s = record.last_active_s + condition.seconds
    found = f"idle {format_duration(idle_s(record, now_s))}"
    return ConditionReport("idle", wanted, found, now_s >= due_s, max(0.0, due_s - now_s))


def _report_host(
    condition: HostAvailableBelow, rule: Rule, host: Reading[HostSeen], memory: DetectorMemory
) -> ConditionReport:
    if not isinstance(host, Known):
        return ConditionReport("host_available_below", "less host RAM available", f"not known: {host.reason}", None)
    seen, holds = host.value, rule.name in memory.below
    bound = condition.leave if holds else condition.enter
    wanted = f"less than {format_size(bound.of(seen.total_bytes))} of host RAM available"
    return ConditionReport("host_available_below", wanted, format_size(seen.available_bytes), holds)


def remember_rules(world: World, record: ModelRecord, now_s: MonotonicS) -> DetectorMemory:
    """Note since when each rule's conditions hold for this model: what `for` counts from."""
    memory, changed = world.memory, False
    held = memory.held_since_s
    for rule in world.settings.rules:
        if rule.for_s <= 0 or not _concerns(rule, record):
            continue
        key = (rule.name, record.spec.name)
        holds = all(c.holds for c in report_rule(rule, record, world.host, memory, now_s).conditions if c.name != "for")
        if holds != (key in held):
            held = {**held, key: now_s} if holds else {k: v for k, v in held.items() if k != key}
            changed = True
    return replace(memory, held_since_s=held) if changed else memory


def reports(world: World, record: ModelRecord, now_s: MonotonicS) -> tuple[RuleReport, ...]:
    return tuple(
        report_rule(rule, record, world.host, world.memory, now_s)
        for rule in world.settings.rules
        if _concerns(rule, record)
    )


def protections(record: ModelRecord, now_s: MonotonicS) -> tuple[str, ...]:
    """What keeps rules and neighbours from putting the model to sleep now, as sentences, strongest first."""
    found = []
    if is_busy(record):
        found.append("it is in use")
    if is_pinned(record):
        found.append("it is pinned")
    if record.holds:
        found.append(held_by(record))
    left_s = record.awake_since_s + record.spec.min_awake_s - now_s
    if left_s > 0 and record.life.state is State.AWAKE:
        found.append(f"it woke recently: min_awake leaves {format_duration(left_s)}")
    if record.waiters or record.owed_wake:
        found.append("somebody waits for it")
    rest_s = max(record.not_before_s, record.cooldown_until_s) - now_s
    if rest_s > 0:
        found.append(f"the last attempt did not work: next in {format_duration(rest_s)}")
    if unsafe := level1_refusal(record):
        found.append(unsafe)
    return tuple(found)


def held_by(record: ModelRecord) -> str:
    """Who holds the model awake, as a sentence: the first of them, and how many more."""
    first, more = record.holds[0], len(record.holds) - 1
    others = f" and {more} more" if more else ""
    return f"it is held awake by {first.who}{others} (hold {first.id})"


def level1_refusal(record: ModelRecord) -> str:
    """Why this engine may not be put to sleep at all, whoever asks; empty where it may."""
    if record.frees_nothing:
        return "sleeping frees nothing on this server: start it with --enable-sleep-mode"
    return capabilities(record.facts, fenced=record.spec.fenced).level1_unsafe if record.facts else ""


def level2_refusal(world: World, record: ModelRecord) -> str:
    """Why level 2 may not be chosen for this model now, as a sentence; empty where it may."""
    if record.facts is None:
        return "the server was not looked at yet"
    unsafe = capabilities(record.facts, fenced=record.spec.fenced).level2_unsafe
    if unsafe:
        return unsafe
    if has_other_weights(record):
        return UPDATED
    if record.check_failed:
        return f"its level 2 check failed: {record.check_failed}"
    if record.fingerprint is None:
        return NO_ANSWER_YET if may_take_answer(record) else record.not_provable or NEVER_TAKEN
    if proof_key(record.facts) not in world.proven:
        return NOT_CHECKED
    return ""


def level_for(world: World, record: ModelRecord, wanted: int) -> tuple[int, str]:
    """The level that is safe and fits for a wanted one: (level, ""), or (0, why it must stay awake)."""
    spec = record.spec
    if spec.max_level == 0:
        return 0, "max_level = 0 keeps it awake"
    if wanted >= 2 and spec.max_level >= 2 and not level2_refusal(world, record):
        return 2, ""
    refusal = backup_refusal(world, record)
    return (0, refusal) if refusal else (1, "")


def want_of(world: World, record: ModelRecord, now_s: MonotonicS) -> tuple[Want | None, str]:
    """What the rules want of this awake model: (want, "") or (None, why they want or may do nothing).

    Idle rules decide whether, the deepest wins; a pressure rule that holds only deepens (host RAM comes back from
    no sleep: contract, "Host-RAM pressure"), never below what is allowed and safe.
    """
    found = reports(world, record, now_s)
    pressure = {r.name for r in world.settings.rules if r.is_pressure}
    idle = [r for r in found if r.holds and r.rule not in pressure]
    if not idle:
        return None, ""
    deepening = [r for r in found if r.holds and r.rule in pressure]
    deepest = max([*idle, *deepening], key=lambda r: (r.action, r.rule in pressure))
    level, refusal = level_for(world, record, int(deepest.action.removeprefix("sleep ")))
    if level == 0:
        return None, refusal
    named = deepest if level == 2 else idle[0]
    return Want(record.spec.name, level, named.rule, found), ""
