"""Virtual time of a replay: what is to happen when."""

import heapq
import math
from collections.abc import Callable

from sleepd.core.units import Seconds


class Timeline:
    """Seconds since the trace began; it jumps from one moment to the next."""

    def __init__(self) -> None:
        self.now_s: Seconds = 0.0
        self._heap: list[tuple[Seconds, int, Callable[[], None]]] = []
        self._order = 0

    @property
    def next_s(self) -> Seconds:
        """When something happens next; infinite where nothing does."""
        return self._heap[0][0] if self._heap else math.inf

    def at(self, moment_s: Seconds, then: Callable[[], None]) -> None:
        """Call `then` at that moment; of one moment, in the order of asking."""
        self._order += 1
        heapq.heappush(self._heap, (max(moment_s, self.now_s), self._order, then))

    def run_next(self) -> None:
        """It is the next moment, and what waited for it happens."""
        self.now_s, _, then = heapq.heappop(self._heap)
        then()
