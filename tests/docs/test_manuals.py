"""The manuals say what the pages say, all of it; docs/sleepd.md says what the parser takes."""

import re
from pathlib import Path

import pytest

from sleepd import __version__
from sleepd.cli.verbs import VERBS
from sleepd.man_doc import MANUALS, Manual, write_manual
from sleepd.sleepd_doc import sleepd_page

DOCS = Path(__file__).parents[2] / "docs"


def read(manual: Manual) -> str:
    """The manual as plain text: requests and fonts taken away, characters as they are meant."""
    text = re.sub(r"\\f[BIR]", "", write_manual(manual, (DOCS / manual.page).read_text(encoding="utf-8")))
    for written, meant in (("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\&", "")):
        text = text.replace(written, meant)
    return text.replace("\\e", "\\")


def test_the_page_of_sleepd_is_what_the_generator_prints() -> None:
    page = (DOCS / "sleepd.md").read_text(encoding="utf-8")
    assert page == sleepd_page(page), "write it anew: python -m sleepd.sleepd_doc docs/sleepd.md"


@pytest.mark.parametrize("manual", MANUALS, ids=lambda manual: manual.file)
def test_every_word_of_code_in_a_page_stands_in_its_manual(manual: Manual) -> None:
    page = (DOCS / manual.page).read_text(encoding="utf-8")
    page = re.sub(r"^The tables are made from the code.*?\n\n", "", page, flags=re.DOTALL | re.MULTILINE)
    prose, fenced = (
        re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE),
        re.findall(r"^```\w*\n(.*?)^```$", page, re.DOTALL | re.MULTILINE),
    )
    words = [word.replace("\\|", "|") for word in re.findall(r"`([^`\n]+)`", prose)]
    words += [line for block in fenced for line in block.splitlines()]
    text = read(manual)
    assert len(words) > 20
    assert [word for word in words if word not in text] == []


def test_what_begins_with_a_dot_is_no_request_and_a_command_can_be_copied() -> None:
    manual = Manual("x", 1, "about", ("x",), "x.md", "y(1)")
    text = write_manual(manual, "# x\n\n.hidden is `--a-b '\\n'`\n\n| head | more |\n|---|---|\n| `.b` | - |\n")
    assert "\\&.hidden is \\fB\\-\\-a\\-b \\(aq\\en\\(aq\\fR" in text
    assert ".TP\n\\fB.b\\fR" in text


def test_what_no_manual_has_yet_is_refused() -> None:
    with pytest.raises(KeyError, match="no manual has a blockquote yet"):
        write_manual(MANUALS[0], "> said by somebody")


def test_commands_stand_in_the_synopsis_of_the_manual_they_belong_to() -> None:
    text = read(next(manual for manual in MANUALS if manual.name == "sleepctl"))
    assert [verb.name for verb in VERBS if f"sleepctl {verb.name}" not in text] == []


def test_the_package_is_of_the_same_release() -> None:
    changelog = (DOCS.parent / "packaging" / "debian" / "changelog").read_text(encoding="utf-8")
    assert changelog.startswith(f"sleepd ({__version__}) ")
