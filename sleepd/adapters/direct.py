"""Who is connected to a server beside this daemon, and for how long nothing has been said.

An idle kept-alive connection is closed by the server itself (uvicorn after 5 s), so one on which nothing moved for
longer holds a request that waits. This process's own connections are told by their inodes in /proc/self/fd.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from sleepd.adapters.sock_diag import TcpSocket, UnixSocket, tcp_sockets, unix_sockets
from sleepd.core.seen import DirectSeen

_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class DirectConnections:
    """Looks in a thread. Of unix sockets the kernel tells no times, so their age counts from the first look."""

    def __init__(
        self,
        tcp: Callable[[], Iterable[TcpSocket]] = tcp_sockets,
        unix: Callable[[], Iterable[UnixSocket]] = unix_sockets,
        own: Callable[[], frozenset[int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tcp, self._unix, self._own, self._clock = tcp, unix, own or own_inodes, clock
        self._first_seen_s: dict[str, dict[int, float]] = {}

    async def look(self, url: str) -> DirectSeen:
        """Return how many connections wait at this address and for how long the quietest of them has."""
        return await asyncio.to_thread(self.read, url)

    def read(self, url: str) -> DirectSeen:
        """The same, at once. Never raises: what cannot be seen is said."""
        try:
            own = self._own()
            if url.startswith("unix:"):
                return self._read_unix(url.removeprefix("unix:"), own)
            return self._read_tcp(url, own)
        except OSError as error:
            return DirectSeen(missing=f"connections to it cannot be seen: {error.strerror or error}")

    def _read_tcp(self, url: str, own: frozenset[int]) -> DirectSeen:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        here = [s for s in self._tcp() if port in (s.local[1], s.remote[1])]
        listening = {s.local[0] for s in here if s.listens and s.local[1] == port}
        addresses = {"localhost": {"127.0.0.1", "::1"}}.get(host, {host})
        if not listening & {*addresses, *_ANY}:
            return DirectSeen(missing=f"connections to it cannot be seen: nobody on this host listens at {url}")
        exact = listening & addresses
        ours = {s.local for s in here if s.remote[1] == port and s.inode in own}

        def is_foreign(s: TcpSocket) -> bool:
            reached = s.local[0] in exact if exact else s.local[0] not in listening
            return not s.listens and s.local[1] == port and s.inode != 0 and reached and s.remote not in ours

        quiet_s = [s.quiet_s for s in here if is_foreign(s)]
        return DirectSeen(len(quiet_s), max(quiet_s, default=0.0))

    def _read_unix(self, path: str, own: frozenset[int]) -> DirectSeen:
        now_s, known = self._clock(), self._first_seen_s.get(path, {})
        here = [s for s in self._unix() if s.path == path and s.peer_inode not in own]
        seen = {s.inode: known.get(s.inode, now_s) for s in here}
        self._first_seen_s[path] = seen
        return DirectSeen(len(seen), max((now_s - s for s in seen.values()), default=0.0))


def own_inodes() -> frozenset[int]:
    """Inodes of the sockets that this process holds."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = _SOCKET.fullmatch(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
        if target:
            found.add(int(target[1]))
    return frozenset(found)
