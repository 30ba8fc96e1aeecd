"""The requests inside the engine: who runs, who waits, what was generated, and the gauges of the last step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from sleepd.sim.vllm_generation import FinishReason, Generation
from sleepd.sim.vllm_types import Scheduler


class Batch:
    """Running and waiting requests. It knows nothing of memory or pauses: the core says when it may run.

    A plain request costs one timer, a streamed one a timer per token; counters are exact at any moment all the same.
    """

    def __init__(self, scheduler: Scheduler, max_running: int, on_finished: Callable[[], None]) -> None:
        self._scheduler, self._max_running, self._on_finished = scheduler, max_running, on_finished
        self.running: list[Generation] = []
        self.waiting: deque[Generation] = deque()
        self.prompt_tokens = 0
        self._generated_tokens = 0
        self.request_success: Counter[str] = Counter(stop=0, length=0, abort=0, error=0)
        self.gauges = (0, 0)
        """(running, waiting) as of the last step."""

    def everything(self) -> tuple[Generation, ...]:
        """All requests, running first."""
        return (*self.running, *self.waiting)

    def generation_tokens(self) -> int:
        """All tokens so far, those of unfinished requests included."""
        now = self._scheduler.now()
        return self._generated_tokens + sum(g.progress(now) for g in self.everything())

    def admit(self) -> None:
        """Waiting requests join the running ones, oldest first, as far as the limit goes."""
        while self.waiting and len(self.running) < self._max_running:
            self.running.append(self.waiting.popleft())

    def preempt(self) -> None:
        """Running requests wait again, at the front, with what they have said so far."""
        self.waiting.extendleft(reversed(self.running))
        self.running.clear()

    def thaw(self) -> None:
        """Every running request moves on."""
        now = self._scheduler.now()
        for generation in self.running:
            if generation.running_since_s is not None:
                continue
            if not generation.prefilled:
                generation.prefilled = True
                self.prompt_tokens += generation.prompt_tokens
            generation.running_since_s = now
            tokens = 1 if generation.on_token else generation.max_tokens - generation.done_tokens
            tick = self._stream(generation) if generation.on_token else self._finish(generation)
            generation.timer = self._scheduler.call_later(tokens * generation.pace_s, tick)
        self.record_gauges()

    def freeze(self) -> None:
        """Every running request stands still where it got to."""
        now = self._scheduler.now()
        for generation in self.running:
            generation.freeze(now)

    def end(self, generation: Generation, reason: FinishReason, *, tell: bool = True) -> None:
        """The request is out, counted by its reason; an error counts nowhere."""
        if reason in ("abort", "error"):
            generation.freeze(self._scheduler.now())
        if generation in self.running:
            self.running.remove(generation)
        else:
            self.waiting.remove(generation)
        self._generated_tokens += generation.done_tokens
        if reason != "error":
            self.request_success[reason] += 1
        self.record_gauges()
        if tell:
            generation.on_end(generation, reason)

    def record_gauges(self) -> None:
        """The gauges say what is so now; only a step does that, so they are stale while nothing steps."""
        self.gauges = (len(self.running), len(self.waiting))

    def _finish(self, generation: Generation) -> Callable[[], None]:
        def finish() -> None:
            generation.done_tokens = generation.max_tokens
            self.end(generation, generation.reason)
            self._on_finished()

        return finish

    def _stream(self, generation: Generation) -> Callable[[], None]:
        def tick() -> None:
            generation.done_tokens += 1
            self.record_gauges()
            if generation.on_token is not None:
                generation.on_token(generation)
            if generation.running_since_s is None:
                return  # frozen or gone since
            if generation.done_tokens < generation.max_tokens:
                generation.timer = self._scheduler.call_later(generation.pace_s, tick)
            else:
                self.end(generation, generation.reason)
                self._on_finished()

        return tick
