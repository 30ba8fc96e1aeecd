"""What a server's cgroup holds, and how much room the limits above it leave. cgroup v2 only.

Source: kernel, Documentation/admin-guide/cgroup-v2.rst ("Memory Interface Files": memory.current, memory.max,
memory.high, memory.stat). `file` of memory.stat counts shmem, where CUDA's pinned host memory is charged; what the
kernel can take back without anybody's help is active_file + inactive_file, which do not.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from sleepd.adapters.cgroup_files import read_small
from sleepd.adapters.oom_kills import OomKills
from sleepd.adapters.threads import WorkThread
from sleepd.core.model import ModelSpec
from sleepd.core.seen import MemoryLimit, UnitMemory
from sleepd.core.units import Bytes

_RECLAIMABLE = ("active_file", "inactive_file")
_KEPT = ("anon", "shmem")
_LIMITS = ("memory.max", "memory.high")


_STAT = re.compile(rb"^(%b) (\d+)$" % "|".join((*_RECLAIMABLE, *_KEPT)).encode(), re.MULTILINE)
_PATTERN = re.compile(r"[*?[]")


class CgroupMemory:
    """Reads the memory of servers' cgroups below one root; nothing where the host has no cgroup v2."""

    def __init__(self, cgroup_root: Path, proc_root: Path = Path("/proc")) -> None:
        self._root, self._proc = cgroup_root, proc_root
        self._there = False
        self._kills = OomKills(cgroup_root)
        self._thread = WorkThread("cgroups")

    def look(self, spec: ModelSpec, pids: Sequence[int]) -> asyncio.Future[UnitMemory | None]:
        """Return what will become of `read` in a thread that all servers share: one for each look would cost more than
        the reading."""
        return self._thread.do(partial(self.read, spec, pids))

    def killed(self, spec: ModelSpec) -> asyncio.Future[str]:
        """Return what will become of a sentence on what the kernel's OOM killer did to the server since it was last
        read; empty where it did nothing, or none of it can be seen."""
        return self._thread.do(partial(self._kills.told, spec.name))

    def read(self, spec: ModelSpec, pids: Sequence[int]) -> UnitMemory | None:
        """Return what the server's unit holds and the tightest limit it lies under; None where that cannot be read.

        Without `unit` and `cgroup` it is the cgroup its first process is in, which may hold others too: then the limits
        count, and growth says nothing (`own` False). A few small files, read where it is called.
        """
        own = self._own_groups(spec, pids)
        groups = own or tuple(self._group_of(pids))
        self._kills.note(spec.name, groups, pids)
        found = [seen for group in groups if (seen := self._read_group(group, own=bool(own))) is not None]
        if not found:
            return None
        # Several containers are one server: their bytes add up, and the tightest limit of any binds.
        tightest = min(found, key=lambda seen: seen.headroom_bytes if seen.limit_bytes is not None else 1 << 62)
        return UnitMemory(
            used_bytes=sum(seen.used_bytes for seen in found),
            kept_bytes=sum(seen.kept_bytes for seen in found),
            own=bool(own),
            limit_bytes=tightest.limit_bytes,
            limit_used_bytes=tightest.limit_used_bytes,
            limited_by=tightest.limited_by,
        )

    def limits(self, spec: ModelSpec, pids: Sequence[int]) -> tuple[MemoryLimit, ...]:
        """Return every limit at or above the server's cgroups, the nearest first; none where there is no limit, or no
        cgroup to be seen. Small files, read where it is called."""
        groups = self._own_groups(spec, pids) or tuple(self._group_of(pids))
        return tuple(dict.fromkeys(limit for group in groups for limit in self._limits_above(group)))

    @property
    def is_there(self) -> bool:
        """Whether this host has a tree of cgroup v2, as it is decided when it boots."""
        if not self._there:
            self._there = (self._root / "cgroup.controllers").is_file()
        return self._there

    def refusal(self) -> str:
        """Why limits cannot be seen on this host, as a sentence; empty where they can."""
        if self.is_there:
            return ""
        found = "cgroup v1" if (self._root / "memory").is_dir() else "no cgroup tree"
        return (
            f"wanted cgroup v2 in {self._root}, found {found}: memory limits of units are not seen, and only available"
            " host RAM bounds level 1 backups; boot with systemd.unified_cgroup_hierarchy=1, or check [host]"
            " cgroup_root"
        )

    def _own_groups(self, spec: ModelSpec, pids: Sequence[int]) -> tuple[Path, ...]:
        """Its configured cgroups or its unit's; deep in slices, or with a user's manager, by a process in it."""
        found = tuple(group_dirs(self._root, spec))
        if found or spec.cgroup or not spec.unit:
            return found
        return tuple(a for group in self._group_of(pids) for a in (group, *group.parents) if a.name == spec.unit)

    def _group_of(self, pids: Sequence[int]) -> Iterator[Path]:
        for pid in pids[:1]:
            try:
                lines = (self._proc / str(pid) / "cgroup").read_text(errors="replace").splitlines()
            except OSError:
                return
            # proc(5): the line of cgroup v2 begins "0::".
            for path in (line.removeprefix("0::") for line in lines if line.startswith("0::")):
                group = self._root / path.strip("/")
                if ".." not in group.parts and group.is_dir():
                    yield group

    def _read_group(self, group: Path, *, own: bool) -> UnitMemory | None:
        held = _held_bytes(group)
        if held is None:
            return None
        # What a group holds is dear to read: only where something limits it.
        held_by: dict[str, tuple[Bytes, Bytes] | None] = {self._name(group): held}
        found: list[tuple[MemoryLimit, Bytes]] = []
        for limit in self._limits_above(group):
            if limit.group not in held_by:
                held_by[limit.group] = _held_bytes(self._root / limit.group.strip("/"))
            of_group = held_by[limit.group]
            found.append((limit, of_group[0] if of_group is not None else held[0]))
        if not found:
            return UnitMemory(*held, own)
        tightest, used = min(found, key=lambda one: one[0].limit_bytes - one[1])
        by = f"{tightest.file} of {tightest.group}"
        return UnitMemory(*held, own, limit_bytes=tightest.limit_bytes, limit_used_bytes=used, limited_by=by)

    def _limits_above(self, group: Path) -> Iterator[MemoryLimit]:
        """The root's own limits are the last: a host's root has no such files, a container's is the container."""
        for above in (group, *group.parents):
            for name in _LIMITS:
                if (limit := _read_bytes(above / name)) is not None:
                    yield MemoryLimit(self._name(above), name, limit)
            if above == self._root:
                return

    def _name(self, group: Path) -> str:
        return "/" if group == self._root else str(group.relative_to(self._root))


def group_dirs(root: Path, spec: ModelSpec) -> Iterator[Path]:
    """The directories of a server's configured cgroup or unit; none where neither is set or there."""
    try:
        if spec.cgroup and not _PATTERN.search(spec.cgroup):
            named = root / spec.cgroup.strip("/")
            yield from (named,) if named.is_dir() else ()
        elif spec.cgroup:
            yield from (p for p in root.glob(spec.cgroup.strip("/")) if p.is_dir())
        elif spec.unit:
            # A template instance lies in a slice of its own: vllm@a.service in system-vllm.slice.
            for pattern in (spec.unit, f"*.slice/{spec.unit}", f"*.slice/*.slice/{spec.unit}"):
                yield from (p for p in root.glob(pattern) if p.is_dir())
    except (OSError, ValueError):
        return


def _held_bytes(group: Path) -> tuple[Bytes, Bytes] | None:
    """(used without reclaimable file pages, anon and shmem, swapped out or not); None where the memory controller tells
    nothing here."""
    try:
        current = int(read_small(group / "memory.current"))
        found = _STAT.findall(read_small(group / "memory.stat"))
        stat = {name.decode(): int(value) for name, value in found}
    except (OSError, ValueError):
        return None
    reclaimable = sum(stat.get(key, 0) for key in _RECLAIMABLE)
    kept = sum(stat.get(key, 0) for key in _KEPT) + (_read_bytes(group / "memory.swap.current") or 0)
    return max(0, current - reclaimable), kept


def _read_bytes(file: Path) -> Bytes | None:
    """A number of bytes; None for "max", and where there is none to read."""
    try:
        return int(read_small(file))
    except (OSError, ValueError):
        return None
