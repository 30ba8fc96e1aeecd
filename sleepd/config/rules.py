"""Rules as written to rules as evaluated: the models each applies to, and what differs for some of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sleepd.config.compile_models import Written
from sleepd.config.conditions import compile_conditions
from sleepd.config.errors import KeyPath, did_you_mean, show
from sleepd.config.schema_rules import RuleKeys, ThenKeys, WhenKeys
from sleepd.config.validate import Findings, validate
from sleepd.core.model import ModelSpec
from sleepd.core.rules import (
    KEEP_AWAKE,
    STOP,
    WAKE,
    Action,
    ActionKind,
    Condition,
    MemoryCondition,
    PredictedIdle,
    Rule,
)

RULES_LIMIT = 256
MEMORY_COOLDOWN_S = 600.0


@dataclass(frozen=True, slots=True)
class _Conditions:
    all_of: tuple[Condition, ...]
    for_s: float


def compile_rules(
    written: object, models: Mapping[str, Written | None], specs: Mapping[str, ModelSpec], findings: Findings
) -> tuple[Rule, ...]:
    """Return the rules that hold; what is wrong with the others is added to the findings.

    `models` are all that were written, wrong ones (None) too: a pattern is not said to match nothing because its
    model has an error of its own. `specs` are those that hold.
    """
    if not isinstance(written, list):
        findings.refuse(("rules",), f"wanted tables [[rules]], in double brackets, found {show(written)}")
        return ()
    if len(written) > RULES_LIMIT:
        findings.refuse(("rules",), f"wanted at most {RULES_LIMIT} rules, found {len(written)}")
        return ()
    _check_override_names(written, models, findings)
    rules: list[Rule] = []
    for index, value in enumerate(written):
        path: KeyPath = ("rules", index)
        keys = validate(RuleKeys, value, path, findings)
        when = value.get("when") if isinstance(value, dict) else None
        general = _read_when(when, (*path, "when"), findings) if isinstance(when, dict) else None
        if keys is None:
            continue
        action = _read_action(keys.then, (*path, "then"), findings)
        chosen = choose_models(keys.models, f"rule {keys.name}", models, path, findings)
        if action is None or general is None:
            continue
        _check_stop(keys.name, action, chosen, specs, path, findings)
        foresees = any(isinstance(c, PredictedIdle) for c in general.all_of)
        if keys.budget is not None and not (foresees and action is WAKE):
            wanted = "has nothing to apply to: it goes with predicted_idle in when and wake = true in then"
            findings.refuse((*path, "budget"), wanted)
        rules += _split(keys, general, action, chosen, models, specs, findings)
    return tuple(rules)


def _read_when(written: Mapping[str, Any], path: KeyPath, findings: Findings) -> _Conditions | None:
    before = len(findings.problems)
    keys = validate(WhenKeys, written, path, findings)
    if keys is None:
        return None
    conditions = compile_conditions(keys, path, findings)
    return _Conditions(conditions, keys.for_) if len(findings.problems) == before else None


def _read_action(then: ThenKeys, path: KeyPath, findings: Findings) -> Action | None:
    actions = {"stop": STOP, "wake": WAKE, "keep_awake": KEEP_AWAKE}
    chosen = [key for key in ("sleep", *actions) if getattr(then, key) is not None]
    if len(chosen) != 1:
        wanted = "wanted one of sleep = 1, sleep = 2, stop = true, wake = true, keep_awake = true"
        findings.refuse(path, f"{wanted}; found {' and '.join(chosen) or 'none'}")
        return None
    return actions.get(chosen[0]) or Action(ActionKind.SLEEP, then.sleep or 1)


def _split(
    keys: RuleKeys,
    general: _Conditions,
    action: Action,
    chosen: frozenset[str],
    models: Mapping[str, Written | None],
    specs: Mapping[str, ModelSpec],
    findings: Findings,
) -> list[Rule]:
    """Return the rule, and one more of its name for each set of conditions that some of its models changed."""
    by_conditions: dict[_Conditions, set[str]] = {general: set()}
    for name in sorted(chosen):
        model = models[name]
        change = model.keys.rules.get(keys.name) if model else None
        if change is False:
            continue
        conditions: _Conditions | None = general
        if model is not None and isinstance(change, dict):
            conditions = _read_when({**keys.when, **change}, model.path("rules", keys.name), findings)
        if conditions is not None and name in specs:
            by_conditions.setdefault(conditions, set()).add(name)
    return [
        Rule(
            keys.name,
            frozenset(names),
            conditions.all_of,
            action,
            conditions.for_s,
            _cooldown_s(keys, conditions),
            keys.enabled,
            keys.budget,
        )
        for conditions, names in by_conditions.items()
        if names or conditions is general
    ]


def _cooldown_s(keys: RuleKeys, conditions: _Conditions) -> float:
    if keys.cooldown is not None:
        return keys.cooldown
    return MEMORY_COOLDOWN_S if any(isinstance(c, MemoryCondition) for c in conditions.all_of) else 0.0


def _check_override_names(written: list[Any], models: Mapping[str, Written | None], findings: Findings) -> None:
    """What a model changes must be there: a rule of that name."""
    names = {str(rule["name"]) for rule in written if isinstance(rule, dict) and isinstance(rule.get("name"), str)}
    told = set()
    for model in models.values():
        for rule in model.keys.rules if model else ():
            if model is not None and rule not in names and model.path("rules", rule) not in told:
                told.add(model.path("rules", rule))
                guess = did_you_mean(rule, names) or f"; rules: {', '.join(sorted(names)) or 'none'}"
                findings.refuse(model.path("rules", rule), f"there is no rule {show(rule)}{guess}")


def _check_stop(
    name: str,
    action: Action,
    chosen: frozenset[str],
    specs: Mapping[str, ModelSpec],
    path: KeyPath,
    findings: Findings,
) -> None:
    if action is STOP:
        for model in sorted(m for m in chosen if m in specs and not specs[m].may_stop):
            findings.warn((*path, "then"), f"rule {name} never stops {model}: it has no may_stop = true")


def choose_models(
    patterns: Sequence[str], whose: str, models: Mapping[str, Written | None], path: KeyPath, findings: Findings
) -> frozenset[str]:
    """Return the models that are meant: all that a pattern names, less those that a "!pattern" names."""
    included = {name for name in models if all(pattern.startswith("!") for pattern in patterns)}
    excluded: set[str] = set()
    for index, written in enumerate(patterns):
        pattern = written.removeprefix("!")
        found = {name for name, model in models.items() if _matches(pattern, name, model.keys.labels if model else {})}
        if not found and pattern != "*" and models:
            findings.warn((*path, "models", index), f"{show(written)} of {whose} matches no model")
        (excluded if written.startswith("!") else included).update(found)
    return frozenset(included - excluded)


def _matches(pattern: str, name: str, labels: Mapping[str, str]) -> bool:
    if not pattern.startswith("label:"):
        return fnmatchcase(name, pattern)
    key, _, value = pattern.removeprefix("label:").partition("=")
    return key in labels and fnmatchcase(labels[key], value)
