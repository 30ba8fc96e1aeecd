"""Every value that holds and where it was written: what `sleepd check --origins` prints and a reload compares."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sleepd.config.compile_models import Written
from sleepd.config.errors import KeyPath, Place
from sleepd.config.schema import ModelKeys, RoleKeys, Section
from sleepd.config.schema_rules import RuleKeys, Tree
from sleepd.config.toml_text import write_key, write_value
from sleepd.config.validate import Findings

PLAIN = ("daemon", "api", "gateway", "metrics", "gpu", "host", "recovery", "history", "tracing", "ui")
"""The sections that are there whether they were written or not."""


@dataclass(frozen=True, slots=True)
class Effective:
    """`key = text` stands in `table`, or would; `place` is None for a default."""

    table: str
    key: str
    text: str
    place: Place | None = None


def list_effective(
    tree: Mapping[str, Any], models: Mapping[str, Written | None], findings: Findings
) -> tuple[Effective, ...]:
    """Return every value of a tree that holds, in the order of the schema, models and rules as written."""
    found: list[Effective] = []
    for name in PLAIN:
        found += _section(type(Tree.model_fields[name].default), (name,), tree.get(name, {}), findings)
    for name, keys in tree.get("groups", {}).items():
        found += _table(f"[groups.{write_key(name)}]", ("groups", name), keys, findings)
    for name, keys in tree.get("webhooks", {}).items():
        found += _table(f"[webhooks.{write_key(name)}]", ("webhooks", name), keys, findings)
    for name, model in models.items():
        found += _model(name, model, tree, findings) if model is not None else []
    for index, rule in enumerate(tree.get("rules", [])):
        found += _rule(rule, ("rules", index), findings)
    return tuple(found)


def _section(schema: type[Section], path: KeyPath, written: Mapping[str, Any], findings: Findings) -> list[Effective]:
    table = f"[{'.'.join(str(part) for part in path)}]"
    found, below = [], []
    for key, info in schema.model_fields.items():
        if key == "roles":
            below = _section(RoleKeys, (*path, key), written.get(key, {}), findings)
        elif key in written:
            found.append(Effective(table, key, write_value(written[key]), findings.place((*path, key))))
        else:
            found.append(Effective(table, key, write_value(info.default)))
    return found + below


def _table(table: str, path: KeyPath, written: Mapping[str, Any], findings: Findings) -> Iterator[Effective]:
    for key, value in written.items():
        yield Effective(table, write_key(key), write_value(value), findings.place((*path, key)))


def _model(name: str, model: Written, tree: Mapping[str, Any], findings: Findings) -> list[Effective]:
    table = f"[models.{write_key(name)}]"
    own, defaults = tree["models"][name], tree.get("model_defaults", {})
    from_others = {"max_wait": ("gateway", "max_wait"), "mode": ("daemon", "mode")}
    found = []
    for key, info in ModelKeys.model_fields.items():
        if key in ("labels", "rules"):
            continue
        if key in own or key in defaults:
            value = own[key] if key in own else defaults[key]
            found.append(Effective(table, key, write_value(value), findings.place(model.path(key))))
        elif key in from_others:
            section, other = from_others[key]
            fallback = type(Tree.model_fields[section].default).model_fields[other].default
            written = tree.get(section, {})
            place = findings.place((section, other)) if other in written else None
            found.append(Effective(table, key, write_value(written.get(other, fallback)), place))
        else:
            found.append(Effective(table, key, write_value(info.default)))
    for key in ("labels", "rules"):
        joined = {**defaults.get(key, {}), **own.get(key, {})} if key == "labels" else model.keys.rules
        for inner, value in joined.items():
            own_path = ("models", name, key, inner)
            path = own_path if inner in own.get(key, {}) else ("model_defaults", key, inner)
            inner_table = f"[models.{write_key(name)}.{key}]"
            found.append(Effective(inner_table, write_key(inner), write_value(value), findings.place(path)))
    return found


def _rule(rule: Mapping[str, Any], path: KeyPath, findings: Findings) -> list[Effective]:
    table = f"[[rules]] {rule['name']}"
    found = []
    for key, info in RuleKeys.model_fields.items():
        if key in rule:
            found.append(Effective(table, key, write_value(rule[key]), findings.place((*path, key))))
        elif info.default is not None:
            found.append(Effective(table, key, write_value(info.default)))
    return found


def write_origins(effective: tuple[Effective, ...]) -> str:
    """Return a whole configuration in TOML, each line with the place it comes from."""
    lines: list[str] = []
    table = ""
    width = min(44, max((len(value.key) + len(value.text) + 3 for value in effective), default=0))
    for value in effective:
        if value.table != table:
            table = value.table
            head = "[[rules]]" if table.startswith("[[rules]]") else table
            lines += ["", head] if lines else [head]
        written = f"{value.key} = {value.text}"
        lines.append(f"{written:<{width}}  # {value.place or 'default'}")
    return "\n".join(lines) + "\n"
