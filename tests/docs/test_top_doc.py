"""docs/top.md and the help on the screen tell every key, and no others."""

import re
from pathlib import Path

from sleepd.cli.top.keys import ANYWHERE, ON_MODEL
from sleepd.cli.top.panes import HELP

PAGE = (Path(__file__).parents[2] / "docs" / "top.md").read_text(encoding="utf-8")
KEYS = {key for key in (*ANYWHERE, *ON_MODEL) if len(key) == 1} | {"q", "R"}


def test_the_page_tells_every_key() -> None:
    table = PAGE.partition("## Keys")[2].partition("What hurts")[0]
    told = re.findall(r"`(.)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| ")))
    assert set(told) - {"1", "2", "f", "F"} == KEYS


def test_the_help_on_the_screen_tells_every_key() -> None:
    words = {word for keys, _ in HELP for word in keys.split()}
    assert words >= KEYS


def test_the_picture_stands_alone() -> None:
    picture = (Path(__file__).parents[2] / "docs" / "img" / "top.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg")
    assert "url(http" not in picture
    assert "src:" not in picture
