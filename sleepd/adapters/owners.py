"""Who listens at which address, and who descends from them: one look at all of /proc for everybody who asks meanwhile.

Such a look reads every descriptor of every process. A thousand servers that were looked for one by one would cost a
thousand times that, and the daemon would come up to none of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from sleepd.adapters.threads import in_thread


@dataclass(frozen=True, slots=True)
class Owners:
    """Pids by unix socket and by TCP port as far as the kernel lets us see them, and every process's children."""

    paths: Mapping[str, set[int]] = field(default_factory=dict)
    ports: Mapping[int, set[int]] = field(default_factory=dict)
    children: Mapping[int, set[int]] = field(default_factory=dict)

    def of(self, url: str) -> set[int]:
        """Return who listens at this address, with all descendants."""
        return self.descending(self._at(url))

    def listening(self, pids: Collection[int]) -> list[str]:
        """Return the addresses at which any of these listen, as URLs of this host."""
        unix = [f"unix:{path}" for path, of in self.paths.items() if path.startswith("/") and not of.isdisjoint(pids)]
        tcp = [f"http://127.0.0.1:{port}" for port, of in self.ports.items() if not of.isdisjoint(pids)]
        return sorted(unix) + sorted(tcp)

    def _at(self, url: str) -> Iterable[int]:
        if url.startswith("unix:"):
            return self.paths.get(url.removeprefix("unix:"), ())
        try:
            return self.ports.get(urlsplit(url).port or 0, ())
        except ValueError:
            return ()

    def descending(self, pids: Iterable[int]) -> set[int]:
        """Return these and all their descendants."""
        found: set[int] = set()
        left = list(pids)
        while left:
            pid = left.pop()
            if pid not in found:
                found.add(pid)
                left += self.children.get(pid, ())
        return found


def look_around(parents: Mapping[int, int] | None = None) -> Owners:
    """Return who owns what now; empty where nothing can be seen. Takes milliseconds for every hundred descriptors.

    `parents`: by pid, of whoever has looked at all processes already.
    """
    paths: dict[str, set[int]] = defaultdict(set)
    ports: dict[int, set[int]] = defaultdict(set)
    children: dict[int, set[int]] = defaultdict(set)
    try:
        for found in psutil.net_connections("all"):
            if found.pid is None or not found.laddr:
                continue
            # A unix socket's path is where others have a pair; psutil's stubs know only the pair.
            address: object = found.laddr
            if isinstance(address, str):
                paths[address].add(found.pid)
            elif found.status == psutil.CONN_LISTEN:
                ports[found.laddr.port].add(found.pid)
        if paths or ports:
            for pid, parent in (_read_parents() if parents is None else parents).items():
                children[parent].add(pid)
    except (psutil.Error, OSError, ValueError, RuntimeError):
        return Owners()
    return Owners(paths, ports, children)


def _read_parents() -> Mapping[int, int]:
    return {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}


class SharedLook:
    """Looks around for all who ask. At most one look runs, and whoever asks gets one that began later than that."""

    def __init__(self, look: Callable[[], Owners] = look_around) -> None:
        self._look = look
        self._asked: list[asyncio.Future[Owners]] = []
        self._looking: asyncio.Task[None] | None = None

    async def take(self) -> Owners:
        """Return what was found. Waits for the look that runs and for one more, at most."""
        asked: asyncio.Future[Owners] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._answer_all())
        return await asked

    async def _answer_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                found = await in_thread("owners", self._look)
            except Exception as error:
                for future in asked:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future in asked:
                    if not future.done():
                        future.set_result(found)
