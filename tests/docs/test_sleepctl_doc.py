"""docs/sleepctl.md says what the parser takes; the commands it shows can be typed."""

import re
import shlex
from pathlib import Path

from sleepd.cli import codes
from sleepd.cli.arguments import make_parser, parse
from sleepd.cli.verbs import VERBS
from sleepd.sleepctl_doc import sleepctl_page

PAGE = Path(__file__).parents[2] / "docs" / "sleepctl.md"


def test_the_page_is_what_the_generator_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == sleepctl_page(page), "write it anew: python -m sleepd.sleepctl_doc docs/sleepctl.md"


def test_every_command_that_is_shown_can_be_typed() -> None:
    shown = re.findall(r"^(?:\$ )?sleepctl (.*?)(?: &&.*|  +#.*| \|.*|)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(shown) >= 9
    for line in shown:
        words = shlex.split(line)
        assert parse(words).verb.name == words[0]


def test_the_help_of_every_verb_fits_a_terminal() -> None:
    assert {verb.name for verb in VERBS} == set(re.findall(r"^    (\S+)(?: |$)", make_parser().format_help(), re.M))


def test_every_exit_code_is_told() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+)", PAGE.read_text(encoding="utf-8"), re.M)}
    ours = {value for name, value in vars(codes).items() if name.isupper() and name != "INTERRUPTED"}
    assert told == ours
