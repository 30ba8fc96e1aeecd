"""What may steer a replay beside the rules: told what happens, it asks for sleeps and wakes."""

from collections.abc import Callable
from typing import Protocol

from sleepd.core.units import Seconds


class Hands(Protocol):
    """What a policy may do, and how it learns what time it is."""

    now_s: Seconds

    def at(self, moment_s: Seconds, then: Callable[[], None]) -> None: ...

    def sleep(self, model: str, level: int = 1) -> None: ...

    def wake(self, model: str) -> None: ...


class Policy(Protocol):
    """Told of every request, of servers that have nothing left to do, and of sleeps and wakes that ended."""

    def begin(self, hands: Hands) -> None: ...

    def arrived(self, model: str) -> None: ...

    def idled(self, model: str) -> None: ...

    def switched(self, model: str, what: str) -> None: ...


class RulesAlone:
    """The rules of the configuration decide; nobody else asks for anything."""

    def begin(self, hands: Hands) -> None:
        pass

    def arrived(self, model: str) -> None:
        pass

    def idled(self, model: str) -> None:
        pass

    def switched(self, model: str, what: str) -> None:
        pass
