"""What a reload changed, a line each, for whoever asked for it and for the log."""

from collections.abc import Iterable, Set
from dataclasses import replace

from sleepd.config.settings import Config
from sleepd.core.model import Settings
from sleepd.core.rules import Rule

FIXED = ("state_dir", "socket_path", "socket_mode", "proc_root", "cgroup_root")
"""What is taken at the start only."""


def changes(old: Config, new: Config) -> tuple[str, ...]:
    """Return what the new configuration changes of the old one."""
    changed: list[str] = []
    before, after = old.settings.models, new.settings.models
    changed += [f"model {n} added" for n in after if n not in before]
    changed += [f"model {n} removed" for n in before if n not in after]
    changed += [f"model {n} changed" for n in after if n in before and after[n] != before[n]]
    rules_before, rules_after = _by_name(old.settings.rules), _by_name(new.settings.rules)
    changed += [f"rule {n} added" for n in rules_after if n not in rules_before]
    changed += [f"rule {n} removed" for n in rules_before if n not in rules_after]
    both = before.keys() & after.keys()
    changed += [
        f"rule {n} changed"
        for n, rules in rules_after.items()
        if n in rules_before and _for_models(rules, both) != _for_models(rules_before[n], both)
    ]
    if _limits(old.settings) != _limits(new.settings):
        changed.append("limits and polling changed")
    if old.service.roles != new.service.roles:
        changed.append("roles changed")
    changed += [
        f"{key} changed: takes effect at the next start"
        for key in FIXED
        if getattr(old.service, key) != getattr(new.service, key)
    ]
    return tuple(changed)


def _by_name(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """A rule whose conditions differ between models stands there once for each."""
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.name, []).append(rule)
    return found


def _for_models(rules: Iterable[Rule], models: Set[str]) -> list[Rule]:
    """The rules as these models know them: one that came or went changes no rule, though "*" now means others."""
    known = [replace(rule, applies_to=rule.applies_to & models) for rule in rules]
    return [rule for rule in known if rule.applies_to] or known[:1]


def _limits(settings: Settings) -> tuple[object, ...]:
    return (
        settings.poll_every_s,
        settings.gpu_margin_bytes,
        settings.host_reserve_bytes,
        settings.retries,
        settings.stuck_after_s,
        settings.foreign_hold_down_s,
    )
