"""A question at a model's gate that came over no listener of the gateway's: it waits in the same queue as requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sleepd.core.units import Seconds
from sleepd.gateway.errors import Refusal

if TYPE_CHECKING:
    from sleepd.gateway.lane import Lane


class Knock:
    """Plain data like an exchange, without a connection. `answered`: None once let through, else why not."""

    __slots__ = ("answered", "counted", "fields", "held_at_s", "lane", "limit_s", "size", "timer", "waited_ms", "who")

    upstream = None
    is_stream = goes_on = False

    def __init__(self, who: str, wait_s: Seconds) -> None:
        self.who, self.limit_s = who, wait_s
        self.answered: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.lane: Lane | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.fields = b""
        self.size = self.counted = self.waited_ms = 0
        self.held_at_s = 0.0

    @property
    def gone(self) -> bool:
        """Whoever asked has left, or has the answer."""
        return self.answered.done()

    def beat(self, now_s: float) -> None:
        """Nobody hears it."""

    def refuse(self, refusal: Refusal) -> None:
        if not self.gone:
            self.answered.set_result(refusal)

    def let_in(self, lane: Lane) -> None:
        lane.answer_gate(self)

    def let_through(self) -> None:
        """The model is awake and held so."""
        if not self.gone:
            self.answered.set_result(None)
