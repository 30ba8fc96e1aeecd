"""The tables of docs/doctor.md, written from those of the code: `python -m sleepd.doctor_doc docs/doctor.md`."""

import sys
from pathlib import Path

from sleepd.doctor.checks import CHECKS
from sleepd.doctor.traps import TRAPS, Trap
from sleepd.made_tables import make_table, with_tables


def doctor_page(page: str) -> str:
    """Return the page with its tables written anew. Raises KeyError for a mark nobody knows."""
    return with_tables(page, {"checks": _checks, "traps": _traps})


def _checks() -> str:
    rows = [f"| `{name}` | {check.eyes} | {check.asks} | {check.remedy} |" for name, check in CHECKS.items()]
    return make_table("check | eyes | asks | where not", rows)


def _traps() -> str:
    rows = [f"| {trap.entry} | {_releases(trap)} | {trap.what} | {trap.source} |" for trap in TRAPS]
    return make_table("entry | releases | what | source", rows)


def _releases(trap: Trap) -> str:
    since = "" if trap.since == (0,) else f"from {'.'.join(map(str, trap.since))}"
    until = "" if trap.until is None else f"before {'.'.join(map(str, trap.until))}"
    return ", ".join(bound for bound in (since, until) if bound) or "all"


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(doctor_page(_page.read_text(encoding="utf-8")), encoding="utf-8")
