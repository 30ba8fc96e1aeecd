"""Clients of the gateway in virtual time: their requests are held, first come first let in, until the gate opens.

What sleepd/gateway does with sockets, without them: one wish for all who wait for a model, a limit to each one's wait,
everything lost with the daemon.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.model import CauseKind
from sleepd.core.units import Seconds
from sleepd.core.wishes import ASK_AGAIN_S, GOES_ON_S, WISH_S, AttendanceChanged, WakeAsked
from sleepd.sim.virtual_time import Pending
from sleepd.sim.world import VirtualDaemon


class Fate(StrEnum):
    SERVED = "served"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    LEFT = "left"
    """Its client hung up while it was held."""
    LOST = "lost"
    """The daemon died under it, or was not there."""


@dataclass(slots=True, eq=False)
class Request:
    """One request. `begin` sends it to the server once it is let in and calls back when it is answered; `ended` hears
    what became of it, and how long it waited at its gate."""

    model: str
    begin: Callable[[Callable[[], None]], None]
    ended: Callable[[Fate, Seconds], None]
    came_s: Seconds = 0.0
    timer: Pending | None = None


class Callers:
    """Everybody's requests to one daemon, over all its lives."""

    def __init__(self, daemon: VirtualDaemon) -> None:
        self._daemon, self._time = daemon, daemon.time
        self.held: dict[str, list[Request]] = {name: [] for name in daemon.servers}
        self._inside: set[Request] = set()
        self._wishes: dict[str, int] = {}
        self._go_on_until_s: dict[str, float] = {}
        daemon.opened = self._release
        daemon.died = self._lose_all

    def send(self, request: Request) -> None:
        """The request is at its model's gate."""
        request.came_s = self._time.now()
        if not self._daemon.alive:
            request.ended(Fate.LOST, 0.0)
        elif self._daemon.gates.of(request.model).enter():
            self._begin(request)
        else:
            spec = self._daemon.settings.models[request.model]
            request.timer = self._time.call_later(spec.max_wait_s, lambda: self._end(request, Fate.TIMED_OUT))
            self.held[request.model].append(request)
            if len(self.held[request.model]) == 1 and request.model in self._wishes:
                self._daemon.submit(AttendanceChanged(self._wishes[request.model], request.model, attended=True))
            self._wish(request.model)

    def leave(self, request: Request) -> None:
        """Its client hangs up; where it was the last one that was held, nobody wants the model any more, unless others
        were told to come back."""
        if request in self.held[request.model]:
            self._take_out(request)
            request.ended(Fate.LEFT, self._time.now() - request.came_s)
            self._end_wish(request.model)

    def _begin(self, request: Request) -> None:
        waited_s, gate = self._time.now() - request.came_s, self._daemon.gates.of(request.model)
        self._inside.add(request)

        def answered() -> None:
            gate.leave()
            if request in self._inside:
                self._inside.remove(request)
                request.ended(Fate.SERVED, waited_s)

        request.begin(answered)

    def _take_out(self, request: Request) -> None:
        self.held[request.model].remove(request)
        if request.timer is not None:
            request.timer.cancel()

    def _end(self, request: Request, fate: Fate) -> None:
        """It waits no more."""
        self._take_out(request)
        request.ended(fate, self._time.now() - request.came_s)
        self._go_on_until_s[request.model] = self._time.now() + GOES_ON_S
        self._end_wish(request.model)

    def _end_wish(self, model: str) -> None:
        """Withdraw the wish if nobody is held any more: at once, or once nobody has to find it any more."""
        waiter, left_s = self._wishes.get(model), self._go_on_until_s.get(model, 0.0) - self._time.now()
        if self.held[model] or waiter is None:
            return
        if left_s <= 0:
            self._withdraw(model)
            return
        self._daemon.submit(AttendanceChanged(waiter, model, attended=False))
        self._time.call_later(left_s, lambda: self._expire(model, waiter))

    def _expire(self, model: str, waiter: int) -> None:
        """Nobody came back for what this wish was about."""
        if not self.held[model] and self._wishes.get(model) == waiter:
            self._withdraw(model)

    def _release(self, model: str) -> None:
        """The gate has opened: everybody is let in, in the next moment."""
        self._time.call_later(0.0, lambda: self._let_in(model))

    def _let_in(self, model: str) -> None:
        for request in list(self.held[model]):
            if not self._daemon.gates.of(model).enter():
                return
            self._take_out(request)
            self._begin(request)
        self._withdraw(model)

    def _lose_all(self) -> None:
        """The daemon is gone, and every connection with it; what the servers were sent they answer to nobody."""
        self._wishes.clear()
        for model in self.held:
            for request in list(self.held[model]):
                self._end(request, Fate.LOST)
        inside, self._inside = self._inside, set()
        for request in inside:
            request.ended(Fate.LOST, 0.0)

    # the wish

    def _wish(self, model: str) -> None:
        if model in self._wishes or not self.held[model] or not self._daemon.alive:
            return

        def ask(waiter: int) -> WakeAsked:
            return WakeAsked(waiter, model, "client", WISH_S, cause=CauseKind.REQUEST)

        self._wishes[model] = self._daemon.ask(ask, lambda answer: self._answered(model, answer))

    def _answered(self, model: str, answer: Answer) -> None:
        self._wishes.pop(model, None)
        if answer.kind is AnswerKind.REFUSED:
            for request in list(self.held[model]):
                self._end(request, Fate.REFUSED)
        self._time.call_later(ASK_AGAIN_S, lambda: self._wish(model))

    def _withdraw(self, model: str) -> None:
        waiter = self._wishes.pop(model, None)
        if waiter is not None and self._daemon.alive:
            self._daemon.leave(waiter, model)
