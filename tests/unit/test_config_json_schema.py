"""The JSON Schema is made of the models that check a configuration, and agrees with them on what is shipped."""

import json
import tomllib
from pathlib import Path

import jsonschema_rs
import pytest

from sleepd.config.json_schema import write_schema
from sleepd.config.load import PACKAGED_DIR
from tests.unit import test_contract_files, test_contract_keys, test_contract_rule_keys
from tests.unit.contract_case import Case

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "docs" / "sleepd.schema.json"
SCHEMA = jsonschema_rs.validator_for(json.loads(SHIPPED.read_text()))
FILES = [*PACKAGED_DIR.glob("*.toml"), ROOT / "etc" / "sleepd.toml", *(ROOT / "etc" / "conf.d").glob("*.example")]
CASES = [*test_contract_files.LAYERS, *test_contract_keys.KEYS, *test_contract_rule_keys.RULES]


def test_the_file_is_what_the_models_say() -> None:
    assert SHIPPED.read_text() == write_schema(), "run: python -m sleepd.config.json_schema > docs/sleepd.schema.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_files_are_valid(path: Path) -> None:
    SCHEMA.validate(tomllib.loads(path.read_text()))
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line else line for line in path.read_text().splitlines()
    )
    SCHEMA.validate(tomllib.loads(uncommented))


@pytest.mark.parametrize("case", [case for case in CASES if not case.error], ids=lambda case: case.sentence[:50])
def test_what_is_accepted_is_valid(case: Case) -> None:
    for text in (case.main, *(text for name, text in case.files.items() if name.endswith(".toml"))):
        SCHEMA.validate(tomllib.loads(text.replace('"@', '"/')))


@pytest.mark.parametrize(
    "text",
    [
        "[gpu]\nmargni = 1",
        "[gpus]",
        '[daemon]\nmode = "dry"',
        '[gpu]\nmargin = "2GB"',
        "[recovery]\nretries = 11",
        '[models.Chat]\nurl = "unix:/x"',
        "[models.a]\nmax_level = 3",
        '[models.a.rules]\nnap = { idel = "1h" }',
        "[models.a.rules]\nnap = true",
        '[[rules]]\nname = "x"\nwhen = { idel = "1h" }\nthen = { sleep = 1 }',
        '[[rules]]\nname = "x"\nwhen = { idle = "1h" }\nthen = { sleep = 1, stop = true }',
        '[[rules]]\nname = "x"\nwhen = { idle = "1h" }\nthen = { sleep = 3 }',
        '[[rules]]\nname = "x"\nwhen = { idle = "1h" }\nthen = { wake = false }',
        '[[rules]]\nname = "x"\nwhen = { idle = 5 }\nthen = { wake = true }',
    ],
)
def test_mistakes_are_seen(text: str) -> None:
    assert not SCHEMA.is_valid(tomllib.loads(text))
