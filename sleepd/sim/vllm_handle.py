"""A request under way, from its coming to its last answer, and the client that may go away meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from sleepd.sim.vllm_types import HttpRequest, Reply, SimAnswer, SimDropped


class CallHandle:
    """A request under way. `abandon()` is the client going away: inference ends, control calls go on."""

    __slots__ = ("_gone", "_reply", "ended", "give_up", "is_load", "lost", "request", "started_s")

    def __init__(self, request: HttpRequest, reply: Reply, started_s: float) -> None:
        self.request, self.started_s, self.ended = request, started_s, False
        self._reply, self._gone = reply, False
        self.give_up: Callable[[], None] | None = None
        """Ends its inference; None where nothing is to be ended."""
        self.is_load = False
        """It counts in `/load`."""
        self.lost = False
        """Its answer does not arrive: the connection breaks instead."""

    def abandon(self) -> None:
        """No more answers come. vLLM drops the client's inference and finishes its control call."""
        if self._gone:
            return
        self._gone = True
        if self.give_up is not None and not self.ended:
            self.give_up()

    def tell(self, answer: SimAnswer) -> None:
        """Hand the client an answer, or what it sees instead."""
        if not self._gone:
            self._reply(SimDropped() if self.lost else answer)
            self._gone = self._gone or self.lost
