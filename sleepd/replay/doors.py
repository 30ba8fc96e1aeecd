"""Requests at the gates: let in, held for a wake, turned away, served. What the gateway does, without its wire."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.events import Event, GateEmptied
from sleepd.core.model import CauseKind, ModelSpec
from sleepd.core.wishes import ASK_AGAIN_S, GOES_ON_S, WISH_S, AttendanceChanged, CallerGone, WakeAsked
from sleepd.replay.account import Account
from sleepd.replay.policies.base import Policy
from sleepd.replay.servers import Server
from sleepd.replay.timeline import Timeline
from sleepd.replay.trace import Arrival


@dataclass(slots=True)
class _Door:
    """A model's gate, and who waits at it."""

    open: bool = False
    held: deque[Arrival] = field(default_factory=deque)
    waiter: int | None = None


class Doors:
    """The gates of all models. `submit` takes events; `touched` is told of models in which something moved."""

    def __init__(
        self,
        servers: dict[str, Server],
        timeline: Timeline,
        account: Account,
        policy: Policy,
        *,
        queue_limit: int,
        submit: Callable[[Event], None],
        touched: Callable[[str], None],
    ) -> None:
        self._servers, self._time, self._account, self._policy = servers, timeline, account, policy
        self._queue_limit, self._submit, self._touched = queue_limit, submit, touched
        self._doors = {name: _Door() for name in servers}
        self._waiters: dict[int, str] = {}
        self._next_number = 1

    @property
    def anybody_waits(self) -> bool:
        return bool(self._waiters)

    def is_open(self, model: str) -> bool:
        return self._doors[model].open

    def in_use(self, model: str) -> bool:
        """Whether requests are inside, or wait."""
        return self._servers[model].in_flight > 0 or bool(self._doors[model].held)

    def number(self) -> int:
        """A new caller's."""
        self._next_number += 1
        return self._next_number - 1

    def arrive(self, arrival: Arrival, spec: ModelSpec) -> None:
        """A request is let in, held, or turned away."""
        model, door = arrival.model, self._doors[arrival.model]
        self._account.came(model, arrival.at_s)
        self._policy.arrived(model)
        if door.open:
            self._let_in(arrival)
        elif len(door.held) >= self._queue_limit:
            self._account.refuse(model, arrival.at_s)
        else:
            door.held.append(arrival)
            if len(door.held) == 1 and door.waiter is not None:
                self._submit(AttendanceChanged(door.waiter, model, attended=True))
            self._time.at(arrival.at_s + spec.max_wait_s, lambda: self._time_out(arrival))
            self._wish(model)

    def open(self, model: str) -> None:
        """Whoever waits is let in, and whoever comes."""
        door = self._doors[model]
        door.open = True
        while door.held:
            self._let_in(door.held.popleft())

    def shut(self, model: str) -> None:
        self._doors[model].open = False

    def answered(self, answer: Answer) -> None:
        """A wish was answered: refused to all who wait, or to be made again for those who still do."""
        model = self._waiters.pop(answer.waiter, None)
        if model is None:
            return
        door = self._doors[model]
        door.waiter = None
        if answer.kind is AnswerKind.REFUSED:
            while door.held:
                self._account.refuse(model, door.held.popleft().at_s)
        elif door.held:
            self._time.at(self._time.now_s + ASK_AGAIN_S, lambda: self._wish(model))

    def _wish(self, model: str) -> None:
        """Want the model awake, once for all that wait."""
        door = self._doors[model]
        if door.held and door.waiter is None:
            door.waiter = self.number()
            self._waiters[door.waiter] = model
            self._submit(WakeAsked(door.waiter, model, "gateway", WISH_S, cause=CauseKind.REQUEST))

    def _time_out(self, arrival: Arrival) -> None:
        model, door = arrival.model, self._doors[arrival.model]
        if not any(held is arrival for held in door.held):
            return
        door.held.remove(arrival)
        self._account.refuse(model, arrival.at_s)
        if not door.held and door.waiter is not None:
            self._submit(AttendanceChanged(door.waiter, model, attended=False))
            self._time.at(self._time.now_s + GOES_ON_S, lambda: self._withdraw(model))

    def _withdraw(self, model: str) -> None:
        door = self._doors[model]
        if not door.held and door.waiter is not None:
            del self._waiters[door.waiter]
            self._submit(CallerGone(door.waiter, model))
            door.waiter = None

    def _let_in(self, arrival: Arrival) -> None:
        server = self._servers[arrival.model]
        self._account.let_in(arrival.model, arrival.at_s, self._time.now_s)
        if server.running >= server.costs.slots:
            server.waiting.append(arrival)
        else:
            self._serve(server, arrival)
        self._touched(arrival.model)

    def _serve(self, server: Server, arrival: Arrival) -> None:
        takes_s = server.costs.request_s(arrival.prompt_tokens, arrival.output_tokens, server.running)
        server.running += 1
        self._account.used(server, self._time.now_s)
        self._time.at(self._time.now_s + takes_s, lambda: self._served(server, arrival))

    def _served(self, server: Server, arrival: Arrival) -> None:
        server.running -= 1
        server.count(arrival.prompt_tokens, arrival.output_tokens)
        if server.waiting:
            self._serve(server, server.waiting.popleft())
        self._account.used(server, self._time.now_s)
        self._touched(server.name)
        if not server.in_flight:
            if not self._doors[server.name].open:
                self._submit(GateEmptied(server.name))
            self._policy.idled(server.name)
