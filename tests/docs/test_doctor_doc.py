"""docs/doctor.md says what the tables of checks and traps say, and every check that is told is one of them."""

import ast
import re
from pathlib import Path

from sleepd.doctor.checks import CHECKS
from sleepd.doctor.traps import TRAPS
from sleepd.doctor_doc import doctor_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "doctor.md"
TOLD_IN = (*(ROOT / "sleepd" / "doctor").glob("*.py"), *(ROOT / "sleepd" / "cli").glob("*.py"))
_ID = re.compile(r"(daemon|host|gpu|server|model|unit|try)\.[a-z0-9-]+")


def test_the_page_is_what_the_generator_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == doctor_page(page), "write it anew: python -m sleepd.doctor_doc docs/doctor.md"


def test_every_check_that_is_told_is_in_the_table_and_every_one_of_the_table_is_told() -> None:
    told = {"daemon.role"}  # by sleepd/api/doctor.py, which knows who asks
    for path in TOLD_IN:
        if path.name in ("checks.py",):
            continue
        words = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        told |= {word for word in words if isinstance(word, str) and _ID.fullmatch(word)}
    assert told == CHECKS.keys()


def test_every_trap_is_an_entry_of_the_failure_modes() -> None:
    entries = set(re.findall(r"\bF\d+\b", (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8")))
    assert {trap.entry for trap in TRAPS} <= entries


def test_the_page_says_of_every_entry_of_the_failure_modes_whether_it_is_looked_for() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## Which of the failure modes")[2].partition("\n## ")[0]
    looked_for, others = page.split("The others lie")
    named = set(map(int, re.findall(r"\bF(\d+)\b", looked_for)))
    for first, last in re.findall(r"\bF(\d+)(?:\s+to\s+F(\d+))?", others):
        of_range = set(range(int(first), int(last or first) + 1))
        assert not named & of_range, "either one or the other"
        named |= of_range
    entries = re.findall(r"^\| F(\d+) \|", (ROOT / "docs" / "failure-modes.md").read_text("utf-8"), re.MULTILINE)
    assert named == set(map(int, entries))
