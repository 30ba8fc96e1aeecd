"""Who follows the daemon along: each hears of every published turn, of every event, and of requests that waited.

The one seam between decisions and what is told of them. All of it happens on the loop's thread, inside a turn or the
gateway's callbacks: a follower takes notes and returns; what takes longer it does elsewhere.
"""

import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from sleepd.api.daemon import RingEvent
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held

T = TypeVar("T")


class Audience(Generic[T]):
    """Those who hear of one kind of thing. An error of one is told, and keeps nothing from the others."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._listeners: list[Callable[[T], None]] = []
        self._complain = complain
        self._complained: set[Callable[[T], None]] = set()

    def add(self, listener: Callable[[T], None]) -> None:
        self._listeners.append(listener)

    def hear(self, what: T) -> None:
        for listener in self._listeners:
            try:
                listener(what)
            except Exception as error:
                if listener not in self._complained:  # once: it may be wrong about every turn from now on
                    self._complained.add(listener)
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    self._complain(f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})")


class Followers:
    """`turns` hear of published turns, `events` of everything told, `waits` of requests that the gateway held."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self.turns: Audience[Published] = Audience(complain)
        self.events: Audience[RingEvent] = Audience(complain)
        self.waits: Audience[Held] = Audience(complain)
