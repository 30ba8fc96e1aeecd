"""What the kernel's OOM killer did in servers' cgroups, to tell of a death what it was.

Source: kernel, Documentation/admin-guide/cgroup-v2.rst, memory.events: `oom_kill` counts processes of the cgroup and of
all below it that any OOM killer ended. systemd removes a unit's cgroup as it ends: then only what it lay in can tell.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sleepd.adapters.cgroup_files import read_small

_KILLS = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(slots=True)
class _Counted:
    """Of one process: its cgroups as they counted when it was first seen, and what they lie in as it last did."""

    pids: Sequence[int]
    own: dict[Path, int] = field(default_factory=dict)
    above: dict[Path, int] = field(default_factory=dict)


class OomKills:
    """Remembers the counts of every server's cgroups, by its model's name, from look to look."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._of: dict[str, _Counted] = {}

    def note(self, name: str, groups: Iterable[Path], pids: Sequence[int]) -> None:
        """The server is alive: what is counted from now on may be the end of it."""
        known = self._of.get(name)
        if known is None or known.pids != pids:
            known = self._of[name] = _Counted(pids)
        for group in groups:
            if (count := _count(group)) is not None:
                known.own.setdefault(group, count)
            if group != self._root and (count := _count(group.parent)) is not None:
                known.above[group.parent] = count

    def told(self, name: str) -> str:
        """The server is gone: what was counted since, as a sentence; empty where nothing was, or nothing can be read.
        Whoever is noted next is another process."""
        known = self._of.pop(name, None)
        if known is None:
            return ""
        for group, before in known.own.items():
            now = _count(group)
            if now is None:
                above = _count(group.parent)
                if above is not None and above > known.above.get(group.parent, above):
                    return f"the kernel's OOM killer struck in {self._name(group.parent)} as it ended"
            elif now > before:
                return f"the kernel's OOM killer ended a process of {self._name(group)}"
        return ""

    def _name(self, group: Path) -> str:
        return "/" if group == self._root else str(group.relative_to(self._root))


def _count(group: Path) -> int | None:
    """How many were killed in it; None where that is not told."""
    try:
        found = _KILLS.search(read_small(group / "memory.events"))
    except OSError:
        return None
    return int(found[1]) if found else None
