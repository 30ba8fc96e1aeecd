"""docs/configuration.md says what the code accepts: keys, defaults, examples, shipped rules."""

import re
import tomllib
from pathlib import Path

import pytest

from sleepd.config.errors import ConfigError
from sleepd.config.load import PACKAGED_DIR, load_config
from sleepd.config.schema import FIXED_SECTIONS, ModelKeys, RuleKeys, Tree
from sleepd.config.validate import keys_of

DOC = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
SECTIONS = {section: keys_of(Tree, (section,)) for section in FIXED_SECTIONS} | {
    "api.roles": keys_of(Tree, ("api", "roles")),
    "models.NAME": keys_of(ModelKeys),
    "rules": keys_of(RuleKeys),
    "rules.when": keys_of(RuleKeys, ("when",)),
    "rules.then": ["sleep"],
}


def rows(section: str) -> list[tuple[str, str, str]]:
    """Return (key, default, example) of a section's table, without their backquotes."""
    (below,) = [part for part in DOC.split("\n### ")[1:] if re.match(rf".*`\[+{re.escape(section)}\]+`\n", part)]
    lines = [line.strip("|") for line in below.split("\n## ")[0].splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in line.split(" | ")] for line in lines]
    return [(key, default, example) for key, _, default, example in cells]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_told_and_no_other(section: str) -> None:
    assert [key for key, _, _ in rows(section)] == SECTIONS[section]


def load_with(folder: Path, section: str, key: str, value: str | None) -> object:
    """Return the settings where this key is written with this value, or not at all for None."""
    model = {"url": '"http://127.0.0.1:1"', "unit": '"x.service"'}
    when, rule = {"host_available_below": '"10%"'}, {"name": '"r"', "then": "{ sleep = 1 }"}
    plain: dict[str, str] = {}
    table = {"models.NAME": model, "rules": rule, "rules.when": when}.get(section, plain)
    table.pop(key, None)
    if value is not None:
        table[key] = value
    if section == "models.NAME" and key in ("cgroup", "unit"):
        model["gpus"] = '["0"]'
        model.pop("unit" if key == "cgroup" else "cgroup", None)
    if not when:
        when["idle"] = '"1m"'
    inline = "{ " + ", ".join(f"{name} = {text}" for name, text in when.items()) + " }"
    tables = {"[models.chat]": model, "[[rules]]": {"when": inline} | rule, f"[{section}]": plain}
    text = "".join(f"{head}\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for head, t in tables.items() if t)
    (folder / "sleepd.toml").write_text(text)
    try:
        config = load_config(folder, shipped_dir=folder / "none", environ={})
    except ConfigError as error:
        pytest.fail(f"{text}\n{error}")
    return config.settings, config.service


KEYS = [(section, *row) for section in SECTIONS for row in rows(section) if section != "rules.then"]


@pytest.mark.parametrize(("section", "key", "default", "example"), KEYS)
def test_examples_are_accepted_and_defaults_are_true(
    tmp_path: Path, section: str, key: str, default: str, example: str
) -> None:
    load_with(tmp_path, section, key, example)
    if default.startswith(('"', "[", "{")) or default.isdecimal() or default in ("true", "false"):
        assert load_with(tmp_path, section, key, default) == load_with(tmp_path, section, key, None)
    else:
        assert default in ("required", "none", "the threshold", "see below")


def test_the_shipped_rules_and_the_example_are_what_is_told(tmp_path: Path) -> None:
    shipped, example = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)
    files = sorted(PACKAGED_DIR.glob("*.toml"))
    packaged = [rule for file in files for rule in tomllib.loads(file.read_text())["rules"]]
    assert tomllib.loads(shipped)["rules"] == packaged
    (tmp_path / "sleepd.toml").write_text(example)
    assert load_config(tmp_path, environ={}).warnings == ()
