"""The only writer: one batch of events, one step, one commit, then the world and its commands are published."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from sleepd.core.commands import Answer, AnswerKind, Command, LeaveStep, LookNow, OpenGate, RunStep, StepOrder
from sleepd.core.deadlines import Deadlines
from sleepd.core.events import (
    Event,
    Evidence,
    GateEmptied,
    GpusLooked,
    HostLooked,
    ModelLooked,
    StepEnd,
    StepEnded,
    Stopping,
    Tick,
    UnitLooked,
)
from sleepd.core.machine import answers_first, step
from sleepd.core.model import Now
from sleepd.core.records import Record, TaskEnded
from sleepd.core.turn import Note, Turn
from sleepd.core.units import Seconds
from sleepd.core.wishes import Ask, CallerGone, HoldEnded, ReservationAsked, ReservationEnded
from sleepd.core.world import TASKS_KEPT, World
from sleepd.engine.gate import Gates
from sleepd.engine.observer import Observer
from sleepd.engine.published import Published
from sleepd.engine.runner import Runner, cancelled
from sleepd.ports import Clock, Store, StoreFailed, Vllm

RETRY_COMMIT_S = 1.0
BEAT_S = 5.0
"""At least one turn this often, so that a loop that hangs is noticed by the service manager's watchdog."""
DISK_PATIENCE_S = 60.0
"""A commit may take this long before the loop counts as hanging: a disk that is slow is not mended by a restart."""

_LEFT = "not waited for any longer"
STOPPED = "sleepd was told to stop; what it began goes on, and its next start finishes it"
ASK_AGAIN = "ask again once it runs"
ASK_AGAIN_AFTER_S = 5.0


class Loop:
    """Owns the world. Everything reaches it as an event; nothing else replaces the world."""

    def __init__(
        self,
        world: World,
        *,
        clock: Clock,
        store: Store,
        runner: Runner,
        gates: Gates,
        server: Callable[[str], Vllm],
        tell: Callable[[Sequence[Note], Now], None],
        beat: Callable[[World], None],
        disk_slow: Callable[[], None] = lambda: None,
        follow: Callable[[Published], None] = lambda published: None,
        committed: Callable[[Seconds, bool], None] = lambda took_s, ok: None,
        ended: Sequence[TaskEnded] = (),
        beat_s: float = BEAT_S,
    ) -> None:
        self.world = world
        self._clock, self._store, self._runner, self._gates = clock, store, runner, gates
        self._server, self._tell, self._beat, self._disk_slow = server, tell, beat, disk_slow
        self._follow, self._committed, self._beat_s = follow, committed, beat_s
        self._events: list[Event] = []
        self._deadlines, self._decided = Deadlines(), clock.now()
        self._wakeup, self._published = asyncio.Event(), asyncio.Event()
        self._gathering: asyncio.Task[None] | None = None
        self._stopped = False
        self.unrecorded = ""
        """Why the last records could not be committed; empty where they were."""
        self._owed: tuple[Record, ...] = ()
        self._rejudged: tuple[str, ...] = ()
        self._dropped: list[Event] = []
        self._withheld: tuple[str, ...] = ()
        self._retrying: asyncio.TimerHandle | None = None
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._steps: dict[asyncio.Task[None], StepOrder] = {}
        self._next_waiter = 1
        self.ended: deque[TaskEnded] = deque(ended, maxlen=TASKS_KEPT)
        """Tasks that came to their end, the newest last."""
        self._observer: Observer | None = None
        gates.when_emptied(lambda model: self.submit(GateEmptied(model)))

    def observe_with(self, observer: Observer) -> None:
        self._observer = observer

    def now(self) -> Now:
        return self._clock.now()

    def submit(self, event: Event, within_s: Seconds = 0.0) -> None:
        """Add an event to the next batch, which is taken in within so long: others may come until then."""
        self._events.append(event)
        if within_s <= 0.0:
            self._wakeup.set()
        elif self._gathering is None and not self._wakeup.is_set():
            self._gathering = asyncio.create_task(self._gather(within_s), name="events of a round")

    async def _gather(self, within_s: Seconds) -> None:
        await self._clock.sleep(within_s)
        self._wakeup.set()

    async def until(self, holds: Callable[[World], bool], timeout_s: float) -> bool:
        """Return whether a published world came to be so within `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not holds(self.world):
                    await self._published.wait()
        return holds(self.world)

    def in_flight(self, model: str) -> int:
        return self._gates.of(model).in_flight

    def entered(self, model: str) -> int:
        return self._gates.of(model).entered

    async def ask(self, make: Callable[[int], Ask]) -> Answer:
        """Return the one answer to `make(waiter)`. Cancelling the await withdraws the wish."""
        waiter, self._next_waiter = self._next_waiter, self._next_waiter + 1
        if self._stopped:
            return _stopped(waiter)
        ask = make(waiter)
        self._answers[waiter] = asyncio.get_running_loop().create_future()
        self.submit(ask)
        try:
            return await self._answers[waiter]
        except asyncio.CancelledError:
            if not isinstance(ask, HoldEnded | ReservationEnded):
                self.submit(CallerGone(waiter, "" if isinstance(ask, ReservationAsked) else ask.model))
            raise
        finally:
            self._answers.pop(waiter, None)

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            await self._wait()
            self._wakeup.clear()
            if self._gathering is not None:
                self._gathering.cancel()
                self._gathering = None
            events, self._events = self._events, []
            if not events or self._overdue_s() >= 0.0:
                events.append(Tick())
            await self.turn(events)

    async def _wait(self) -> None:
        """Wait for an event, the next deadline or the beat, whichever comes first."""
        if self._wakeup.is_set():
            return
        left_s = min(self._beat_s, -self._overdue_s())
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.0, left_s)))
        woken = asyncio.ensure_future(self._wakeup.wait())
        try:
            await asyncio.wait((sleeping, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            woken.cancel()

    def _overdue_s(self) -> Seconds:
        """How long ago the first deadline came that no turn has seen yet; negative: so long until it comes. One that
        falls into a commit is due right after it."""
        due_s = self._deadlines.after(self.world, self._decided)
        return -math.inf if due_s is None else self._clock.now().mono_s - due_s

    async def turn(self, events: Sequence[Event]) -> None:
        """Decide, record, publish. A batch that cannot be recorded is dropped: its world never was.

        A turn that only tells how a recorded step ended well is published first and recorded then; what of it could
        not be recorded is owed, and comes before whatever is recorded next.
        """
        now = self._decided = self._clock.now()
        rejudged, self._rejudged = self._rejudged, ()
        began_s = time.perf_counter()  # a cost, not a moment: no clock of the daemon's world is read for it
        turn = step(self.world, events, now)
        step_s = time.perf_counter() - began_s
        for model in turn.shut:
            self._gates.of(model).open = False
        told = not turn.records or answers_first(events, turn)
        if told:
            self._publish(turn, rejudged, events, now, step_s)
        records = (*self._owed, *turn.records)
        if records:
            try:
                await self._commit(records)
                self._owed, self.unrecorded = (), ""
            except StoreFailed as failure:
                self.unrecorded = str(failure)
                if told:
                    self._owe(records, str(failure), now)
                else:
                    self._drop(events, turn, rejudged, str(failure), now)
                return
        if not told:
            self._publish(turn, rejudged, events, now, step_s)

    async def _commit(self, records: tuple[Record, ...]) -> None:
        """Wait until the records are durable, with signs of life while the disk takes its time. Raises StoreFailed."""
        began_s = time.perf_counter()
        committing = asyncio.ensure_future(self._store.commit(records))
        try:
            waited_s = 0.0
            while waited_s < DISK_PATIENCE_S and not (await asyncio.wait((committing,), timeout=self._beat_s))[0]:
                waited_s += self._beat_s
                self._disk_slow()
            await committing
        finally:
            if not committing.done():
                await cancelled(committing)
            ok = not committing.cancelled() and committing.exception() is None
            self._committed(time.perf_counter() - began_s, ok)

    def _publish(
        self, turn: Turn, rejudged: tuple[str, ...], events: Sequence[Event], now: Now, step_s: Seconds
    ) -> None:
        """Let the turn's world be the world, and carry its commands out."""
        before, self.world = self.world, turn.world
        self.ended.extend(r for r in turn.records if isinstance(r, TaskEnded))
        self._published.set()
        self._published = asyncio.Event()
        self._tell(turn.notes, now)
        for command in turn.commands:
            self._carry_out(command)
        self._gates.judge(rejudged, self.world)
        self._follow(Published(before, turn, now, step_s, events))
        if self._observer is not None:
            self._observer.follow()
        self._beat(self.world)

    def _owe(self, records: tuple[Record, ...], detail: str, now: Now) -> None:
        """Keep records of what was told already, and try again soon; no step is begun before they are committed."""
        self._owed = records
        self._retry(detail, now)

    def _drop(self, events: Sequence[Event], turn: Turn, rejudged: tuple[str, ...], detail: str, now: Now) -> None:
        """Reopen what we chose to shut, tell the turn's callers, and keep what must not be lost: how steps ended."""
        withheld = (*rejudged, *self._gates.undo(turn.shut, turn.world))
        for event in events:
            if isinstance(event, Ask):
                hint = "make room on the disk of [daemon] state_dir; nothing was done"
                refused = Answer(event.waiter, AnswerKind.REFUSED, problem="not_recordable", detail=detail, hint=hint)
                self._carry_out(refused)
        self._dropped = _newest([*self._dropped, *(e for e in events if not isinstance(e, Ask | Tick))])
        self._withheld += withheld
        self._retry(detail, now)

    def _retry(self, detail: str, now: Now) -> None:
        """Tell it, and try again soon; once, however many turns cannot be recorded until then."""
        if self._retrying is None:
            self._tell([Note("not_recordable", "", detail)], now)
            self._retrying = asyncio.get_running_loop().call_later(RETRY_COMMIT_S, self._judge_again)

    def _judge_again(self) -> None:
        """Give the events of dropped turns to the next one, and with them the gates that wait for its verdict."""
        self._retrying = None
        self._rejudged, self._withheld = self._rejudged + self._withheld, ()
        events, self._dropped = self._dropped, []
        for event in events or (Tick(),):
            self.submit(event)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, RunStep):
            task = asyncio.create_task(self._run_step(command.order), name=f"step {command.order.model}")
            self._steps[task] = command.order
            task.add_done_callback(self._steps.pop)
        elif isinstance(command, OpenGate):
            self._gates.open(command.model)
        elif isinstance(command, Answer):
            future = self._answers.get(command.waiter)
            if future is not None and not future.done():
                future.set_result(command)
        elif isinstance(command, LeaveStep):
            for task, order in list(self._steps.items()):
                if (order.model, order.task_id, order.cursor) == (command.model, command.task_id, command.cursor):
                    task.cancel(_LEFT)
        elif isinstance(command, LookNow) and self._observer is not None:
            self._observer.nudge(model=command.model, gpus=command.gpus, host=command.host, unit=command.unit)

    async def _run_step(self, order: StepOrder) -> None:
        """Report how the step ended; one that was left, or an error of our own, as an answer that never came."""
        started_s = self._clock.now().mono_s
        try:
            ended = await self._runner.run(order, self._server(order.model))
        except asyncio.CancelledError as cancel:
            if cancel.args != (_LEFT,):
                raise
            evidence = Evidence(None, _LEFT, started_s, self._clock.now().mono_s)
            ended = StepEnded(order.model, order.task_id, order.cursor, StepEnd.UNANSWERED, evidence)
        except Exception as error:
            detail = f"an error inside sleepd: {type(error).__name__}: {error}"
            now = self._clock.now()
            self._tell([Note("failure", order.model, detail, {"code": "failed", "step": order.step.verb.value})], now)
            evidence = Evidence(None, detail, started_s, now.mono_s)
            ended = StepEnded(order.model, order.task_id, order.cursor, StepEnd.UNANSWERED, evidence)
        self.submit(replace(ended, in_flight=self.in_flight(order.model)))

    async def stop(self) -> None:
        """Let no new task begin, give up on answers, and leave running calls to the next start's recovery."""
        self._stopped = True
        await self.turn([Stopping()])
        for waiter, future in list(self._answers.items()):
            if not future.done():
                future.set_result(_stopped(waiter))
        await asyncio.gather(*(cancelled(task) for task in list(self._steps)))


def _newest(events: Sequence[Event]) -> list[Event]:
    """The events in their order, of looks at one source the last: while a disk is full for hours none pile up."""
    last = {_source(event): index for index, event in enumerate(events)}
    return [event for index, event in enumerate(events) if _source(event) is None or last[_source(event)] == index]


def _source(event: Event) -> tuple[type[Event], str] | None:
    """What a look was at; None for what is no look."""
    if isinstance(event, ModelLooked | UnitLooked):
        return type(event), event.model
    return (type(event), "") if isinstance(event, GpusLooked | HostLooked) else None


def _stopped(waiter: int) -> Answer:
    return Answer(
        waiter, AnswerKind.REFUSED, problem="failed", detail=STOPPED, hint=ASK_AGAIN, retry_s=ASK_AGAIN_AFTER_S
    )
