"""What a replay costs and whom it keeps waiting: counted as it happens, from a moment on."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from sleepd.core.units import GIB, Bytes, Seconds
from sleepd.replay.energy import Energy
from sleepd.replay.hosts import Host
from sleepd.replay.servers import Server

HOUR_S: Seconds = 3600.0


@dataclass(frozen=True, slots=True)
class Switch:
    """A sleep or a wake that came to its end. `level`: to which it fell asleep, or from which it was woken."""

    at_s: Seconds
    model: str
    what: str
    level: int
    took_s: Seconds
    cause: str


class Span(NamedTuple):
    """A model's memory was held (`level` 0), or it slept at this level, from `since_s` to `until_s`."""

    since_s: Seconds
    until_s: Seconds
    level: int


@dataclass(slots=True)
class ModelAccount:
    """One model's. `waits_s` are those of requests that were held and then served."""

    requests: int = 0
    served: int = 0
    waits_s: list[Seconds] = field(default_factory=list)
    refused: int = 0
    """Turned away: the queue was full, there was no room, or the wait was longer than allowed."""
    wakes: Counter[int] = field(default_factory=Counter)
    sleeps: Counter[int] = field(default_factory=Counter)
    held_s: Seconds = 0.0
    """Its weights and cache lay on its GPUs for so long."""
    gpu_gib_s: float = 0.0
    host_gib_s: float = 0.0


class Account:
    """Counts what happens from `from_s` on; before it, only who is awake."""

    def __init__(self, host: Host, servers: dict[str, Server], from_s: Seconds) -> None:
        self.from_s = from_s
        self.models = {name: ModelAccount() for name in servers}
        self.switches: list[Switch] = []
        self.spans: dict[str, list[Span]] = {name: [] for name in servers}
        """What each model was, one after the other."""
        self.arrivals: dict[str, list[Seconds]] = {name: [] for name in servers}
        self.energy = Energy(host.watts, (gpu.uuid for gpu in host.gpus), from_s)
        self._servers = servers
        self._held_since_s: dict[str, Seconds] = {}
        self._asleep_since_s = dict.fromkeys(servers, 0.0)
        self._pinned_since_s = {name: 0.0 for name, server in servers.items() if server.pinned}
        self._busy: set[str] = set()

    def came(self, model: str, at_s: Seconds) -> None:
        if at_s >= self.from_s:
            self.models[model].requests += 1
            self.arrivals[model].append(at_s)

    def let_in(self, model: str, came_s: Seconds, now_s: Seconds) -> None:
        if came_s < self.from_s:
            return
        account = self.models[model]
        account.served += 1
        if now_s > came_s:
            account.waits_s.append(now_s - came_s)

    def refuse(self, model: str, came_s: Seconds) -> None:
        if came_s >= self.from_s:
            self.models[model].refused += 1

    def switched(self, switch: Switch) -> None:
        if switch.at_s < self.from_s:
            return
        account = self.models[switch.model]
        (account.wakes if switch.what == "wake" else account.sleeps)[switch.level] += 1
        self.switches.append(switch)

    def moved(self, server: Server, now_s: Seconds) -> None:
        """The server may hold more or less than before."""
        name = server.name
        if server.pinned and name not in self._pinned_since_s:
            self._pinned_since_s[name] = now_s
        held = name in self._held_since_s
        if server.holds == held:
            return
        if server.holds:
            self.energy.hold(name, server.gpus, server.costs.awake_bytes, now_s)
            self._held_since_s[name] = now_s
            self._end_span(name, self._asleep_since_s.pop(name), now_s, server.level)
        else:
            self.energy.release(name, server.gpus, now_s)
            self._release(name, now_s)
            self._asleep_since_s[name] = now_s

    def used(self, server: Server, now_s: Seconds) -> None:
        """The server may have begun to serve, or ended."""
        busy = server.running > 0
        if busy is not (server.name in self._busy):
            (self._busy.add if busy else self._busy.discard)(server.name)
            (self.energy.serve if busy else self.energy.rest)(server.name, server.gpus, now_s)

    def close(self, now_s: Seconds) -> None:
        """The replay is over: what is still held is counted until now."""
        for name in list(self._held_since_s):
            self._release(name, now_s)
        for name, since_s in self._asleep_since_s.items():
            self._end_span(name, since_s, now_s, self._servers[name].level)
        self.energy.close(now_s)
        for name, since_s in self._pinned_since_s.items():
            held_s = max(0.0, now_s - max(since_s, self.from_s))
            self.models[name].host_gib_s += held_s * self._servers[name].costs.backup_bytes / GIB

    def _release(self, name: str, now_s: Seconds) -> None:
        since_s = max(self._held_since_s.pop(name), self.from_s)
        if now_s <= since_s:
            return
        self._end_span(name, since_s, now_s, 0)
        account, server = self.models[name], self._servers[name]
        bytes_: Bytes = server.costs.awake_bytes * len(server.gpus)
        account.held_s += now_s - since_s
        account.gpu_gib_s += (now_s - since_s) * bytes_ / GIB

    def _end_span(self, name: str, since_s: Seconds, now_s: Seconds, level: int) -> None:
        if now_s > max(since_s, self.from_s):
            self.spans[name].append(Span(max(since_s, self.from_s), now_s, level))
