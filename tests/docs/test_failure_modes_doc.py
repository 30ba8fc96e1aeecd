"""docs/failure-modes.md has every failure mode once, and every test it names is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "failure-modes.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| F(\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
NAMED = re.compile(r"`(\w+/\w+)::(test_\w+)`")


def test_every_failure_mode_is_there_once_and_in_order() -> None:
    assert [int(number) for number, *_ in ROW.findall(PAGE)] == list(range(1, 57))
    assert len(re.findall(r"^\| F", PAGE, re.MULTILINE)) == 56, "a row has another number of cells"


def test_every_row_names_a_test() -> None:
    for number, _, _, shown in ROW.findall(PAGE):
        rest = NAMED.sub("", shown).replace(",", "").strip()
        assert NAMED.search(shown), f"F{number} names no test"
        assert not rest, f"F{number}: what is {rest!r}?"


def test_every_named_test_exists() -> None:
    for path, name in NAMED.findall(PAGE):
        source = (TESTS / f"{path}.py").read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{path} has no {name}"
