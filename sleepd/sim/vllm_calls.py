"""Utility calls of the engine core: one thread runs them in order, and steps the scheduler between them.

That single thread is why `/is_sleeping` waits behind a running sleep, and why streams stall meanwhile. Source: vLLM
v1/engine/core.py, run_busy_loop.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

from sleepd.sim.vllm_types import Cancellable, EngineFailure, Scheduler

Done = Callable[[object], None]
"""Gets the call's value, or the EngineFailure that ended it."""
Work = Generator[float, None, object]
LATER = object()  # the work has ended, its answer comes from an idle callback

HANG_S = math.inf


@dataclass(slots=True)
class _Utility:
    work: Work
    done: Done


class UtilityCalls:
    """Calls and their turns. `on_held` is called where a call takes time, `on_idle` where the scheduler may step."""

    def __init__(self, scheduler: Scheduler, on_held: Callable[[], None], on_idle: Callable[[], None]) -> None:
        self._scheduler, self._on_held, self._on_idle = scheduler, on_held, on_idle
        self._queue: deque[_Utility] = deque()
        self._current: _Utility | None = None
        self._timer: Cancellable | None = None
        self._advancing = False
        self._stopped = False
        self._hung = False

    @property
    def busy(self) -> bool:
        """A utility call runs (or hangs) and everything else waits."""
        return self._current is not None

    def queue(self, work: Work, done: Done) -> None:
        """`work` waits for its turn."""
        self._queue.append(_Utility(work, done))

    def call(self, work: Work, done: Done, delay_s: float) -> None:
        """`work` runs when everything asked before it has ended, `delay_s` late (HANG_S: not before release_hang)."""
        self.queue(_delayed(work, delay_s) if delay_s else work, done)
        self._advance()

    def release_hang(self) -> None:
        """A hanging call goes on."""
        if self._hung:
            self._hung = False
            self._advance()

    def step(self) -> None:
        """One turn of the loop, unless a call holds the thread."""
        if not self._stopped and not self.busy and not self._advancing:
            self._on_idle()
            self._advance()  # an idle callback may have been queued

    def stop(self) -> None:
        """No call goes on or begins any more; who asked waits for ever."""
        self._stopped = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advance(self) -> None:
        if self._advancing or self._hung or self._timer is not None:
            return  # a running call's own timer brings it back
        self._advancing = True
        try:
            while not self._stopped and self._run_one():
                if not self._queue:
                    self._on_idle()
        finally:
            self._advancing = False

    def _run_one(self) -> bool:
        """Runs the current or next call as far as it goes now; False when none can go on."""
        if self._current is None:
            if not self._queue:
                return False
            self._current = self._queue.popleft()
        utility = self._current
        result: object
        try:
            delay_s = 0.0
            while delay_s <= 0:
                delay_s = next(utility.work)
            self._on_held()
            self._hung = delay_s == HANG_S
            if not self._hung:
                self._timer = self._scheduler.call_later(delay_s, self._on_timer)
            return False
        except StopIteration as stop:
            result = stop.value
        except EngineFailure as error:
            result = error
        self._current = None
        if result is not LATER:
            utility.done(result)
        return True

    def _on_timer(self) -> None:
        self._timer = None
        self._advance()


def _delayed(work: Work, delay_s: float) -> Work:
    yield delay_s
    return (yield from work)
