"""Requests held until their model is awake: one wish for all, bounded in number and bytes, each with a deadline.

A held request is an entry, not a task: releasing one costs what sending it costs, and a thousand of them cost memory
for their bodies only. They are let go in slices, so that the first answer does not wait for the last request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.model import CauseKind
from sleepd.core.units import Seconds
from sleepd.core.wishes import ASK_AGAIN_S, AT_ONCE_S, GOES_ON_S, WISH_S, WakeAsked
from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.gateway.errors import Refusal
from sleepd.gateway.head import traceparent_of

if TYPE_CHECKING:
    from sleepd.gateway.front import Front
    from sleepd.gateway.lane import Lane

SLICE = 16
"""Requests released in one round of the event loop; then what they caused is read and written first."""
GUESS_S: Seconds = 10.0
"""Retry-After where no wake of the model was measured yet."""
LASTING_S: Seconds = 30.0
"""Retry-After where somebody has to do something first."""
_LASTING = frozenset(("failed", "stopped", "engine_failed", "not_permitted", "level_unsafe"))


class Waiting(Protocol):
    """Who waits for a model: a request, or a question at its gate. `held_at_s` is 0.0 until it does; `size` bytes of it
    are kept, of which `counted` are counted."""

    who: str
    fields: bytes
    size: int
    counted: int
    waited_ms: int
    held_at_s: float
    limit_s: float
    lane: Lane | None
    timer: asyncio.TimerHandle | None

    @property
    def upstream(self) -> object: ...

    @property
    def is_stream(self) -> bool: ...

    @property
    def goes_on(self) -> bool:
        """Whether it is sent to the server once it is let in."""

    def beat(self, now_s: float) -> None: ...

    def refuse(self, refusal: Refusal) -> None: ...

    def let_in(self, lane: Lane) -> None:
        """The gate is open: it may go on."""


class Queue:
    """The requests that one model keeps waiting, in the order in which they came."""

    def __init__(self, front: Front, lane: Lane) -> None:
        self._front, self._lane = front, lane
        self.held: dict[Waiting, None] = {}
        self._wishing: asyncio.Task[None] | None = None
        self._waiter = 0
        self._releasing = False
        self._ending: asyncio.TimerHandle | None = None
        self._goes_on_until_s = 0.0

    def hold(self, x: Waiting, limit_s: Seconds | None = None) -> None:
        """Keep the request until the gate opens, its deadline, or its client's leave. Raises Refusal.

        One that waited before goes on with the time that it has left.
        """
        x.limit_s = self._lane.spec.max_wait_s if limit_s is None else limit_s
        limit = self._front.settings.queue
        if len(self.held) >= limit:
            message = f"{limit} requests wait for {self._lane.name} already"
            raise Refusal(503, "queue_full", message, retry_after_s=_told_s(self._front.daemon.eta_s(self._lane.name)))
        self._front.count_bytes(x)
        x.held_at_s = x.held_at_s or self._front.time()
        self._keep(x)

    def _keep(self, x: Waiting) -> None:
        self.held[x] = None
        if x.goes_on:
            self._lane.prepare(len(self.held))
        self._set_timer(x, self._front.time())
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
            self._front.daemon.attend(self._waiter, self._lane.name, attended=True)
        if self._wishing is None:
            self._wishing = asyncio.get_running_loop().create_task(self._wish(x.who or "gateway"))
        if self._lane.gate.open:
            self.opened()

    def take_over(self, other: Queue) -> None:
        """Keep what another queue held: the model has a new address, and what the old one leads to is not known."""
        for x in list(other.held):
            other.forget(x)
            self._front.count_bytes(x, already=True)
            x.lane = self._lane
            self._keep(x)

    def forget(self, x: Waiting, *, told_to_come_back: bool = False) -> None:
        """The request waits no more. When it was the last one the wish is withdrawn: at once where all clients left,
        and later where one was told when to come back, lest what was begun for it is undone just before.

        Until then nobody waits, and nobody else gives up anything for it. Who had less time than a request has asks
        again and again, as proxies do at the gate: that counts as waiting.
        """
        now_s = self._front.time()
        if told_to_come_back:
            self._goes_on_until_s = now_s + GOES_ON_S
        if self.held.pop(x, self) is self:
            return
        self._let_go(x)
        if self.held or self._wishing is None:
            return
        if now_s >= self._goes_on_until_s:
            self._withdraw()
            return
        self._ending = asyncio.get_running_loop().call_later(self._goes_on_until_s - now_s, self._give_up)
        if not told_to_come_back or x.limit_s >= self._lane.spec.max_wait_s:
            self._front.daemon.attend(self._waiter, self._lane.name, attended=False)

    def leave(self, x: Waiting) -> None:
        """The request waits no more, if it did: its client left."""
        if x in self.held:
            self._tell(x, HeldEnd.LEFT)
        self.forget(x)

    def _give_up(self) -> None:
        """Nobody came back yet."""
        self._front.daemon.attend(self._waiter, self._lane.name, attended=False)
        self._withdraw()

    def _withdraw(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._wishing is not None:
            self._wishing.cancel()
            self._wishing = None

    def _let_go(self, x: Waiting) -> None:
        self._front.forget_bytes(x)
        if x.timer is not None:
            x.timer.cancel()
            x.timer = None

    def _tell(self, x: Waiting, end: HeldEnd) -> None:
        waited_s = self._front.time() - x.held_at_s
        x.waited_ms = max(1, int(waited_s * 1000))
        self._front.daemon.held(Held(self._lane.name, waited_s, end, traceparent_of(x.fields)))

    # what may happen to a held request

    def opened(self) -> None:
        """The gate has opened: let in who waits, from the next round of the event loop on."""
        if self.held and not self._releasing and not self._front.handing_over:
            self._releasing = True
            asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        self._releasing = False
        gate, lane = self._lane.gate, self._lane
        for _ in range(min(SLICE, len(self.held))):
            if not gate.open:
                return
            x = next(iter(self.held))
            del self.held[x]
            self._let_go(x)
            self._tell(x, HeldEnd.SERVED)
            x.let_in(lane)
        if self.held:
            self.opened()
        else:
            self._withdraw()

    def _set_timer(self, x: Waiting, now_s: float) -> None:
        due_s = x.held_at_s + x.limit_s
        beat_s = self._front.settings.heartbeat_s
        if beat_s > 0 and x.is_stream:
            due_s = min(due_s, now_s + beat_s)
        x.timer = asyncio.get_running_loop().call_later(due_s - now_s, self._due, x)

    def _due(self, x: Waiting) -> None:
        """A heartbeat is due, or the request has waited as long as it may."""
        now_s = self._front.time()
        if now_s - x.held_at_s >= x.limit_s - 0.001:
            self._tell(x, HeldEnd.TIMED_OUT)
            self.forget(x, told_to_come_back=True)
            why = self._front.daemon.reason(self._lane.name)
            message = f"{self._lane.name} was not awake within {x.limit_s:g} s: {why}"
            x.refuse(Refusal(503, "timeout", message, retry_after_s=self.retry_after_s()))
            return
        if x.is_stream:
            x.beat(now_s)
        self._set_timer(x, now_s)

    # the wish

    async def _wish(self, who: str) -> None:
        """Want the model awake as long as somebody waits."""
        name = self._lane.name

        def ask(waiter: int) -> WakeAsked:
            self._waiter = waiter
            return WakeAsked(waiter, name, who, WISH_S, cause=CauseKind.REQUEST)

        while self.held or self._ending is not None:
            answer = await self._front.daemon.ask(ask)
            if answer.kind is AnswerKind.REFUSED:
                self._refuse_all(answer)
            elif self._lane.gate.open:
                self.opened()
            if self._ending is not None:
                break  # whoever it was for is gone, and it was answered
            await asyncio.sleep(ASK_AGAIN_S)
        self._wishing = None

    def _refuse_all(self, answer: Answer) -> None:
        status = 404 if answer.problem == "unknown_model" else 503
        code = "model_not_found" if status == 404 else answer.problem or "not_ready"
        found = "; ".join(part for part in (answer.detail, answer.hint) if part)
        retry_after_s = None if status == 404 else self.retry_after_s(answer.problem)
        for x in list(self.held):
            del self.held[x]
            self._let_go(x)
            self._tell(x, HeldEnd.REFUSED)
            message = f"{self._lane.name} cannot be used now: {found}"
            x.refuse(Refusal(status, code, message, retry_after_s=retry_after_s))

    def refuse_all(self, refusal: Refusal) -> None:
        """Answer everybody who waits with the same refusal. What was begun for them goes on."""
        for x in list(self.held):
            self._tell(x, HeldEnd.REFUSED)
            self.forget(x, told_to_come_back=True)
            again = Refusal(refusal.status, refusal.code, refusal.message, retry_after_s=refusal.retry_after_s)
            x.refuse(again)

    def retry_after_s(self, problem: str = "") -> Seconds:
        """Return when it is worth asking again: by turns and wakes that were measured, else a guess."""
        return LASTING_S if problem in _LASTING else _told_s(self._front.daemon.come_back_s(self._lane.name))


def _told_s(known_s: Seconds | None) -> Seconds:
    return GUESS_S if known_s is None else max(AT_ONCE_S, known_s)
