"""Keys of the public contract that are accepted and checked, and that nothing acts on yet.

`sleepd check` warns of each that is set to anything but its default. Whatever makes a key act takes its line away here
and in docs/configuration.md, which a test compares.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sleepd.config.errors import KeyPath
from sleepd.config.schema import ModelKeys
from sleepd.config.schema_rules import Tree
from sleepd.config.validate import Findings

WITHOUT_EFFECT: Mapping[str, str] = {}
"""By key, without names and indices ("models" for [model_defaults] too): what happens instead."""


def warn_without_effect(tree: Mapping[str, Any], findings: Findings) -> None:
    """Add a warning for each key that is set to anything but its default and that nothing acts on."""
    for path, name, value in _written(tree):
        told = WITHOUT_EFFECT.get(name) or WITHOUT_EFFECT.get(name.partition(".")[0])
        if told and value != _default(name):
            findings.warn(path, f"has no effect in this version: {told}")


def _written(tree: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, Any]]:
    """Every key of a valid tree: its path, its name without names and indices, its value."""
    for section, value in tree.items():
        if section == "models":
            for model, keys in value.items():
                yield from (((section, model, key), f"models.{key}", item) for key, item in keys.items())
        elif section == "model_defaults":
            yield from (((section, key), f"models.{key}", item) for key, item in value.items())
        elif section == "rules":
            for index, rule in enumerate(value):
                yield from _written_rule((section, index), rule)
        else:
            yield from (((section, key), f"{section}.{key}", item) for key, item in value.items())


def _written_rule(path: KeyPath, rule: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, Any]]:
    for key, value in rule.items():
        yield (*path, key), f"rules.{key}", value
        if key in ("when", "then"):
            yield from (((*path, key, inner), f"rules.{key}.{inner}", item) for inner, item in value.items())


def _default(name: str) -> object:
    section, _, key = name.partition(".")
    schema = ModelKeys if section == "models" else Tree.model_fields[section].annotation
    fields = getattr(schema, "model_fields", {})
    return fields[key].default if key in fields else None
