"""What a reload changed, a line each, for whoever asked for it and for the log."""

from collections.abc import Set
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
    rules_before, rules_after = {r.name: r for r in old.settings.rules}, {r.name: r for r in new.settings.rules}
    changed += [f"rule {n} added" for n in rules_after if n not in rules_before]
    changed += [f"rule {n} removed" for n in rules_before if n not in rules_after]
    both = before.keys() & after.keys()
    changed += [
        f"rule {n} changed"
        for n in rules_after
        if n in rules_before and _for_models(rules_after[n], both) != _for_models(rules_before[n], both)
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


def _for_models(rule: Rule, models: Set[str]) -> Rule:
    """The rule as these models know it: one that came or went changes no rule, though "*" now means others."""
    return replace(rule, applies_to=rule.applies_to & models)


def _limits(settings: Settings) -> tuple[object, ...]:
    return (
        settings.poll_every_s,
        settings.gpu_margin_bytes,
        settings.host_reserve_bytes,
        settings.retries,
        settings.stuck_after_s,
        settings.foreign_hold_down_s,
    )
