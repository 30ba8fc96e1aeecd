"""Whatever stands in a file: a clean ConfigError or settings, and the same ones twice."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sleepd.config.effective import PLAIN, write_origins
from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config, parse_layer
from sleepd.config.schema import ModelKeys
from sleepd.config.schema_rules import FIXED_SECTIONS, RuleKeys, Tree, WhenKeys
from sleepd.config.settings import Config
from sleepd.config.toml_lines import find_lines
from sleepd.config.toml_text import write_value
from sleepd.config.validate import keys_of
from sleepd.config_doc import TABLES

EVERY_KEY = sorted(
    {*keys_of(Tree), *keys_of(ModelKeys), *keys_of(RuleKeys), *keys_of(WhenKeys), "sleep", "chat", "a.b", ""}
    | {key for section in FIXED_SECTIONS for key in keys_of(Tree, (section,))}
)
URLS = ["http://127.0.0.1:1", "unix:/x", "http://[::1", "http://[v1.a]:80", "http://1.2.3.4.5"]
SIZES = ["auto", "5m", "24GiB", "10%", "2/min", "mon-fri", "08:00-18:00", "55 7 * * *", "0 0 31 2 mon", "Europe/Berlin"]
WORDS = st.sampled_from(
    [*URLS, *SIZES, "nvml", "*", "!chat", "label:a=b", "/run/x", "0660", "GPU-1", "x.service", "%g"]
)
LEAVES = st.one_of(WORDS, st.text(max_size=5), st.integers(), st.floats(), st.booleans(), st.dates())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(EVERY_KEY), inner, max_size=4),
    max_leaves=12,
)
TREES = st.dictionaries(st.sampled_from(EVERY_KEY), VALUES, max_size=5)


def write_toml(value: Any) -> str:
    """Return the value in TOML; tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(write_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write_toml(key)} = {write_toml(item)}" for key, item in value.items()) + "}"
    return str(value)


def outcome(load: Callable[[], Config]) -> object:
    try:
        return load()
    except ConfigError as error:
        refused = error
    assert refused.problems
    assert all("\n" not in str(problem) for problem in refused.problems)
    return str(refused)


def load_text(text: str) -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sleepd.toml").write_bytes(text.encode(errors="surrogateescape"))
        found = outcome(lambda: load_config(Path(folder), environ={}))
        again = outcome(lambda: load_config(Path(folder), environ={}))
    assert found == again
    return found


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_tree_is_settings_or_a_clean_error(tree: dict[str, Any]) -> None:
    load_text("".join(f"{write_toml(key)} = {write_toml(value)}\n" for key, value in tree.items()))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["url", "gpus", "unit", "vram", "labels", "max_level"]), VALUES, max_size=4))
def test_any_model_is_settings_or_a_clean_error(keys: dict[str, Any]) -> None:
    load_text("[models.a]\n" + "".join(f"{key} = {write_toml(value)}\n" for key, value in keys.items()))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab.=[]{}\"'#\n\\, 1é"), max_size=40))
@example("a = " + "[" * 3000)
@example("a" + ".a" * 3000 + " = 1")
@example("a = " + "9" * 5000)
@example("[models" + ".a" * 3000 + "]")
@example("[[rules]]\n[rules.when]\nx = '''\n[b]\n'''''\n")
def test_any_text_is_settings_or_a_clean_error(text: str) -> None:
    load_text(text)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["SLEEPD__GPU__MARGIN", "SLEEPD__X", "SLEEPD__", "SLEEPD__API__MODE"]), st.text(max_size=8)
    )
)
def test_any_environment_is_settings_or_a_clean_error(environ: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcome(lambda: load_config(Path(folder), environ=environ))


@settings(max_examples=150, deadline=None)
@given(TREES, st.booleans())
def test_every_top_level_key_is_found_on_its_line(tree: dict[str, Any], spaced: bool) -> None:
    text, wanted = "", {}
    for key, value in tree.items():
        text += "\n# = [x]\n" if spaced else ""
        wanted[(key,)] = text.count("\n") + 1
        text += f"{write_toml(key)} = {write_toml(value)} # x = 1\n"
    assert find_lines(text)[0] == wanted
    assert dict(parse_layer("x", text).lines) == wanted


def test_lines_of_headers_arrays_and_long_values() -> None:
    text = 'a.b = """\n[x]\n"""\n[[r]]\nn = [\n  "]", # [\n  1,\n]\n[r.w]\nk = 1\n[[r]]\n"q.r" = \'#\'\n'
    lines, inline = find_lines(text)
    assert inline == {}
    assert lines == {
        ("a",): 1,
        ("a", "b"): 1,
        ("r",): 4,
        ("r", 0): 4,
        ("r", 0, "n"): 5,
        ("r", 0, "w"): 9,
        ("r", 0, "w", "k"): 10,
        ("r", 1): 11,
        ("r", 1, "q.r"): 12,
    }


def test_columns_of_keys_in_inline_tables() -> None:
    text = (
        'a = { b = "}", c.d = [1, { e = [[]] }], "f g" = 1.5 }\nh = [ # {x=1}\n  { i = 2 }, {},\n  {i = 3}\n]\nj = 1\n'
    )
    lines, inline = find_lines(text)
    assert lines == {("a",): 1, ("h",): 2, ("j",): 6}
    assert inline == {
        ("a", "b"): (1, 7),
        ("a", "c"): (1, 16),
        ("a", "c", "d"): (1, 16),
        ("a", "c", "d", 1, "e"): (1, 28),
        ("a", "f g"): (1, 41),
        ("h", 0, "i"): (3, 5),
        ("h", 2, "i"): (4, 4),
    }


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(keys_of(WhenKeys)), VALUES, max_size=4), st.dictionaries(WORDS, VALUES, max_size=2)
)
def test_any_rule_and_override_is_settings_or_a_clean_error(when: dict[str, Any], override: dict[str, Any]) -> None:
    load_text(
        f"[models.a]\nurl = 'unix:/a'\ngpus = ['0']\n"
        f"rules = {{ r = {write_toml(override)}, nap = {write_toml(when)} }}\n"
        f"[[rules]]\nname = 'r'\nwhen = {write_toml(when)}\nthen = {{ sleep = 1 }}\n"
    )


KEYS_WITH_EXAMPLES = [
    (name, key, write_value(info.examples[0]))
    for name in PLAIN
    for key, info in TABLES[name].model_fields.items()
    if key not in ("api_keys_file", "roles", "backend")
]
WHENS = [
    f"{info.alias or key} = {write_value(info.examples[0])}"
    for key, info in WhenKeys.model_fields.items()
    if key not in ("until", "within", "window", "timezone")
]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.sampled_from(KEYS_WITH_EXAMPLES)),
    st.sampled_from(WHENS),
    st.sampled_from(["nap = false", 'nap = { idle = "2h" }', ""]),
    st.sampled_from(["", "priority = 7", 'labels = { "a b" = "\\u00e9\\n" }']),
)
def test_what_origins_prints_is_the_same_configuration(
    keys: set[tuple[str, str, str]], when: str, override: str, default: str
) -> None:
    text = "".join(f"{section}.{key} = {value}\n" for section, key, value in sorted(keys))
    text += f"[model_defaults]\n{default}\n[models.'a.b']\nurl = 'unix:/a'\ngpus = ['0']\nrules = {{ {override} }}\n"
    text += f"[models.c]\nurl = 'unix:/c'\ngpus = ['0']\n[[rules]]\nname = 'r'\nwhen = {{ {when}, idle = '7m' }}\n"
    text = text.replace(", idle = '7m'", "") if when.startswith("idle") else text
    config = load_text(text + "then = { wake = true }\n")
    assert isinstance(config, Config), config
    again = load_text(write_origins(config.effective))
    assert isinstance(again, Config), again
    assert (again.settings, again.service) == (config.settings, config.service)
