"""What keeps a rule that holds from acting: its cooldown, its actions within the hour, a wish that came true."""

from dataclasses import dataclass

from sleepd.core.calendar import last_moment
from sleepd.core.foresight import spent_today_s
from sleepd.core.frozen import replace
from sleepd.core.model import Now
from sleepd.core.rules import ActionKind, Rule
from sleepd.core.units import HOUR_S, MonotonicS, format_duration
from sleepd.core.world import DetectorMemory, RuleKey, World

ACTIONS_AN_HOUR = 6
"""A rule that wants more of one model than this goes in circles: it is told, not followed."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Why a rule does not act though it holds, and until when; None: until it held no longer."""

    why: str
    until_s: MonotonicS | None = None
    is_alarm: bool = False


def limit_of(rule: Rule, name: str, world: World, now: Now) -> Limit | None:
    """Return what keeps the rule from acting on the model now, None where nothing of its own does."""
    key, memory = (rule.name, name), world.memory
    if rule.action.kind is ActionKind.KEEP_AWAKE:
        return None
    if key in memory.achieved:
        return Limit("it was woken while this rule held")
    if is_dealt_with(rule, name, world, now):
        return Limit("done for this moment")
    if rule.budget_s is not None and name in world.models:
        spent_s = spent_today_s(world.models[name], world, now)
        if spent_s >= rule.budget_s:
            return Limit(f"its budget is spent: woken ahead, it was awake {format_duration(round(spent_s))} today")
    acts = memory.acts.get(key, ())
    if not acts:
        return None
    cool_s = acts[-1] + rule.cooldown_s
    if cool_s > now.mono_s:
        return Limit(f"its cooldown leaves {format_duration(cool_s - now.mono_s)}", cool_s)
    free_s = acts[0] + HOUR_S
    if len(acts) >= ACTIONS_AN_HOUR and free_s > now.mono_s:
        left = format_duration(free_s - now.mono_s)
        return Limit(f"it acted {ACTIONS_AN_HOUR} times within an hour: again in {left}", free_s, is_alarm=True)
    return None


def is_dealt_with(rule: Rule, name: str, world: World, now: Now) -> bool:
    """Whether what the rule wants was achieved for the last moment of its `cron` already."""
    moment = cron_moment(rule, world, now)
    return moment is not None and world.memory.dealt_with.get((rule.name, name), float("-inf")) >= moment


def cron_moment(rule: Rule, world: World, now: Now) -> float | None:
    """The last moment of the rule's `cron` that came; None where it has none."""
    found = last_moment(world.calendar, rule.cron, now.wall_s) if rule.cron is not None else None
    return found[0] if found is not None else None


def with_act(memory: DetectorMemory, key: RuleKey, now_s: MonotonicS) -> DetectorMemory:
    """The memory after the rule began something with the model."""
    acts = (*memory.acts.get(key, ()), now_s)[-ACTIONS_AN_HOUR:]
    return replace(memory, acts={**memory.acts, key: acts})
