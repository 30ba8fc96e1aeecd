"""The gates: the one piece of shared mutable state. Open or shut, and how many requests are inside.

The loop shuts them inside a turn and opens them by a command; whoever forwards requests only enters and leaves.
All of it happens on the loop's thread with no await between check and count, so nothing can slip through.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sleepd.core.life import State
from sleepd.core.record import serves
from sleepd.core.world import World


@dataclass(slots=True)
class Gate:
    """One model's gate."""

    open: bool = False
    in_flight: int = 0
    entered: int = 0
    """How many were let in since the daemon began: what comes and goes between two looks is not overlooked."""
    withheld: int = 0
    """How many dropped turns had shut it by a fact that is still to be judged again."""
    emptied: Callable[[], None] = lambda: None
    """Told whenever the last request leaves a shut gate."""

    def enter(self) -> bool:
        """Count one request in and return True, or return False where the gate is shut."""
        if not self.open:
            return False
        self.in_flight += 1
        self.entered += 1
        return True

    def leave(self) -> None:
        """Count one request out."""
        self.in_flight -= 1
        if self.in_flight == 0 and not self.open:
            self.emptied()


class Gates:
    """The gates of all models, made when first asked for."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}
        self._on_emptied: Callable[[str], None] = lambda model: None
        self._on_opened: Callable[[str], None] = lambda model: None

    def when_emptied(self, tell: Callable[[str], None]) -> None:
        """Call `tell(model)` whenever the last request leaves a shut gate."""
        self._on_emptied = tell

    def when_opened(self, tell: Callable[[str], None]) -> None:
        """Call `tell(model)` whenever a gate opens. It happens inside a turn: it must not wait, nor call back."""
        self._on_opened = tell

    def of(self, model: str) -> Gate:
        gate = self._gates.get(model)
        if gate is None:
            gate = self._gates[model] = Gate(emptied=lambda: self._on_emptied(model))
        return gate

    def open(self, model: str) -> None:
        """Let requests in from now on."""
        gate = self.of(model)
        if not gate.open:
            gate.open = True
            self._on_opened(model)

    def undo(self, shut: Iterable[str], dropped: World) -> tuple[str, ...]:
        """Open what our own choice had shut, and return what a fact had: it stays shut until `judge` is told of it.

        A choice to sleep that could not be recorded is void; that a server is lost or used by others is not.
        """
        kept: list[str] = []
        for model in shut:
            gate, record = self.of(model), dropped.models.get(model)
            if record is None or not (record.life.state is State.DRAINING or record.yields is not None):
                gate.withheld += 1
                kept.append(model)
            elif not gate.withheld:
                self.open(model)
        return tuple(kept)

    def judge(self, models: Iterable[str], world: World) -> None:
        """Open these where a turn that knew all that had shut them found the model awake nonetheless."""
        for model in models:
            gate, record = self.of(model), world.models.get(model)
            gate.withheld -= 1
            if not gate.withheld and record is not None and serves(record):
                self.open(model)
