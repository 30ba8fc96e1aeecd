"""The tables of docs/configuration.md, written from the schema: `python -m sleepd.config_doc docs/configuration.md`.

Everything between `<!-- made of NAME -->` and `<!-- end -->` is replaced; the sentences around it are written by hand
(tests/docs compares).
"""

import re
import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from sleepd.config.effective import PLAIN
from sleepd.config.load import PACKAGED_DIR
from sleepd.config.schema import GroupKeys, ModelKeys, RoleKeys, Section, WebhookKeys
from sleepd.config.schema_rules import RuleKeys, ThenKeys, Tree, WhenKeys
from sleepd.config.toml_text import write_value

_MARK = re.compile(r"<!-- made of ([\w.]+) -->\n.*?<!-- end -->", re.DOTALL)

TABLES: dict[str, type[Section]] = {
    **{name: type(Tree.model_fields[name].default) for name in PLAIN},
    "api.roles": RoleKeys,
    "webhooks": WebhookKeys,
    "groups": GroupKeys,
    "models": ModelKeys,
    "rules": RuleKeys,
    "rules.when": WhenKeys,
    "rules.then": ThenKeys,
}
"""The tables of the page by the name that its marks use."""


def configuration_page(page: str) -> str:
    """Return the page with every marked table written anew. Raises KeyError for a mark nobody knows."""
    return _MARK.sub(lambda found: f"<!-- made of {found[1]} -->\n{_made_of(found[1])}<!-- end -->", page)


def _made_of(name: str) -> str:
    return _shipped_rules() if name == "shipped" else _key_table(name)


def _key_table(name: str) -> str:
    rows = [
        f"| `{info.alias or key}` | {info.description} | {_default(info)} | {_example(info)} |"
        for key, info in TABLES[name].model_fields.items()
        if info.examples
    ]
    return "\n".join(["| key | meaning | default | example |", "|---|---|---|---|", *rows, ""])


def _example(info: FieldInfo) -> str:
    return f"`{write_value(info.examples[0])}`" if info.examples else ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    return "not set" if info.default is None else f"`{write_value(info.default)}`"


def _shipped_rules() -> str:
    texts = []
    for file in sorted(PACKAGED_DIR.glob("*.toml")):
        written = file.read_text()
        texts.append(f"```toml\n# {file.name}\n{written[written.index('[[rules]]') :]}```\n")
    return "\n".join(texts)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(configuration_page(target.read_text()))
