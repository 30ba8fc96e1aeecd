"""docs/configuration.md is made of the schema; its examples are accepted and its defaults are what the code goes by."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.config.toml_text import write_value
from sleepd.config_doc import TABLES, configuration_page

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MODEL = {"url": '"http://127.0.0.1:1"', "unit": '"x.service"'}


def test_the_page_is_what_the_schema_says() -> None:
    assert configuration_page(PAGE.read_text()) == PAGE.read_text(), (
        "run: python -m sleepd.config_doc docs/configuration.md"
    )


def test_every_key_has_a_meaning_and_an_example() -> None:
    for name, schema in TABLES.items():
        for key, info in schema.model_fields.items():
            assert info.description, (name, key)
            assert info.examples, (name, key)


def write_with(section: str, key: str, value: str | None, folder: Path) -> str:
    """Return a configuration in which this key is written with this value, or not at all for None."""
    model, plain = dict(MODEL), dict[str, str]()
    when, then, rule = {"host_available_below": '"10%"'}, {"sleep": "1"}, {"name": '"nap"'}
    groups = {"models": '["chat"]', "max_awake": "1"}
    tables = {"models": model, "rules": rule, "rules.when": when, "rules.then": then, "groups": groups}
    tables["webhooks"] = webhook = {"url": '"https://h/"', "secret_file": f'"{folder}/sleepd/alerts.secret"'}
    table = tables.get(section, plain)
    table.pop(key, None)
    if value is not None:
        table[key] = value.replace("/etc/", f"{folder}/").replace("qwen3-32b", "chat").replace("gpt-oss-120b", "embed")
    if section == "models" and key in ("cgroup", "unit"):
        model["gpus"] = '["0"]'
        model.pop("unit" if key == "cgroup" else "cgroup", None)
    if section == "gpu" and value == '"none"':
        plain["capacity"] = '{ "0" = "80GiB" }'
        model |= {"gpus": '["0"]', "vram": '"30GiB"'}
    if section == "rules.when":
        needed = {"until": "host_available_below", "window": "requests_below", "timezone": "days", "within": "cron"}
        when.update({needed[key]: COMPANIONS[needed[key]]} if key in needed else {"idle": '"1m"'})
    if section == "rules" and key == "budget" and value is not None:
        when, then = {"predicted_idle": '"5m"'}, {"wake": "true"}
    if section == "rules.then" and value is not None and key != "sleep":
        then.pop("sleep")
    if not then:
        then["sleep"] = "1"
    inline = {"when": as_inline(when), "then": as_inline(then)}
    heads: dict[str, dict[str, str]] = {
        "[models.chat]": model,
        "[models.embed]": {"url": '"unix:/e"', "gpus": '["0"]', "vram": '"1GiB"'},
        "[[rules]]": inline | rule,
        "[groups.g]": groups if section == "groups" else {},
        "[webhooks.w]": webhook if section == "webhooks" else {},
        f"[{section}]": plain,
    }
    return "".join(f"{head}\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for head, t in heads.items() if t)


COMPANIONS = {"host_available_below": '"10%"', "requests_below": '"2/min"', "days": '"mon"', "cron": '"0 7 * * *"'}


def as_inline(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {text}" for name, text in table.items()) + " }"


def load_with(folder: Path, section: str, key: str, value: str | None) -> object:
    text = write_with(section, key, value, folder)
    (folder / "sleepd.toml").write_text(text)
    for name, content in (("chat.key", "secret\n"), ("keys", "alice:0123456789\n"), ("alerts.secret", WHSEC)):
        (folder / "sleepd").mkdir(exist_ok=True)
        (folder / "sleepd" / name).write_text(content)
        (folder / "sleepd" / name).chmod(0o600)
    try:
        config = load_config(folder, shipped_dir=folder / "none", environ={})
    except ConfigError as error:
        pytest.fail(f"{text}\n{error}")
    return config.settings, config.service


def every_key() -> list[tuple[str, str, Any, Any]]:
    return [
        (name, info.alias or key, info.default, info.examples[0])
        for name, schema in TABLES.items()
        for key, info in schema.model_fields.items()
        if info.examples
    ]


@pytest.mark.parametrize(("section", "key", "default", "example"), every_key())
def test_examples_are_accepted_and_defaults_are_true(
    tmp_path: Path, section: str, key: str, default: Any, example: Any
) -> None:
    if key != "ca_file":  # would have to be a certificate
        load_with(tmp_path, section, key, write_value(example))
    optional = default is not None and "Undefined" not in repr(default)
    if optional and (section, key) not in (("models", "url"), ("rules", "name")):
        assert load_with(tmp_path, section, key, write_value(default)) == load_with(tmp_path, section, key, None)


def test_the_example_holds(tmp_path: Path) -> None:
    example = re.findall(r"## Example\n\n```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    assert tomllib.loads(example)
    (tmp_path / "sleepd.toml").write_text(example)
    assert load_config(tmp_path, environ={}).warnings == ()
