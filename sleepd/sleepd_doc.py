"""The table of docs/sleepd.md, written from the parser of `sleepd`: `python -m sleepd.sleepd_doc docs/sleepd.md`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from sleepd.cli.daemon import COMMANDS, make_parser
from sleepd.made_tables import make_table, with_tables

_BAR = "\\|"
"""What stands for | in a cell."""


def sleepd_page(page: str) -> str:
    """Return the page with every marked table written anew. Raises KeyError for a mark nobody knows."""
    return with_tables(page, {"commands": _commands})


def _commands() -> str:
    rows = []
    for name, about in COMMANDS.items():
        parser = _parser_of(name)
        options = "<br>".join(_told(action) for action in _options(parser)) or "-"
        rows.append(f"| `{_usage(name, parser)}` | {about} | {options} |")
    return make_table("command | for | options", rows)


def _parser_of(name: str) -> argparse.ArgumentParser:
    for action in make_parser(name)._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = action.choices[name]
            assert isinstance(found, argparse.ArgumentParser)
            return found
    raise KeyError(name)


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    needed = [_shown(action) for action in _options(parser) if action.required]
    return " ".join(["sleepd", name, *needed, "[OPTION]..."])


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.option_strings and action.dest != "help")


def _told(action: argparse.Action) -> str:
    told = (action.help or "").replace("%%", "%")  # as argparse writes a percent sign
    return f"`{_shown(action)}` {told}"


def _shown(action: argparse.Action) -> str:
    flag = action.option_strings[0]
    if action.nargs == 0:
        return flag
    return f"{flag} {action.metavar or _BAR.join(action.choices or ()) or action.dest.upper()}"


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(sleepd_page(_page.read_text(encoding="utf-8")), encoding="utf-8")
