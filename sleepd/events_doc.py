"""The table of docs/events.md, written from the kinds of events: `python -m sleepd.events_doc docs/events.md`."""

import sys
from pathlib import Path

from sleepd.core.event_kinds import KINDS, EventKind
from sleepd.made_tables import make_table, with_tables


def events_page(page: str) -> str:
    """Return the page with its table written anew. Raises KeyError for a mark nobody knows."""
    return with_tables(page, {"kinds": _kinds})


def _kinds() -> str:
    rows = [f"| `{name}` | {kind.meaning} | {_data(kind) or '-'} |" for name, kind in KINDS.items()]
    return make_table("kind | what it tells | data", rows)


def _data(kind: EventKind) -> str:
    told = [f"`{key}` {meaning}" for key, meaning in kind.data.items()]
    return "<br>".join([*told, kind.more] if kind.more else told)


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(events_page(_page.read_text(encoding="utf-8")), encoding="utf-8")
