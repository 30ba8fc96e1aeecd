"""Relief while host RAM is short: sleepers that may be stopped are, one at a time, and what each gave back is measured.

On stock vLLM nothing but the end of a process gives a level 1 backup back: no deeper sleep of a sleeper, no wake.
"""

from collections.abc import Mapping, Sequence

from sleepd.core.commands import LookNow
from sleepd.core.conditions import idle_s
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.life import ASLEEP, State
from sleepd.core.limits import limit_of
from sleepd.core.model import Cause, CauseKind, Known, Mode
from sleepd.core.orders import uuids_of
from sleepd.core.policy import NO_ANSWER_YET, NOT_CHECKED, is_ram_pressure, level2_refusal, stop_refusal
from sleepd.core.record import ModelRecord, is_pinned, is_wanted_awake
from sleepd.core.room import claimed
from sleepd.core.rules import ActionKind, HostPressureAbove, Rule
from sleepd.core.saying import evidence, rules_said, say, tell_act
from sleepd.core.seen import HostSeen
from sleepd.core.task import TaskKind
from sleepd.core.unit_tasks import begin_stop
from sleepd.core.units import MonotonicS, Seconds, format_size
from sleepd.core.world import Relief

MEASURED_AFTER_S: Seconds = 3.0
"""The kernel gives the pages of a process that ended back at once; MemAvailable shows it with the next reading."""
PRESSURE_AFTER_S: Seconds = 12.0
"""PSI's avg10 forgets within ten seconds (Documentation/accounting/psi.rst)."""


def may_be_stopped(draft: Draft, record: ModelRecord) -> bool:
    """Whether a rule may stop this sleeper now: nobody wants it, its GPUs are unclaimed, nothing failed lately."""
    if stop_refusal(record) or is_pinned(record) or record.holds or record.waiters or is_wanted_awake(record):
        return False
    if max(record.not_before_s, record.cooldown_until_s) > draft.mono_s:
        return False
    return record.spec.name not in draft.tasks and not set(uuids_of(draft, record)) & claimed(draft)


def begin_relief(draft: Draft) -> None:
    """While a rule on RAM with `sleep = 2` holds, stop the sleeper at level 1 that was used least recently; the next
    one only after what that gave back was measured."""
    if draft.stopping or draft.leaving or not isinstance(draft.host, Known):
        return
    if any(t.kind is TaskKind.STOP and t.cause.kind is CauseKind.RULE for t in draft.tasks.values()):
        return
    if draft.memory.relief is not None and not _measured(draft, draft.memory.relief, draft.host):
        return
    if not draft.memory.crossed:
        return  # no rule on RAM holds as long as no threshold is crossed
    for rule in draft.settings.rules:
        if rule.enabled and is_ram_pressure(rule) and rule.action.kind is ActionKind.SLEEP and rule.action.level == 2:
            sleepers = [r for n in rule.applies_to if (r := draft.models.get(n)) and r.life.state in ASLEEP]
            candidates = [r for r in sleepers if _gives_relief(draft, r, rule)]
            candidates.sort(key=lambda r: (r.last_active_s, r.spec.priority, r.spec.name))
            if candidates and candidates[0].spec.mode is Mode.OBSERVE:
                _tell_would(draft, rule, candidates[0])
            # One that is only observed gives nothing back, and must not keep the next one from it.
            if enforced := [r for r in candidates if r.spec.mode is not Mode.OBSERVE]:
                _relieve(draft, rule, enforced[0])
                return


def _gives_relief(draft: Draft, record: ModelRecord, rule: Rule) -> bool:
    if record.life.state is not State.ASLEEP_L1 or not may_be_stopped(draft, record):
        return False
    holds = any(e.rule.name == rule.name and e.holds for e in rules_said(draft, record))
    return holds and limit_of(rule, record.spec.name, draft.world(), draft.now) is None


def _tell_would(draft: Draft, rule: Rule, record: ModelRecord) -> None:
    text = f"rule {rule.name} would stop {record.spec.name} for its RAM (observe mode)"
    say(draft, "would", rule.name, record.spec.name, text, evidence(draft, rule, record))


def _relieve(draft: Draft, rule: Rule, record: ModelRecord) -> None:
    name = record.spec.name
    assert isinstance(draft.host, Known)
    unit = record.seen.value.unit_memory if isinstance(record.seen, Known) else None
    kept_bytes = unit.kept_bytes if unit is not None and unit.own else None
    draft.memory = replace(draft.memory, relief=Relief(rule.name, name, draft.host.value, kept_bytes))
    idle = f"used least recently, {idle_s(record, draft.mono_s):.0f} s ago"
    tell_act(draft, rule, record, "stop", f"stops {name} for its RAM: {idle}")
    begin_stop(draft, name, Cause(CauseKind.RULE, rule.name))


def relief_measured_s(relief: Relief, models: Mapping[str, ModelRecord], rules: Sequence[Rule]) -> MonotonicS | None:
    """When the effect of the stop can be read; None where the model is gone, and none is to be measured."""
    record, rule = models.get(relief.model), next((r for r in rules if r.name == relief.rule), None)
    if record is None:
        return None
    on_pressure = rule is not None and any(isinstance(c, HostPressureAbove) for c in rule.conditions)
    return record.since_s + (PRESSURE_AFTER_S if on_pressure else MEASURED_AFTER_S)


def _measured(draft: Draft, relief: Relief, host: Known[HostSeen]) -> bool:
    """Whether what the stop gave back is known; then it is told."""
    record = draft.models.get(relief.model)
    due_s = relief_measured_s(relief, draft.models, draft.settings.rules)
    if due_s is not None and host.asked_at_s < due_s:
        if draft.mono_s >= due_s:
            draft.command(LookNow(host=True))
        return False
    draft.memory = replace(draft.memory, relief=None)
    if record is not None and record.life.state is State.STOPPED:
        _tell_effect(draft, relief, host.value)
    return True


def _tell_effect(draft: Draft, relief: Relief, now: HostSeen) -> None:
    was = relief.host
    gained = now.available_bytes - was.available_bytes
    text = f"{relief.model} was stopped: {format_size(now.available_bytes)} of RAM are available now"
    text += f", {format_size(abs(gained))} {'more' if gained >= 0 else 'less'} than before"
    if relief.kept_bytes is not None:
        text += f"; its unit held {format_size(relief.kept_bytes)}"
    if was.pressure_some_avg10 is not None and now.pressure_some_avg10 is not None:
        text += f"; pressure went from {was.pressure_some_avg10:.0%} to {now.pressure_some_avg10:.0%}"
    data = {"rule": relief.rule, "gained_bytes": gained, "unit_bytes": relief.kept_bytes}
    draft.note("relief", relief.model, text, data)


def tell_helpless(draft: Draft, rule: Rule, name: str) -> None:
    """Say once that RAM is short and nothing gives any back: only stopping a process would."""
    if draft.memory.relief is not None:
        return  # what the last stop gives back is not measured yet
    told = any(kind == "helpless" and of == rule.name for kind, of, _ in draft.memory.told)
    if told or any(_may_help(draft, draft.models[n], rule) for n in rule.applies_to if n in draft.models):
        return
    detail = "no model it applies to may sleep at level 2, and a level 1 sleep takes RAM instead of giving any back"
    hint = "only the end of a process does: may_stop = true lets sleepd stop sleepers"
    say(draft, "helpless", rule.name, name, f"rule {rule.name}: RAM is short and nothing helps: {detail}; {hint}")


def _may_help(draft: Draft, record: ModelRecord, rule: Rule) -> bool:
    """Whether the model could yet be stopped, or sleep at level 2 where it would have taken RAM at level 1."""
    if rule.action.level == 2 and record.life.state is State.ASLEEP_L1 and not stop_refusal(record):
        return True
    if rule.action.kind is ActionKind.STOP:
        return record.life.state in (*ASLEEP, State.AWAKE) and not stop_refusal(record)
    if rule.action.level < 2 or record.spec.max_level < 2 or record.life.state in ASLEEP:
        return False
    return level2_refusal(draft.world(), record) in ("", NO_ANSWER_YET, NOT_CHECKED)
