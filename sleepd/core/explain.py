"""From verdicts to what an operator understands: why a model is as it is, and what comes next."""

from sleepd.core.forecast import TURN, is_turn_told, next_turn, turn_reason, waiting_for
from sleepd.core.life import ASLEEP, LEVEL, State
from sleepd.core.memory import placement, unplaced
from sleepd.core.model import Known, Mode, Now
from sleepd.core.policy import (
    NO_ANSWER_YET,
    NOT_CHECKED,
    level1_refusal,
    level2_refusal,
    level_for,
    protections,
    wake_wanted,
    want_of,
)
from sleepd.core.record import ModelRecord, is_pinned
from sleepd.core.reports import Explanation, NextAction, RuleReport
from sleepd.core.rule_reports import next_by_rules, report_rules
from sleepd.core.units import format_duration
from sleepd.core.wording import describe
from sleepd.core.world import World, public_state


def explain(world: World, name: str, now: Now) -> Explanation:
    """Every rule for this model with what it wants and what was found, what protects it, and what comes next."""
    record = world.models[name]
    found = report_rules(world, record, now)
    protected = _protected(world, record, now)
    return Explanation(
        model=name,
        state=public_state(world, name),
        level=LEVEL[record.life.state],
        reason=reason(world, name, now),
        rules=found,
        protections=protected,
        verdict=_verdict(world, record, found, protected, now),
        next=next_action(world, name, now),
    )


def reason(world: World, name: str, now: Now) -> str:
    """One sentence: why the model is in its state."""
    record, task = world.models[name], world.tasks.get(name)
    failing = record.failing
    if failing and (failing is not record.failure or record.life.state in (State.FAILED, State.LOST, State.UNKNOWN)):
        return failing.detail
    if task is not None and task.victim is not None:
        how = f" ({task.chosen})" if task.chosen else ""
        return f"waits for {task.victim} to fall asleep{how}: {describe(task.cause)}"
    if told := turn_reason(world, record, now):
        return told
    return f"{record.reason}; {record.restart_wanted}" if record.restart_wanted else record.reason


def next_action(world: World, name: str, now: Now) -> NextAction | None:
    """What happens to the model if nobody asks for anything; None where nothing would, or nobody can tell when."""
    record = world.models[name]
    if not isinstance(record.seen, Known) or name in world.tasks:
        return None
    by_rules, by_turn = _next_by_rules(world, record, now), next_turn(world, record, now)
    if by_turn is None and is_turn_told(world, record):
        return None  # it comes first, and nobody can say when
    return min((n for n in (by_turn, by_rules) if n is not None), key=lambda n: n.in_s, default=None)


def _next_by_rules(world: World, record: ModelRecord, now: Now) -> NextAction | None:
    if record.life.state in ASLEEP:
        return next_by_rules(world, record, now)
    if record.life.state is not State.AWAKE or is_pinned(record) or record.holds:
        return None
    if record.spec.max_level == 0 or level1_refusal(record) or _unplaced(world, record):
        return None
    if level_for(world, record, 2)[0] == 0:
        return None
    return next_by_rules(world, record, now)


def _unplaced(world: World, record: ModelRecord) -> str:
    if not isinstance(world.gpus, Known) or placement(record.spec, record.placed_on, world.gpus.value):
        return ""
    return unplaced(record, world.gpus.value)


def _protected(world: World, record: ModelRecord, now: Now) -> tuple[str, ...]:
    found = list(protections(record, now.mono_s))
    if record.spec.max_level >= 2:
        refusal = level2_refusal(world, record)
        if refusal in (NO_ANSWER_YET, NOT_CHECKED):
            refusal += " (a checked cycle runs in its first idle moment)"
        if refusal:
            found.append(f"not at level 2: {refusal}")
    return tuple(found)


def _verdict(
    world: World, record: ModelRecord, found: tuple[RuleReport, ...], protected: tuple[str, ...], now: Now
) -> str:
    name, state = record.spec.name, record.life.state
    if state is not State.AWAKE:
        if state in ASLEEP and (wake := wake_wanted(world, record, now)) is not None:
            would = "would wake it" if record.spec.mode is Mode.OBSERVE else "wants it awake"
            return f"rule {wake.rule.name} {would}: {reason(world, name, now)}"
        doing, why = public_state(world, name).replace("_", " "), reason(world, name, now)
        return f"{name} is {why}" if why.startswith(doing) else f"{name} is {doing}: {why}"
    want, refusal = want_of(world, record, now)
    refusal = level1_refusal(record) or _unplaced(world, record) or refusal
    if refusal:
        return f"stays awake: {refusal}"
    if want is not None:
        held = [p for p in protected if not p.startswith("not at level 2")]
        held_by = f", but {held[0]}" if held else ""
        done = "would put" if record.spec.mode is Mode.OBSERVE else "wants"
        where = "to sleep" if record.spec.mode is Mode.OBSERVE else "asleep"
        return f"rule {want.rule.name} {done} it {where} at level {want.level}{held_by}"
    coming = next_action(world, name, now)
    if coming is not None and coming.rule == TURN:
        return f"its turn ends in {format_duration(coming.in_s)}: {waiting_for(world, name)} waits for its room"
    if coming is None and is_turn_told(world, record) and (others := waiting_for(world, name)):
        return f"its turn is over: {others} waits for its room"
    if coming is not None:
        return f"rule {coming.rule} would {coming.action} in {format_duration(coming.in_s)}"
    if not found:
        return "no rule applies to it"
    if not isinstance(record.seen, Known):
        return f"no rule can hold: {record.seen.reason}"
    return "no rule holds"
