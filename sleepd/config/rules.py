"""Rules as written to rules as evaluated: conditions, thresholds, and the models each applies to."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from sleepd.config.errors import KeyPath, show
from sleepd.config.schema import RuleKeys, WhenKeys
from sleepd.config.validate import Findings, validate
from sleepd.core.model import ModelSpec
from sleepd.core.rules import Action, ActionKind, Condition, HostAvailableBelow, IdleFor, Rule, Threshold

RULES_LIMIT = 256


def compile_rules(
    written: object, models: Mapping[str, ModelSpec], names: frozenset[str], findings: Findings
) -> tuple[Rule, ...]:
    """Return the rules that hold; what is wrong with the others is added to the findings.

    `names` are all models that were written, wrong ones too: a pattern is not said to match nothing because its
    model has an error of its own.
    """
    if not isinstance(written, list):
        findings.refuse(("rules",), f"wanted tables [[rules]], found {show(written)}")
        return ()
    if len(written) > RULES_LIMIT:
        findings.refuse(("rules",), f"wanted at most {RULES_LIMIT} rules, found {len(written)}")
        return ()
    rules = []
    for index, value in enumerate(written):
        path: KeyPath = ("rules", index)
        keys = validate(RuleKeys, value, path, findings)
        if keys is None:
            continue
        conditions = _compile_conditions(keys.when, (*path, "when"), findings)
        chosen = _choose(keys, models, names, path, findings)
        rules.append(Rule(keys.name, chosen, conditions, Action(ActionKind.SLEEP, keys.then.sleep), keys.when.for_))
    return tuple(rules)


def _compile_conditions(when: WhenKeys, path: KeyPath, findings: Findings) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    if when.idle is not None:
        conditions.append(IdleFor(when.idle))
    enter, leave = when.host_available_below, when.until
    if enter is not None:
        if leave is not None:
            _check_until(enter, leave, path, findings)
        conditions.append(HostAvailableBelow(enter, leave or enter))
    elif leave is not None:
        findings.refuse((*path, "until"), "says where a threshold lets go, and there is none: add host_available_below")
    if not conditions:
        findings.refuse(path, "wanted at least one condition, idle or host_available_below; found none")
    return tuple(conditions)


def _check_until(enter: Threshold, leave: Threshold, path: KeyPath, findings: Findings) -> None:
    if (enter.share is None) != (leave.share is None):
        findings.refuse((*path, "until"), "wanted the same kind as host_available_below: both sizes or both shares")
    elif leave.of(1 << 40) < enter.of(1 << 40):
        findings.refuse((*path, "until"), "wanted at least host_available_below: the rule must let go above it")


def _choose(
    keys: RuleKeys, models: Mapping[str, ModelSpec], names: frozenset[str], path: KeyPath, findings: Findings
) -> frozenset[str]:
    """Return the models the rule applies to: all that a pattern names, less those that a "!pattern" names."""
    labels = {name: models[name].labels if name in models else {} for name in names}
    included = {name for name in names if all(pattern.startswith("!") for pattern in keys.models)}
    excluded: set[str] = set()
    for index, written in enumerate(keys.models):
        pattern = written.removeprefix("!")
        found = {name for name in names if _matches(pattern, name, labels[name])}
        if not found and pattern != "*" and names:
            findings.warn((*path, "models", index), f"{show(written)} of rule {keys.name} matches no model")
        (excluded if written.startswith("!") else included).update(found)
    return frozenset((included - excluded) & models.keys())


def _matches(pattern: str, name: str, labels: Mapping[str, str]) -> bool:
    if not pattern.startswith("label:"):
        return fnmatchcase(name, pattern)
    key, _, value = pattern.removeprefix("label:").partition("=")
    return key in labels and fnmatchcase(labels[key], value)
