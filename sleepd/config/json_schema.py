"""The configuration as JSON Schema, for editors: `python -m sleepd.config.json_schema > docs/sleepd.schema.json`."""

import json
import sys
from typing import Any

from sleepd.config.schema_rules import Tree, WhenKeys


def configuration_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a whole configuration, made of the models that check it.

    It knows keys, types and words. What spans several keys, and what a host has, is checked by `sleepd check` alone.
    """
    schema = Tree.model_json_schema()
    definitions = schema["$defs"]
    definitions["WhenKeys"] = WhenKeys.model_json_schema()
    when = {"$ref": "#/$defs/WhenKeys"}
    del definitions["RuleKeys"]["properties"]["when"]["additionalProperties"]
    definitions["RuleKeys"]["properties"]["when"] |= when
    definitions["ModelKeys"]["properties"]["rules"]["additionalProperties"] = {"anyOf": [{"const": False}, when]}
    definitions["ThenKeys"] |= {"minProperties": 1, "maxProperties": 1}
    for section in schema["properties"].values():
        section.pop("default", None)
        section.pop("title", None)
        if "patternProperties" in section:
            section["additionalProperties"] = False
    for definition in definitions.values():
        definition.pop("title", None)
        for of in definition.get("properties", {}).values():
            _tidy(of)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sleepd"}
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def _tidy(of: dict[str, Any]) -> None:
    """TOML knows no null: what may be left out is left out. Nobody needs a key's name again as its title."""
    of.pop("title", None)
    if of.get("default", 0) is None:
        del of["default"]
    if "anyOf" in of:
        choices = [choice for choice in of["anyOf"] if choice != {"type": "null"}]
        if len(choices) == 1:
            del of["anyOf"]
            of.update(choices[0])
        else:
            of["anyOf"] = choices


def write_schema() -> str:
    return json.dumps(configuration_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(write_schema())
