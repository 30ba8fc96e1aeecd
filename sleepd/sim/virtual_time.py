"""Virtual time: a heap of calls to come. Running it jumps from one to the next, so hours pass in a moment."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from sleepd.core.units import Seconds


@dataclass(slots=True)
class Pending:
    """A call that lies in the future."""

    run: Callable[[], None] | None

    def cancel(self) -> None:
        self.run = None


@dataclass(slots=True)
class VirtualTime:
    """Seconds since the simulation began, and what happens when."""

    now_s: Seconds = 0.0
    _heap: list[tuple[Seconds, int, Pending]] = field(default_factory=list)
    _order: int = 0

    def now(self) -> Seconds:
        return self.now_s

    def call_later(self, delay_s: Seconds, fn: Callable[[], None], /) -> Pending:
        """Run `fn` once, `delay_s` from now; calls of the same moment run in the order they were made."""
        pending = Pending(fn)
        self._order += 1
        heapq.heappush(self._heap, (self.now_s + max(0.0, delay_s), self._order, pending))
        return pending

    def run_until(self, end_s: Seconds) -> None:
        """Let everything happen that is due up to `end_s`."""
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, pending = heapq.heappop(self._heap)
            if pending.run is not None:
                pending.run()
        self.now_s = max(self.now_s, end_s)
