"""The tables of docs/sleepctl.md, written from the table of verbs: `python -m sleepd.sleepctl_doc docs/sleepctl.md`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sleepd.cli.arguments import usage_of
from sleepd.cli.verbs import COMMON, VERBS, Option
from sleepd.made_tables import make_table, with_tables


def sleepctl_page(page: str) -> str:
    """Return the page with every marked table written anew. Raises KeyError for a mark nobody knows."""
    return with_tables(page, _TABLES)


def _verbs() -> str:
    rows = []
    for verb in VERBS:
        usage = "<br>".join(f"`{line.strip()}`" for line in usage_of(verb).replace("|", "\\|").splitlines())
        options = "<br>".join(_told(option) for option in verb.options) or "-"
        rows.append(f"| {usage} | {verb.help} | {options} |")
    return make_table("command | for | options", rows)


def _common() -> str:
    return make_table("option | for", [f"| `{_shown(option)}` | {option.help} |" for option in COMMON])


def _told(option: Option) -> str:
    return f"`{_shown(option)}` {option.help}"


def _shown(option: Option) -> str:
    return f"{option.flag} {option.metavar}".strip()


_TABLES: Mapping[str, Callable[[], str]] = {"verbs": _verbs, "common": _common}

if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(sleepctl_page(_page.read_text(encoding="utf-8")), encoding="utf-8")
