"""Three other rules for one GPU that holds one model at a time. They look at nothing and prove nothing: a switch takes
what vLLM's two calls take, and no rule ends what runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contention_side.load import SERVICE_S, Arrival, Outcome

from sleepd.sim.virtual_time import Pending, VirtualTime


@dataclass(slots=True, eq=False)
class Waiting:
    model: str
    came_s: float
    timer: Pending


class Rule:
    """First come, first served: whoever is first in line has its model loaded; who follows for the same comes along."""

    name = "first come, first served"
    at_once = 1 << 30
    """How many may run at once."""

    def __init__(self, names: Sequence[str], switch_s: Callable[[str, str], float], max_wait_s: float) -> None:
        self._switch_s, self._max_wait_s = switch_s, max_wait_s
        self.time, self.outcome = VirtualTime(), Outcome(self.name)
        self._loaded, self._running, self._switching = names[0], 0, False
        self.line: list[Waiting] = []

    def play(self, arrivals: Sequence[Arrival], until_s: float) -> Outcome:
        for arrival in arrivals:
            self.time.call_later(arrival.at_s, lambda arrival=arrival: self._come(arrival))  # type: ignore[misc]
        self.time.run_until(until_s)
        return self.outcome

    def _come(self, arrival: Arrival) -> None:
        timer = self.time.call_later(self._max_wait_s, lambda: self._give_up(waiting))
        waiting = Waiting(arrival.model, self.time.now(), timer)
        self.line.append(waiting)
        self._go_on()

    def _give_up(self, waiting: Waiting) -> None:
        self.line.remove(waiting)
        self.outcome.in_vain[waiting.model] += 1
        self._go_on()

    def _go_on(self) -> None:
        while not self._switching and self.line and self._running < self.at_once:
            first = self.next()
            if first.model == self._loaded:
                self._let_in(first)
            elif not self._running:
                self._switch(first.model)
            else:
                return

    def next(self) -> Waiting:
        """Who is let in next, or has its model loaded."""
        return self.line[0]

    def is_loaded(self, waiting: Waiting) -> bool:
        return waiting.model == self._loaded

    def _let_in(self, waiting: Waiting) -> None:
        waiting.timer.cancel()
        self.line.remove(waiting)
        self.outcome.waits_s[waiting.model].append(self.time.now() - waiting.came_s)
        self._running += 1

        def done() -> None:
            self._running -= 1
            self._go_on()

        self.time.call_later(SERVICE_S, done)

    def _switch(self, to: str) -> None:
        self._switching = True
        self.outcome.switches += 1

        def loaded() -> None:
            self._switching, self._loaded = False, to
            self._go_on()

        self.time.call_later(self._switch_s(self._loaded, to), loaded)


class OneByOne(Rule):
    """A lock around the GPU: one request at a time, its model loaded for it where another was there."""

    name = "switch per request"
    at_once = 1


class LoadedFirst(Rule):
    """llama-swap's: whatever comes for the loaded model is served; another is loaded once nothing is left of it."""

    name = "loaded model first"

    def next(self) -> Waiting:
        return next((w for w in self.line if self.is_loaded(w)), self.line[0])


OTHERS: tuple[type[Rule], ...] = (OneByOne, Rule, LoadedFirst)
