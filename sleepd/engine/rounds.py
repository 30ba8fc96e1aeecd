"""When watches go on: what is due at about the same time falls together, and one timer serves all.

A daemon that wakes up once and looks at twenty servers costs half of one that wakes up twenty times: its code is in the
processor's caches then, and one turn takes all their looks in.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Iterable

from sleepd.core.units import MonotonicS, Seconds
from sleepd.engine.runner import cancelled
from sleepd.ports import Clock

ROUND_SIZE = 32
"""So many looks begin at one moment at most: more would keep whoever asks something of the daemon waiting."""
LATE = 0.1
"""By how much of its length a rest may grow, so that a timer that was early or a look that was hurried falls back into
the rounds of the others."""


class Rounds:
    """Rests until moments of the clock, each under a key, and whoever wants one ended sooner. One rest a key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resting: dict[str, asyncio.Future[bool]] = {}
        self._nudged: set[str] = set()
        self._due: list[tuple[MonotonicS, int, asyncio.Future[bool]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.Task[None] | None = None
        self._timer_s = math.inf
        self._shift: dict[str, float] = {}

    def spread(self, keys: Iterable[str]) -> None:
        """Let these share the rounds from now on, `ROUND_SIZE` in each; all others go with the first."""
        listed = list(keys)
        rounds = math.ceil(len(listed) / ROUND_SIZE)
        self._shift = {key: index // ROUND_SIZE / rounds for index, key in enumerate(listed)}

    def due_s(self, key: str, asked_s: MonotonicS, after_s: Seconds, every_s: Seconds) -> MonotonicS:
        """Return the moment of the last round within `after_s` of `asked_s`, a little later at most. What is to come
        sooner than in a whole round keeps its moment."""
        if after_s < every_s:
            return asked_s + after_s
        shift_s = self._shift.get(key, 0.0) * every_s
        return math.floor((asked_s + after_s + LATE * every_s - shift_s) / every_s) * every_s + shift_s

    async def rest(self, key: str, until_s: MonotonicS) -> bool:
        """Wait until that moment, or until a nudge, one that came since the last rest included; return whether it was
        one."""
        if key in self._nudged:
            self._nudged.discard(key)
            return True
        resting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._resting[key] = resting
        heapq.heappush(self._due, (until_s, next(self._numbers), resting))
        if until_s < self._timer_s:
            self._set_timer(until_s)
        try:
            return await resting
        finally:
            if self._resting.get(key) is resting:
                del self._resting[key]

    def nudge(self, key: str) -> None:
        """End the rest under this key; where there is none, the next."""
        resting = self._resting.get(key)
        if resting is None or resting.done():
            self._nudged.add(key)
        else:
            resting.set_result(True)

    def forget(self, key: str) -> None:
        """Nobody rests under this key any more."""
        self._nudged.discard(key)

    async def stop(self) -> None:
        """End the timer. Whoever rests is cancelled by its owner."""
        if self._timer is not None:
            await cancelled(self._timer)
        self._timer, self._timer_s = None, math.inf
        self._due.clear()

    def _set_timer(self, at_s: MonotonicS) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = at_s
        self._timer = asyncio.create_task(self._wait_until(at_s), name="observer rounds")

    async def _wait_until(self, at_s: MonotonicS) -> None:
        await self._clock.sleep(max(0.0, at_s - self._clock.now().mono_s))
        now_s = max(at_s, self._clock.now().mono_s)
        while self._due and (self._due[0][0] <= now_s or self._due[0][2].done()):
            resting = heapq.heappop(self._due)[2]
            if not resting.done():
                resting.set_result(False)
        self._timer, self._timer_s = None, math.inf
        if self._due:
            self._set_timer(self._due[0][0])
