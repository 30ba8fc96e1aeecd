"""What may steer a replay beside the rules: told what happens, it asks for sleeps and wakes."""

from collections.abc import Callable
from typing import Protocol

from sleepd.core.units import Seconds


class Hands(Protocol):
    """What a policy may do, and how it learns what time it is."""

    now_s: Seconds

    def at(self, moment_s: Seconds, then: Callable[[], None], /) -> None:
        """Call `then` at that moment."""

    def sleep(self, model: str) -> None:
        """Ask for its sleep at level 1, as an operator would; one that is in use stays awake."""

    def wake(self, model: str) -> None:
        """Ask for its wake, where it fits beside what is awake; nobody is put to sleep for it."""

    def in_use(self, model: str) -> bool:
        """Whether requests are inside, or wait."""

    def is_awake(self, model: str) -> bool: ...


class Policy:
    """Told of every request, of servers that have nothing left to do, and of sleeps and wakes that ended. As it
    stands it asks for nothing: the rules decide alone."""

    def begin(self, hands: Hands) -> None:
        """The replay begins."""

    def arrived(self, model: str) -> None:
        """A request came."""

    def idled(self, model: str) -> None:
        """The last request left."""

    def woke(self, model: str) -> None:
        """A wake ended, whoever asked for it."""


class Timers:
    """One timer a model: setting it anew voids the one before."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._set: dict[str, int] = {}

    def set(self, model: str, moment_s: Seconds, then: Callable[[str], None]) -> None:
        """Call `then(model)` at that moment unless the timer is set anew, or voided, before."""
        number = self._set[model] = self._set.get(model, 0) + 1

        def due() -> None:
            if self._set[model] == number:
                then(model)

        self._hands.at(moment_s, due)

    def void(self, model: str) -> None:
        self._set[model] = self._set.get(model, 0) + 1


class KeepAlive(Policy):
    """Puts a model to sleep once nothing was asked of it for a while: what the policies here have in common."""

    hands: Hands
    timers: Timers

    def begin(self, hands: Hands) -> None:
        self.hands, self.timers = hands, Timers(hands)

    def arrived(self, model: str) -> None:
        self.timers.void(model)

    def woke(self, model: str) -> None:
        if not self.hands.in_use(model):
            self.idled(model)

    def let_sleep(self, model: str) -> None:
        if self.hands.is_awake(model) and not self.hands.in_use(model):
            self.hands.sleep(model)
