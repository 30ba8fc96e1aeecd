"""Timeouts as rules: in the settings that are played, and in the file that is deployed. Both say the same."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sleepd.core.frozen import replace
from sleepd.core.model import Settings
from sleepd.core.rules import Action, ActionKind, IdleFor, Rule
from sleepd.core.units import Seconds, format_duration
from sleepd.tuning.curves import NEVER, Point


@dataclass(frozen=True, slots=True)
class Nap:
    """One timeout and level, and the models that share it."""

    timeout_s: Seconds
    level: int
    models: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"tuned-{self.idle}" + ("" if self.level == 1 else f"-level{self.level}")

    @property
    def idle(self) -> str:
        return format_duration(self.timeout_s)


def naps_of(point: Point, levels: Mapping[str, int], models: Collection[str]) -> tuple[Nap, ...]:
    """Return the rules that the point needs for these models, the shortest first; one that never sleeps is in none."""
    grouped: dict[tuple[Seconds, int], list[str]] = {}
    for model, timeout_s in sorted(point.timeouts_s.items()):
        if model in models and timeout_s != NEVER:
            grouped.setdefault((timeout_s, levels[model]), []).append(model)
    return tuple(Nap(timeout_s, level, tuple(models)) for (timeout_s, level), models in sorted(grouped.items()))


def is_timeout(rule: Rule) -> bool:
    """Whether the rule is a plain timeout, which the tuned ones stand in for: any other condition, and it stays."""
    return (
        rule.enabled
        and rule.action.kind is ActionKind.SLEEP
        and len(rule.conditions) == 1
        and isinstance(rule.conditions[0], IdleFor)
    )


def timeout_now(settings: Settings, model: str) -> tuple[Seconds, int]:
    """The shortest plain timeout of the model, and the level that it leads to; never, and 1, where there is none."""
    found = [
        (_seconds(rule), rule.action.level) for rule in settings.rules if is_timeout(rule) and model in rule.applies_to
    ]
    return min(found, default=(NEVER, 1))


def _seconds(rule: Rule) -> Seconds:
    (condition,) = rule.conditions
    return condition.seconds + rule.for_s if isinstance(condition, IdleFor) else NEVER


def replaced_rules(settings: Settings, model: str) -> tuple[str, ...]:
    """The names of the plain timeouts that the model has."""
    return tuple(dict.fromkeys(rule.name for rule in settings.rules if is_timeout(rule) and model in rule.applies_to))


def with_naps(settings: Settings, naps: Sequence[Nap], models: Iterable[str]) -> Settings:
    """Return the settings in which these models have these timeouts, and no other plain ones."""
    tuned = frozenset(models)
    kept = [replace(rule, applies_to=rule.applies_to - tuned) if is_timeout(rule) else rule for rule in settings.rules]
    added = [
        Rule(nap.name, frozenset(nap.models), (IdleFor(nap.timeout_s),), Action(ActionKind.SLEEP, nap.level))
        for nap in naps
    ]
    return replace(settings, rules=(*kept, *added))
