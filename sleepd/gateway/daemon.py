"""What the gateway needs of the daemon; the engine's loop, its gates and the composition root provide it."""

from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sleepd.core.commands import Answer
from sleepd.core.model import Now
from sleepd.core.units import Seconds
from sleepd.core.wishes import WakeAsked
from sleepd.core.world import World


class HeldEnd(StrEnum):
    """What became of a request that was held for its model."""

    SERVED = "served"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    LEFT = "left"
    """Its client left while it waited."""


@dataclass(frozen=True, slots=True)
class Held:
    """A request that was held, once it is no more."""

    model: str
    waited_s: Seconds
    end: HeldEnd
    traceparent: str = ""
    """The client's trace context (W3C Trace Context, section 3.2), as it came."""


class Gate(Protocol):
    """One model's gate: the only state that both the gateway and the daemon's decisions touch."""

    open: bool
    in_flight: int

    def enter(self) -> bool:
        """Count one request in and return True, or return False where the gate is shut."""

    def leave(self) -> None:
        """Count one request out."""


class Daemon(Protocol):
    @property
    def world(self) -> World: ...

    def now(self) -> Now: ...

    def gate(self, model: str) -> Gate: ...

    def when_opened(self, tell: Callable[[str], None]) -> None:
        """Call `tell(model)` whenever that model's gate opens, inside the turn that opens it: it must not wait."""

    async def ask(self, make: Callable[[int], WakeAsked]) -> Answer:
        """Return the one answer to `make(waiter_id)`. Cancelling the await withdraws the wish."""

    def attend(self, waiter: int, model: str, *, attended: bool) -> None:
        """Say whether anybody still waits behind a wish that was made: while nobody does, it costs no other model its
        turn."""

    def hold(self, model: str, who: str) -> Future[Answer] | None:
        """Keep the model awake for 30 s from now at least, since `who` sends its request past us. Returns None where
        that is so already, else a future that is done once it stands or is refused."""

    def held(self, held: Held) -> None:
        """Hear of a request that waited, once it does not any more: it must not wait."""

    def eta_s(self, model: str) -> Seconds | None:
        """Seconds until the model would be awake if asked now, from learned durations; None where unknown."""

    def come_back_s(self, model: str) -> Seconds | None:
        """Seconds until whoever waited in vain should ask again: by then its turn is near, or the model awake; None
        where unknown."""

    def reason(self, model: str) -> str:
        """One sentence: why the model is in its state."""

    def answered(self, model: str, outcome: str) -> None:
        """A request is over. `outcome`: the class of its server's status ("2xx"), the code of a refusal of our own,
        "broken" where the answer broke off, "client_left" where its client did not wait for the end. `model` is empty
        where none was found. Called for every request: it must be cheap."""
