"""What a reload changed, key by key, for whoever asked for it and for the log."""

from collections.abc import Iterable

from sleepd.config.effective import Effective
from sleepd.config.errors import shorten
from sleepd.config.settings import Config

AT_START = {
    "[daemon]": {"state_dir"},
    "[api]": {"socket", "mode"},
    "[gateway]": {"listen", "socket_mode"},
    "[metrics]": {"listen"},
    "[gpu]": {"backend", "capacity"},
    "[host]": {"proc_root", "cgroup_root"},
    "[tracing]": {"endpoint"},
    "[ui]": {"enabled", "on"},
}
"""What is taken at the start only."""

LINES_LIMIT = 200


def changes(old: Config, new: Config) -> tuple[str, ...]:
    """Return what the new configuration changes of the old one: what came, what went, then each key that differs."""
    before, after = _by_table(old.effective), _by_table(new.effective)
    changed = [f"{_name(table)} added" for table in after if table not in before and _whole(table)]
    changed += [f"{_name(table)} removed" for table in before if table not in after and _whole(table)]
    for table in [*after, *(table for table in before if table not in after)]:
        then, now = before.get(table, {}), after.get(table, {})
        if _whole(table) and not (then and now):
            continue
        if not _whole(table) and not (_owner(table) in before and _owner(table) in after):
            continue
        changed += [
            _line(table, key, then.get(key), now.get(key))
            for key in [*now, *(key for key in then if key not in now)]
            if then.get(key) != now.get(key)
        ]
    more = len(changed) - LINES_LIMIT
    return tuple(changed) if more <= 0 else (*changed[:LINES_LIMIT], f"and {more} more")


def _by_table(effective: Iterable[Effective]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for value in effective:
        found.setdefault(value.table, {})[value.key] = value.text
    return found


def _whole(table: str) -> bool:
    """Whether the table is a thing that comes and goes, not part of one."""
    return not table.endswith((".labels]", ".rules]"))


def _owner(table: str) -> str:
    return f"{table.rpartition('.')[0]}]"


def _name(table: str) -> str:
    kind, _, name = table.strip("[]").partition("]] " if table.startswith("[[") else ".")
    return f"{kind.removesuffix('s')} {name}" if name else table


def _line(table: str, key: str, then: str | None, now: str | None) -> str:
    told = f"{table} {key}: {shorten(then or 'not set', 80)} → {shorten(now or 'not set', 80)}"
    return f"{told} (takes effect at the next start)" if key in AT_START.get(table, ()) else told
