"""What rules remember: thresholds crossed, since when they hold, requests in their windows, wishes that came true."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sleepd.core.conditions import WINDOW_BUCKETS, Judged, Measured, bucket_of, judge_all, measure
from sleepd.core.foresight import Foresight, foresee
from sleepd.core.frozen import replace
from sleepd.core.life import ASLEEP, LEVEL, State
from sleepd.core.limits import cron_moment
from sleepd.core.model import Known, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.rules import (
    ActionKind,
    HostAvailableBelow,
    HostPressureAbove,
    MemoryCondition,
    RequestsBelow,
    Rule,
    UnitMemoryAbove,
)
from sleepd.core.units import MonotonicS
from sleepd.core.world import DetectorMemory, RuleKey, Window, World

OF_HOST = (HostAvailableBelow, HostPressureAbove)
"""Thresholds that read the host, whatever the model."""


class Evaluated(NamedTuple):
    """One rule for one model. `holds`: all conditions hold and did for long enough; `blind`: a reading is missing.

    A `keep_awake` rule holds where nothing but a reading is missing.
    """

    rule: Rule
    judged: tuple[Judged, ...]
    all_hold: bool
    blind: bool
    holds: bool
    ready_s: MonotonicS | None = None
    """When `for` will have passed, where all conditions hold."""


def evaluate(rule: Rule, record: ModelRecord, world: World, now: Now, foreseen: Foresight | None = None) -> Evaluated:
    """Say whether the rule holds for the model now. `foreseen`: see `judge_all`."""
    judged = judge_all(rule, record, world, now, foreseen)
    opinions = [j.holds for j in judged]
    refuted = False in opinions
    blind = not refuted and None in opinions
    all_hold = not refuted and not blind
    if blind and rule.action.kind is ActionKind.KEEP_AWAKE:
        return Evaluated(rule, judged, all_hold, blind, True)
    if not all_hold or rule.for_s <= 0:
        return Evaluated(rule, judged, all_hold, blind, all_hold)
    ready_s = world.memory.held_since_s.get((rule.name, record.spec.name), now.mono_s) + rule.for_s
    return Evaluated(rule, judged, all_hold, blind, now.mono_s >= ready_s, ready_s)


def evaluate_all(record: ModelRecord, world: World, now: Now) -> tuple[Evaluated, ...]:
    """Every enabled rule for the model, in the order of the files.

    What `remember` notes of it in the same moment does not change it.
    """
    name, settings = record.spec.name, world.settings
    foreseen = foresee(record, world, now) if name in settings.foreseeing else None
    return tuple([evaluate(r, record, world, now, foreseen) for r in settings.rules_of.get(name, ()) if r.enabled])


def watch_thresholds(world: World, names: Iterable[str], before: World | None = None) -> DetectorMemory:
    """Note which memory thresholds of these models are crossed: entered beyond one bound, left beyond the other.

    A threshold whose reading is missing is forgotten: it must be entered anew. Where the settings are those of
    `before`, what reads the same as there is passed over: the same reading never changes what it said before.
    """
    crossed: set[tuple[str, str, int]] | None = None
    anew = before is None or world.settings is not before.settings
    of_host: dict[int, Measured | None] = {}
    for name in names:
        record = world.models[name]
        for rule in world.settings.rules_of.get(name, ()):
            if not rule.enabled:
                continue
            for index, condition in rule.thresholds:
                if not anew and before is not None and _reads_same(condition, name, before, world):
                    continue
                key = (rule.name, name, index)
                was = key in world.memory.crossed
                if isinstance(condition, OF_HOST):
                    # The same for every model: measured once.
                    if id(condition) not in of_host:
                        of_host[id(condition)] = measure(condition, record, world)
                    found = of_host[id(condition)]
                else:
                    found = measure(condition, record, world)
                holds = found is not None and (found.entered or (was and not found.left))
                if holds != was:
                    crossed = set(world.memory.crossed) if crossed is None else crossed
                    (crossed.add if holds else crossed.discard)(key)
    return world.memory if crossed is None else replace(world.memory, crossed=frozenset(crossed))


def _reads_same(condition: MemoryCondition, name: str, before: World, world: World) -> bool:
    """Whether what the condition measures is the very reading that it was in the world before."""
    if isinstance(condition, OF_HOST):
        return world.host is before.host
    record, old = world.models[name], before.models.get(name)
    if old is None:
        return False
    if isinstance(condition, UnitMemoryAbove):
        return record.seen is old.seen
    return world.gpus is before.gpus and record.placed_on is old.placed_on and record.spec is old.spec


def count_looks(before: World, world: World, names: Iterable[str], now: Now) -> DetectorMemory:
    """Count the requests that new looks at these models tell of into the windows of `requests_below`.

    What happened while a reading was missing, in another process or during a task of ours was not observed: then the
    window begins anew, but for our tasks, which are short and end with a look of their own.
    """
    windows: dict[RuleKey, Window] | None = None
    for name in names:
        for rule in world.settings.rules_of.get(name, ()):
            for _, condition in rule.rates:
                was = world.memory.windows.get((rule.name, name))
                window = _counted(condition, was, before, world, name, now)
                if window is not was:
                    windows = dict(world.memory.windows) if windows is None else windows
                    windows.pop((rule.name, name), None)
                    if window is not None:
                        windows[(rule.name, name)] = window
    return world.memory if windows is None else replace(world.memory, windows=windows)


def _counted(
    condition: RequestsBelow, window: Window | None, before: World, world: World, name: str, now: Now
) -> Window | None:
    record, old = world.models[name], before.models.get(name)
    if not isinstance(record.seen, Known) or record.activity is None:
        return None
    if window is None or old is None or old.activity is None or old.incarnation != record.incarnation:
        return Window(now.mono_s)
    came = record.activity.requests_done - old.activity.requests_done
    if came <= 0 or name in before.tasks:
        return window
    number = bucket_of(condition, now.mono_s)
    kept = [b for b in window.buckets if b[0] > number - WINDOW_BUCKETS]
    if kept and kept[-1][0] == number:
        came += kept.pop()[1]
    return replace(window, buckets=(*kept, (number, came)))


def remember(record: ModelRecord, world: World, now: Now, rules: tuple[Evaluated, ...]) -> DetectorMemory:
    """Note for one model since when its rules hold, which wishes came true, and what need not be told twice."""
    memory = world.memory
    name = record.spec.name
    for found in rules:
        rule = found.rule
        key = (rule.name, name)
        if rule.for_s > 0 and found.all_hold != (key in memory.held_since_s):
            memory = replace(memory, held_since_s=_with(memory.held_since_s, key, now.mono_s, found.all_hold))
        if rule.rates:
            memory = _remember_rates(memory, found, name)
        if rule.cron is not None or rule.action.kind is ActionKind.WAKE:
            memory = _remember_wish(memory, found, record, world, now)
        if memory.told and not found.holds and not found.blind and any(t[1:] == key for t in memory.told):
            memory = replace(memory, told=frozenset(t for t in memory.told if t[1:] != key))
    return memory


def _with(
    times: Mapping[RuleKey, MonotonicS], key: RuleKey, at_s: MonotonicS, present: bool
) -> dict[RuleKey, MonotonicS]:
    return {**times, key: at_s} if present else {k: v for k, v in times.items() if k != key}


def _remember_rates(memory: DetectorMemory, found: Evaluated, name: str) -> DetectorMemory:
    for index, _ in found.rule.rates:
        key, holds = (found.rule.name, name, index), found.judged[index].holds is True
        if holds != (key in memory.crossed):
            memory = replace(memory, crossed=memory.crossed | {key} if holds else memory.crossed - {key})
    return memory


def _remember_wish(
    memory: DetectorMemory, found: Evaluated, record: ModelRecord, world: World, now: Now
) -> DetectorMemory:
    """A rule with a `cron` is content once what it wants was so since the moment, a wake rule without one once the
    model was awake while it held; other sleeps are wanted as long as the rule holds."""
    action, key = found.rule.action, (found.rule.name, record.spec.name)
    wakes = action.kind is ActionKind.WAKE
    stopped = action.kind is ActionKind.STOP and record.life.state is State.STOPPED
    is_so = record.life.state is State.AWAKE if wakes else stopped or _sleeps_at(record, action.level)
    if found.rule.cron is not None:
        moment = cron_moment(found.rule, world, now)
        if found.holds and is_so and moment is not None and memory.dealt_with.get(key, float("-inf")) < moment:
            memory = replace(memory, dealt_with={**memory.dealt_with, key: moment})
    elif wakes and found.holds and is_so and key not in memory.achieved:
        memory = replace(memory, achieved=memory.achieved | {key})
    elif wakes and not found.all_hold and not found.blind and key in memory.achieved:
        memory = replace(memory, achieved=memory.achieved - {key})
    return memory


def _sleeps_at(record: ModelRecord, level: int) -> bool:
    return record.life.state in ASLEEP and (LEVEL[record.life.state] or 0) >= level > 0


def forget_rules(memory: DetectorMemory, old: Settings, new: Settings) -> DetectorMemory:
    """What is left to remember after a reload: a rule that changed for a model begins anew, but for its actions."""
    was = {(r.name, m): r for r in old.rules for m in r.applies_to}
    now = {(r.name, m): r for r in new.rules for m in r.applies_to}
    same = {k for k in now if k in was and _meaning(was[k]) == _meaning(now[k])}
    if len(same) == len(was) == len(now):
        return memory
    return DetectorMemory(
        held_since_s={k: v for k, v in memory.held_since_s.items() if k in same},
        crossed=frozenset(k for k in memory.crossed if k[:2] in same),
        windows={k: v for k, v in memory.windows.items() if k in same},
        achieved=frozenset(k for k in memory.achieved if k in same),
        dealt_with={k: v for k, v in memory.dealt_with.items() if k in same},
        acts={k: v for k, v in memory.acts.items() if k in now},
        told=frozenset(t for t in memory.told if t[1:] in same),
    )


def _meaning(rule: Rule) -> tuple[object, ...]:
    return (rule.conditions, rule.action, rule.for_s)
