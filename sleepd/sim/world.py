"""The virtual-time shell: another shell around the same `step` and the same procedures as the daemon's.

It can do what a real shell suffers: fail a commit, die before or after one, lose NVML, have its clock jump.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sleepd.core import wishes
from sleepd.core.beginning import begin
from sleepd.core.commands import Answer, AnswerKind, Command, LeaveStep, LookNow, OpenGate, RunStep, StepOrder
from sleepd.core.deadlines import Deadlines
from sleepd.core.events import CalendarExtended, Event, GateEmptied, Tick
from sleepd.core.machine import answers_first, step
from sleepd.core.model import Now, Settings
from sleepd.core.records import Record, Saved, TaskEnded
from sleepd.core.rules import LocalTime
from sleepd.core.turn import Note, Turn
from sleepd.core.units import Seconds
from sleepd.core.wishes import CallerGone
from sleepd.core.world import World
from sleepd.engine.gate import Gates
from sleepd.sim.host import SimHost
from sleepd.sim.memory_store import apply_records
from sleepd.sim.polls import Polls
from sleepd.sim.steps import Steps
from sleepd.sim.surroundings import Surroundings
from sleepd.sim.units import SimManager
from sleepd.sim.virtual_calendar import CALENDAR_KEPT_S, calendar_around
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime

DISK_S = 0.002


@dataclass(slots=True)
class Tally:
    """What happened, for closing lines and checks."""

    turns: int = 0
    commits: int = 0
    deaths: int = 0
    steps: int = 0
    transitions: int = 0
    """Tasks that ended, well or badly."""
    notes: dict[str, int] = field(default_factory=dict)


class VirtualDaemon:
    """sleepd in virtual time. `die` forgets everything but the database; `start` begins anew from it."""

    def __init__(
        self,
        settings: Settings,
        time: VirtualTime,
        host: SimHost,
        servers: dict[str, VirtualServer],
        *,
        manager: SimManager | None = None,
        check: Callable[["VirtualDaemon"], None] = lambda daemon: None,
        tell: Callable[[Note], None] = lambda note: None,
    ) -> None:
        self.settings, self.time, self.host, self.servers = settings, time, host, servers
        self._around = Surroundings(time, host, servers, manager)
        if manager is not None:
            manager.wall_s = lambda: self.now().wall_s
        self.saved, self.upsets, self.tally = Saved(), self._around.upsets, Tally()
        self.opened: Callable[[str], None] = lambda model: None
        """Told of every gate that opens, inside the turn that opens it."""
        self.died: Callable[[], None] = lambda: None
        self._begin_life()
        self.world: World = begin(settings, self.saved, self.now()).world
        self._local_times = frozenset(c for r in settings.rules for c in r.conditions if isinstance(c, LocalTime))
        self._needs_calendar = bool(self._local_times) or any(rule.foresees for rule in settings.rules)
        self.alive = False
        self._check, self._tell = check, tell
        self._epoch = 0
        self._deadlines, self.decided = Deadlines(), self.now()
        self._events: list[Event] = []
        self._owed: tuple[Record, ...] = ()
        self._rejudged: tuple[str, ...] = ()
        self._due: Any = None
        self._turning = False
        self._answers: dict[int, Callable[[Answer], None]] = {}
        self._gone: set[int] = set()
        self._next_waiter = 1

    def _begin_life(self) -> None:
        """What a life has of its own: gates, and the steps and polls that end with it."""
        gates = self.gates = Gates()

        def emptied(model: str) -> None:
            if self.gates is gates:  # requests that a dead daemon let in end at the gates of its own life
                self.submit(GateEmptied(model))

        gates.when_emptied(emptied)
        gates.when_opened(lambda model: self.opened(model))
        self._steps = Steps(self._around, self.gates, self.submit)
        self._polls = Polls(self._around, self.settings, self.gates, lambda: self.world, self.submit)

    def now(self) -> Now:
        return self._around.now()

    def start(self) -> None:
        """Begin from what the database holds."""
        self._end_life()
        self.alive = True
        first = begin(self.settings, self.saved, self.now())
        self.world, self.saved = first.world, apply_records(self.saved, first.records)
        self._events, self._answers, self._turning, self.decided = [], {}, False, self.now()
        self._owed, self._rejudged = (), ()
        self._begin_life()
        self._polls.begin()
        self._keep_calendar(self._epoch)
        self._wake_at(0.0)

    def _keep_calendar(self, epoch: int) -> None:
        """The ticker's part: the calendar is worked out anew as time goes on and the clock jumps."""
        if epoch == self._epoch and self.alive and self._needs_calendar:
            self.submit(CalendarExtended(calendar_around(self._local_times, self.now().wall_s)))
            self.time.call_later(CALENDAR_KEPT_S, lambda: self._keep_calendar(epoch))

    def die(self) -> None:
        """As by SIGKILL: calls that are out go on at the servers, their answers reach nobody."""
        self._end_life()
        self.tally.deaths += 1
        for name in self.servers:
            self.gates.of(name).open = False
        self.died()

    def _end_life(self) -> None:
        self.alive, self._epoch = False, self._epoch + 1
        self._steps.end()
        self._polls.end()

    def ask(self, make: Callable[[int], wishes.Ask], then: Callable[[Answer], None]) -> int:
        """Ask something; `then` gets the one answer, unless the daemon dies before."""
        waiter, self._next_waiter = self._next_waiter, self._next_waiter + 1
        self._answers[waiter] = then
        self.submit(make(waiter))
        return waiter

    def leave(self, waiter: int, model: str) -> None:
        if self._answers.pop(waiter, None) is not None:
            self._gone.add(waiter)
            self.submit(CallerGone(waiter, model))

    @property
    def unanswered(self) -> int:
        return len(self._answers)

    def submit(self, event: Event) -> None:
        if self.alive:
            self._events.append(event)
            self._wake_at(0.0)

    def _wake_at(self, delay_s: Seconds) -> None:
        epoch = self._epoch
        if self._due is not None:
            self._due.cancel()
        self._due = self.time.call_later(delay_s, lambda: self._turn(epoch))

    def _turn(self, epoch: int) -> None:
        if epoch != self._epoch or not self.alive or self._turning:
            return
        now, self.decided_s = self.now(), self.time.now()
        due_s = self._deadlines.after(self.world, self.decided)
        events, self._events = self._events, []
        if not events or (due_s is not None and due_s <= now.mono_s):
            events.append(Tick())
        self.decided = now
        rejudged, self._rejudged = self._rejudged, ()
        turn = step(self.world, events, now)
        self.tally.turns += 1
        for model in turn.shut:
            self.gates.of(model).open = False
        told = not turn.records or answers_first(events, turn)
        if told:
            self._turning = True
            self._publish(turn, rejudged)
            self._turning = False
        records = (*self._owed, *turn.records)
        if records:
            self._commit(events, turn, records, rejudged, told)
        else:
            self._rest()

    def _commit(
        self, events: list[Event], turn: Turn, records: tuple[Record, ...], rejudged: tuple[str, ...], told: bool
    ) -> None:
        if self.upsets.die_before_commit:
            self.upsets.die_before_commit = False
            self.die()
            return
        if self.upsets.fail_commits > 0:
            self.upsets.fail_commits -= 1
            if told:
                self._owed = records
                self._wake_at(1.0)
            else:
                self._drop(events, turn, rejudged)
            return
        self.tally.commits += 1
        self.tally.transitions += sum(isinstance(record, TaskEnded) for record in records)
        self.saved, self._owed = apply_records(self.saved, records), ()
        if self.upsets.die_after_commit:
            self.upsets.die_after_commit = False
            self.die()
            return
        self._turning, epoch = True, self._epoch

        def committed() -> None:
            if epoch == self._epoch:
                self._turning = False
                if not told:
                    self._publish(turn, rejudged)
                self._rest()

        self.time.call_later(DISK_S + self.upsets.disk_slow_s, committed)

    def _drop(self, events: list[Event], turn: Turn, rejudged: tuple[str, ...]) -> None:
        withheld = (*rejudged, *self.gates.undo(turn.shut, turn.world))
        kept: list[Event] = []
        for event in events:
            if isinstance(event, wishes.Ask):
                self._answer(Answer(event.waiter, AnswerKind.REFUSED, problem="not_recordable"))
            elif not isinstance(event, Tick):
                kept.append(event)
        epoch = self._epoch

        def again() -> None:
            if epoch == self._epoch:
                self._rejudged += withheld
                for event in kept or (Tick(),):
                    self.submit(event)

        self.time.call_later(1.0, again)
        self._wake_at(1.0)

    def _publish(self, turn: Turn, rejudged: tuple[str, ...]) -> None:
        self.world = turn.world
        for note in turn.notes:
            self.tally.notes[note.kind] = self.tally.notes.get(note.kind, 0) + 1
            self._tell(note)
        for command in turn.commands:
            self._carry_out(command)
        self.gates.judge(rejudged, self.world)
        self._check(self)

    def _rest(self) -> None:
        if self._events:
            self._wake_at(0.0)
            return
        due_s = self._deadlines.after(self.world, self.decided)
        if due_s is not None:
            self._wake_at(max(0.0, due_s - self._around.mono_s()))

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, RunStep):
            self._assert_recorded(command.order)
            self.tally.steps += 1
            self._steps.run(command.order)
        elif isinstance(command, OpenGate):
            self.gates.open(command.model)
        elif isinstance(command, Answer):
            self._answer(command)
        elif isinstance(command, LookNow):
            self._polls.look_now(command)
        elif isinstance(command, LeaveStep):
            self._steps.leave(command)

    def _answer(self, answer: Answer) -> None:
        then = self._answers.pop(answer.waiter, None)
        left = answer.waiter in self._gone
        assert then is not None or left or not self.alive, f"caller {answer.waiter} was answered twice"
        if then is not None:
            then(answer)

    def _assert_recorded(self, order: StepOrder) -> None:
        task = self.saved.tasks.get(order.model)
        recorded = task is not None and task.id == order.task_id and task.cursor == order.cursor
        assert recorded, f"{order.step.verb} of {order.model} was acted on before it was recorded"
