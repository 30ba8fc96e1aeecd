"""The guides: what they tell to type is understood, what they tell to write is valid, what they name exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sleepd.cli.arguments import parse
from sleepd.cli.daemon import COMMANDS
from sleepd.cli.verbs import VERBS
from sleepd.config.load import load_config
from sleepd.core.dialect import NEWEST_READ, PASSED_OVER, RECIPES
from sleepd.doctor.checks import CHECKS

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("guide", "levels", "security", "troubleshooting", "doctor")
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TICKED = re.compile(r"`([^`\n]+)`")
_CHECK = re.compile(r"(daemon|host|gpu|server|model|unit|try)\.[a-z0-9-]+")


def page_of(guide: str) -> str:
    return (DOCS / f"{guide}.md").read_text(encoding="utf-8")


def typed(page: str) -> list[list[str]]:
    """Every command line, in blocks and in the text."""
    lines = [
        line.removeprefix("$ ")
        for kind, block in _FENCED.findall(page)
        if kind in ("sh", "console")
        for line in block.splitlines()
    ]
    lines += _TICKED.findall(_FENCED.sub("", page))
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("sleepctl ", "sleepd "))]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_is_understood(guide: str) -> None:
    for command in typed(page_of(guide)):
        if command[0] == "sleepctl" and len(command) == 2:
            assert command[1] in {verb.name for verb in VERBS}
        elif command[0] == "sleepctl":
            assert parse(command[1:]).verb.name == command[1]
        else:
            assert command[1] in COMMANDS, command


def test_guides_tell_commands_at_all() -> None:
    assert sum(len(typed(page_of(guide))) for guide in GUIDES) > 40


@pytest.mark.parametrize("guide", GUIDES)
def test_every_configuration_is_valid(guide: str, tmp_path: Path) -> None:
    """All blocks of a page together, as the reader who follows it has them."""
    blocks = [block for kind, block in _FENCED.findall(page_of(guide)) if kind == "toml"]
    (tmp_path / "conf.d").mkdir()
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("somebody:a-key-of-theirs\n")
    known = set(re.findall(r"^\[models\.([\w-]+)\]", "\n".join(blocks), re.MULTILINE))
    for number, block in enumerate(blocks):
        block = block.replace("/etc/sleepd/gateway-keys", str(keys))
        (tmp_path / "conf.d" / f"{number:02}.toml").write_text(block)
    load_config(tmp_path, environ={})
    assert guide != "guide" or len(known) == 5


@pytest.mark.parametrize("guide", [*GUIDES, "vllm"])
def test_every_check_that_is_named_exists(guide: str) -> None:
    named = {word for word in _TICKED.findall(_FENCED.sub("", page_of(guide))) if _CHECK.fullmatch(word)}
    assert not {word for word in named - CHECKS.keys() if not word.endswith((".md", ".service"))}


@pytest.mark.parametrize("guide", [*GUIDES, "vllm"])
def test_every_entry_of_the_failure_modes_that_is_named_exists(guide: str) -> None:
    entries = set(re.findall(r"^\| (F\d+) \|", page_of("failure-modes"), re.MULTILINE))
    assert set(re.findall(r"\bF\d+\b", page_of(guide))) <= entries


def test_troubleshooting_has_every_entry_of_the_failure_modes() -> None:
    entries = set(re.findall(r"^\| (F\d+) \|", page_of("failure-modes"), re.MULTILINE))
    assert entries == set(re.findall(r"\bF\d+\b", page_of("troubleshooting")))


def test_every_release_that_was_read_has_its_line_of_what_an_upgrade_to_it_changes() -> None:
    lines = re.findall(r"^\| ((?:0\.\d+(?:\.\d+)?(?:, )?)+) \| ([^|]*)\|", page_of("vllm"), re.MULTILINE)
    gains = {release: gain for releases, gain in lines for release in releases.split(", ")}
    minors = {release.split(".")[1] for release in gains}
    assert minors == {str(minor) for minor in range(8, NEWEST_READ[1] + 1)}
    for recipe in RECIPES:
        if recipe.since != (0,):
            assert "nothing changes" not in gains[".".join(map(str, recipe.since))], "a row of recipes is a change"
    passed_over = {release: re.search(r"not read.* counts as ([\d.]+\d)", gain) for release, gain in gains.items()}
    told = {release: found[1] for release, found in passed_over.items() if found and found[1] != release}
    assert told == {".".join(map(str, release)): other for release, other in PASSED_OVER.items()}
