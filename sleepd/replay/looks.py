"""What polls would have seen of the servers' use, told when it matters instead of every second.

Before anything is decided, use that was not told yet is told as the poll after it would have: with that poll's moment.
While requests run nothing falls due by itself, so that their end is told by the next poll. Where habits count, so is
their begin, which ends a silence, and that they still run, before that would be taken for one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sleepd.core.events import Event, ModelLooked
from sleepd.core.machine import asks_sleeping, is_looked_at
from sleepd.core.model import Known, Settings
from sleepd.core.rules import RequestsBelow
from sleepd.core.silences import SHORTEST_S
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.world import World
from sleepd.replay.servers import Server
from sleepd.replay.timeline import Timeline


@dataclass(slots=True)
class _Told:
    """What a model's last look told, and when something moved in it since."""

    active_s: Seconds = 0.0
    told_s: Seconds = -math.inf
    in_use: bool = False
    poll_s: MonotonicS = math.inf
    """The next of its polls that is awaited."""


class Looks:
    """The looks at all servers."""

    def __init__(
        self,
        settings: Settings,
        servers: dict[str, Server],
        timeline: Timeline,
        *,
        world: Callable[[], World],
        submit: Callable[[Event], None],
    ) -> None:
        self._every_s, self._servers, self._time = settings.poll_every_s, servers, timeline
        self._world, self._submit = world, submit
        self._of = {name: _Told() for name in servers}
        self._unseen: dict[str, None] = {}
        """Models whose last use was not told yet."""
        self._windows = any(isinstance(c, RequestsBelow) for rule in settings.rules for c in rule.conditions)
        """Windows count requests by when they were seen: then all use is told at its poll."""
        self._foreseen = frozenset(settings.foreseeing)

    def touch(self, model: str) -> None:
        """Something moved inside: a poll would see it."""
        of = self._of[model]
        of.active_s = self._time.now_s
        self._unseen[model] = None
        ends = of.in_use and not self._servers[model].in_flight
        begins = not of.in_use and model in self._foreseen
        if self._windows or ends or begins:
            self._await_poll(model)

    def due(self) -> list[Event]:
        """Looks at the models whose use was not told yet."""
        return [self.at(name) for name in tuple(self._unseen) if self._is_due(name)]

    def at(self, name: str) -> ModelLooked:
        """The look at one model, as the last poll saw it; use is told again as long as it goes on."""
        of, in_use = self._of[name], self._servers[name].in_flight > 0
        seen_s = self._time.now_s if in_use or name not in self._unseen else self._seen_s(name, of)
        of.told_s, of.in_use = self._time.now_s, in_use
        if not in_use:
            self._unseen.pop(name, None)
        return self.now(name, seen_s)

    def now(self, name: str, asked_s: Seconds) -> ModelLooked:
        server = self._servers[name]
        seen = server.see(ask_sleeping=asks_sleeping(self._world().models[name]))
        return ModelLooked(name, Known(seen, asked_s, asked_s), server.in_flight)

    def _is_due(self, name: str) -> bool:
        of = self._of[name]
        again_s = of.told_s + self._every_s if self._servers[name].in_flight else of.told_s
        return self._time.now_s >= again_s and is_looked_at(self._world(), name)

    def _seen_s(self, name: str, of: _Told) -> MonotonicS:
        """When the poll that saw the last use was asked, if nothing settled since."""
        record = self._world().models[name]
        polled_s = min(math.ceil(of.active_s / self._every_s) * self._every_s, self._time.now_s)
        newest_s = record.seen.asked_at_s if isinstance(record.seen, Known) else 0.0
        return polled_s if polled_s >= max(record.settled_s, newest_s) else self._time.now_s

    def _await_poll(self, model: str, after_s: Seconds = 0.0) -> None:
        """Let the next poll tell what moved, or the next after so long."""
        of = self._of[model]
        next_s = (math.floor((self._time.now_s + after_s) / self._every_s) + 1) * self._every_s
        if next_s < of.poll_s:
            of.poll_s = next_s
            self._time.at(next_s, lambda: self._poll(model, next_s))

    def _poll(self, model: str, at_s: MonotonicS) -> None:
        of = self._of[model]
        if of.poll_s != at_s:
            return  # an earlier one was awaited since
        of.poll_s = math.inf
        if model in self._unseen and is_looked_at(self._world(), model):
            self._submit(self.at(model))
        if model not in self._unseen:
            return
        if self._windows or not self._servers[model].in_flight:
            self._await_poll(model)
        elif model in self._foreseen:
            self._await_poll(model, max(0.0, SHORTEST_S - 2 * self._every_s))
