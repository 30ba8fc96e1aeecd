"""The gates: the one piece of shared mutable state. Open or shut, and how many requests are inside.

The loop shuts them inside a turn and opens them by a command; whoever forwards requests only enters and leaves.
All of it happens on the loop's thread with no await between check and count, so nothing can slip through.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Gate:
    """One model's gate."""

    open: bool = False
    in_flight: int = 0

    def enter(self) -> bool:
        """Count one request in and return True, or return False where the gate is shut."""
        if not self.open:
            return False
        self.in_flight += 1
        return True


class Gates:
    """The gates of all models, made when first asked for."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}
        self._on_emptied: Callable[[str], None] = lambda model: None

    def when_emptied(self, tell: Callable[[str], None]) -> None:
        """Call `tell(model)` whenever the last request leaves a shut gate."""
        self._on_emptied = tell

    def of(self, model: str) -> Gate:
        return self._gates.setdefault(model, Gate())

    def leave(self, model: str) -> None:
        """Count one request out."""
        gate = self.of(model)
        gate.in_flight -= 1
        if gate.in_flight == 0 and not gate.open:
            self._on_emptied(model)
