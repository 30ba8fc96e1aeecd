"""What polls would have seen of the servers' use, told when it matters instead of every second.

Before anything is decided, use that was not told yet is told as the poll after it would have: with that poll's moment.
While requests run nothing falls due by itself, so that their end is told by the next poll.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sleepd.core.change_of_mind import next_number_s
from sleepd.core.deadlines import WALL_GRAIN_S
from sleepd.core.events import Event, ModelLooked
from sleepd.core.foresight import terms_of
from sleepd.core.life import State
from sleepd.core.machine import asks_sleeping, is_looked_at
from sleepd.core.model import Known, Now, Settings
from sleepd.core.rules import RequestsBelow
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
    polled: bool = False
    """Its next poll is awaited."""


class Looks:
    """The looks at all servers."""

    def __init__(
        self,
        settings: Settings,
        servers: dict[str, Server],
        timeline: Timeline,
        *,
        world: Callable[[], World],
        now: Callable[[], Now],
        submit: Callable[[Event], None],
    ) -> None:
        self._every_s, self._servers, self._time = settings.poll_every_s, servers, timeline
        self._world, self._now, self._submit = world, now, submit
        self._of = {name: _Told() for name in servers}
        self._unseen: dict[str, None] = {}
        """Models whose last use was not told yet."""
        self._latest_s: dict[str, MonotonicS] = {}
        """Of models whose habits count: when what began unseen must be told, as it would be another silence by then."""
        self._windows = any(isinstance(c, RequestsBelow) for rule in settings.rules for c in rule.conditions)
        """Windows count requests by when they were seen: then all use is told at its poll."""

    def touch(self, model: str) -> None:
        """Something moved inside: a poll would see it."""
        of = self._of[model]
        of.active_s = self._time.now_s
        self._unseen[model] = None
        if not of.in_use and model not in self._latest_s:
            self._latest_s[model] = self._other_silence_s(model)
        if self._windows or (of.in_use and not self._servers[model].in_flight):
            self._await_poll(model)

    @property
    def latest_s(self) -> MonotonicS:
        """When a model must be looked at, should nothing happen until then."""
        return min(self._latest_s.values(), default=math.inf)

    def latest(self) -> tuple[str, ...]:
        """The models that must be looked at by now."""
        return tuple(name for name, at_s in self._latest_s.items() if at_s < self._time.now_s + WALL_GRAIN_S)

    def due(self) -> list[Event]:
        """Looks at the models whose use was not told yet."""
        return [self.at(name) for name in tuple(self._unseen) if self._is_due(name)]

    def at(self, name: str) -> ModelLooked:
        """The look at one model, as the last poll saw it; use is told again as long as it goes on."""
        of, in_use = self._of[name], self._servers[name].in_flight > 0
        seen_s = self._time.now_s if in_use or name not in self._unseen else self._seen_s(name, of)
        of.told_s, of.in_use = self._time.now_s, in_use
        self._latest_s.pop(name, None)
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

    def _other_silence_s(self, name: str) -> MonotonicS:
        """When what is foreseen of a model that is believed silent is another number: a request that came before then
        ends a silence of another length, or in another five minutes, than one that comes later."""
        now, world = self._now(), self._world()
        record = world.models[name]
        known = record.life.state is State.AWAKE and record.account is not None
        terms = terms_of(record, world, now) if known else None
        found_s = None if terms is None else next_number_s(terms, now.mono_s)
        return math.inf if found_s is None else found_s

    def _await_poll(self, model: str) -> None:
        """Let the next poll tell what moved."""
        of = self._of[model]
        if not of.polled:
            of.polled = True
            next_s = (math.floor(self._time.now_s / self._every_s) + 1) * self._every_s
            self._time.at(next_s, lambda: self._poll(model))

    def _poll(self, model: str) -> None:
        self._of[model].polled = False
        if model in self._unseen and is_looked_at(self._world(), model):
            self._submit(self.at(model))
        if model in self._unseen and (self._windows or not self._servers[model].in_flight):
            self._await_poll(model)
