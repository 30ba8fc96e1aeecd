"""README's start, as it is typed: the blocks of shell of the section, in order; and whether the doctor is content."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
_SECTION = re.compile(r"^## From package to first sleep\n(.*?)^## ", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def start_blocks() -> list[str]:
    """What a reader types, a block for each step that has one."""
    found = _SECTION.search(README.read_text(encoding="utf-8"))
    assert found, "README has no section 'From package to first sleep'"
    return [textwrap.dedent(block) for block in _BLOCK.findall(found[1])]


def troubles(examined: str) -> list[str]:
    """The lines of `sleepctl doctor` that are not ok."""
    return re.findall(r"^(?:warn|fail)  .*$", examined, re.MULTILINE)
