"""The virtual-time shell: another shell around the same `step` and the same procedures as the daemon's.

It can do what a real shell suffers: fail a commit, die before or after one, lose NVML, have its clock jump.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sleepd.core import wishes
from sleepd.core.asking import (
    Ask,
    Call,
    CallAndWatch,
    Checksums,
    Complete,
    Got,
    Look,
    LookAndReadGpus,
    LookUnit,
    OrderUnit,
    Pause,
    Procedure,
    ReadGpus,
)
from sleepd.core.beginning import begin
from sleepd.core.deadlines import Deadlines
from sleepd.core.direct import looks_at_connections
from sleepd.core.events import (
    Answer,
    AnswerKind,
    CalendarExtended,
    CallerGone,
    Command,
    Event,
    Evidence,
    GpusLooked,
    HostLooked,
    LeaveStep,
    LookNow,
    ModelLooked,
    Note,
    OpenGate,
    Record,
    RunStep,
    Saved,
    StepEnd,
    StepEnded,
    StepOrder,
    TaskEnded,
    Tick,
    Turn,
    UnitLooked,
)
from sleepd.core.machine import answers_first, asks_sleeping, is_looked_at, poll_after_s, step, wants_processes
from sleepd.core.memory import widen
from sleepd.core.model import Known, Missing, MissingReason, Now, Settings, Span
from sleepd.core.procedure import perform
from sleepd.core.rules import LocalTime
from sleepd.core.unit_sightings import unit_after_s
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.world import World
from sleepd.engine.gate import Gates
from sleepd.sim.host import SimHost
from sleepd.sim.memory_store import apply_records
from sleepd.sim.units import SimManager
from sleepd.sim.virtual_calendar import CALENDAR_KEPT_S, calendar_around
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime

NVML_S = 0.005
DISK_S = 0.002
WATCH_EVERY_S = 0.5


@dataclass(slots=True)
class Upsets:
    """What goes wrong in the daemon's own surroundings; the scenario sets it, the shell suffers it."""

    fail_commits: int = 0
    die_before_commit: bool = False
    die_after_commit: bool = False
    nvml_missing: bool = False
    disk_slow_s: Seconds = 0.0
    wall_offset_s: Seconds = 0.0


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
        check: Callable[["VirtualDaemon"], None] = lambda daemon: None,
        tell: Callable[[Note], None] = lambda note: None,
    ) -> None:
        self.settings, self.time, self.host, self.servers = settings, time, host, servers
        self.saved, self.upsets, self.tally = Saved(), Upsets(), Tally()
        self.manager: SimManager | None = None
        self.gates = Gates()
        self.world: World = begin(settings, self.saved, self.now()).world
        self._local_times = frozenset(c for r in settings.rules for c in r.conditions if isinstance(c, LocalTime))
        self.alive = False
        self._check, self._tell = check, tell
        self._epoch = 0
        self._deadlines = Deadlines()
        self._events: list[Event] = []
        self._owed: tuple[Record, ...] = ()
        self._rejudged: tuple[str, ...] = ()
        self._due: Any = None
        self._turning = False
        self._nvml_busy = False
        self._procedures: dict[str, tuple[int, int, Procedure]] = {}
        self._answers: dict[int, Callable[[Answer], None]] = {}
        self._gone: set[int] = set()
        self._next_waiter = 1

    def now(self) -> Now:
        return Now(self._mono_s(), 1.7e9 + self.time.now() + self.upsets.wall_offset_s)

    def _mono_s(self) -> MonotonicS:
        return 1000.0 + self.time.now()

    def start(self) -> None:
        """Begin from what the database holds."""
        self.alive, self._epoch = True, self._epoch + 1
        first = begin(self.settings, self.saved, self.now())
        self.world, self.saved = first.world, apply_records(self.saved, first.records)
        self._events, self._answers, self._turning, self._nvml_busy = [], {}, False, False
        self._owed, self._rejudged = (), ()
        self.gates = Gates()
        for name in self.servers:
            self._poll_model(name, self._epoch)
            if name in self.world.models and self.world.models[name].spec.unit:
                self._poll_unit(name, self._epoch)
        self._poll_gpus(self._epoch)
        self._keep_calendar(self._epoch)
        self._wake_at(0.0)

    def _keep_calendar(self, epoch: int) -> None:
        """The ticker's part: the calendar is worked out anew as time goes on and the clock jumps."""
        if epoch == self._epoch and self.alive and self._local_times:
            self.submit(CalendarExtended(calendar_around(self._local_times, self.now().wall_s)))
            self.time.call_later(CALENDAR_KEPT_S, lambda: self._keep_calendar(epoch))

    def die(self) -> None:
        """As by SIGKILL: calls that are out go on at the servers, their answers reach nobody."""
        self.alive, self._epoch = False, self._epoch + 1
        self.tally.deaths += 1
        for name in self.servers:
            self.gates.of(name).open = False

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
        events, self._events = self._events or [Tick()], []
        now, self.decided_s = self.now(), self.time.now()
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
        due_s = self._deadlines.after(self.world, self.now())
        if due_s is not None:
            self._wake_at(due_s - self._mono_s())

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, RunStep):
            self._assert_recorded(command.order)
            self.tally.steps += 1
            self._run(command.order)
        elif isinstance(command, OpenGate):
            self.gates.open(command.model)
        elif isinstance(command, Answer):
            self._answer(command)
        elif isinstance(command, LookNow):
            self._look_now(command)
        elif isinstance(command, LeaveStep):
            self._leave_step(command)

    def _look_now(self, command: LookNow) -> None:
        epoch, name = self._epoch, command.model
        if command.gpus and not self._nvml_busy:
            self.time.call_later(0.05, lambda: self._read_gpus(epoch))
        if command.unit:
            self.time.call_later(0.05, lambda: self._look_at_unit(command.unit, epoch))
        if name:
            then = lambda reading: self._looked(name, reading, epoch)  # noqa: E731
            ask = asks_sleeping(self.world.models[name])
            self.time.call_later(0.05, lambda: self.servers[name].look(ask, 5.0, then))

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

    def _run(self, order: StepOrder) -> None:
        procedure, epoch = perform(order, self._mono_s()), self._epoch
        self._procedures[order.model] = (order.task_id, order.cursor, procedure)
        self._drive(order, procedure, epoch, next(procedure))

    def _leave_step(self, left: LeaveStep) -> None:
        found = self._procedures.get(left.model)
        if found is None or found[:2] != (left.task_id, left.cursor):
            return
        del self._procedures[left.model]
        evidence = Evidence(None, "not waited for any longer", self._mono_s(), self._mono_s())
        in_flight = self.gates.of(left.model).in_flight
        self.submit(StepEnded(left.model, left.task_id, left.cursor, StepEnd.UNANSWERED, evidence, in_flight))

    def _drive(self, order: StepOrder, procedure: Procedure, epoch: int, ask: Ask) -> None:
        def then(value: Any) -> None:
            if epoch != self._epoch or self._procedures.get(order.model, (0, 0, None))[2] is not procedure:
                return
            try:
                following = procedure.send(Got(value, self._mono_s()))
            except StopIteration as stop:
                end, evidence = stop.value
                del self._procedures[order.model]
                in_flight = self.gates.of(order.model).in_flight
                self.submit(StepEnded(order.model, order.task_id, order.cursor, end, evidence, in_flight))
                return
            self._drive(order, procedure, epoch, following)

        server = self.servers[order.model]
        if isinstance(ask, Call):
            server.call(ask.verb, ask.timeout_s, ask.mode_parameter, then)
        elif isinstance(ask, CallAndWatch):
            self._call_and_watch(ask, server, then)
        elif isinstance(ask, Look):
            server.look(ask.ask_sleeping, ask.timeout_s, lambda reading: then(self._dated(reading)), fence=ask.fence)
        elif isinstance(ask, Complete):
            server.complete(ask.prompt, ask.timeout_s, then, api_name=ask.api_name, asks_at=ask.asks_at)
        elif isinstance(ask, Checksums):
            server.checksums(ask.timeout_s, then)
        elif isinstance(ask, LookAndReadGpus):
            both_s = self._mono_s()

            def read_gpus(seen: Any) -> None:
                gpus = self._see_gpus(both_s, processes=True)
                self.time.call_later(NVML_S, lambda: then((self._dated(seen), gpus)))

            server.look(True, ask.timeout_s, read_gpus, counters=ask.counters)
        elif isinstance(ask, ReadGpus):
            asked_s = self._mono_s()
            self.time.call_later(NVML_S, lambda: then(self._see_gpus(asked_s, processes=True)))
        elif isinstance(ask, LookUnit):
            self._ask_unit(ask.unit, then)
        elif isinstance(ask, OrderUnit):
            assert self.manager is not None
            self.manager.order(ask.unit, ask.order, ask.timeout_s, then)
        elif isinstance(ask, Pause):
            self.time.call_later(ask.seconds, lambda: then(None))
        else:
            then(Known(self.host.see_ram(), self._mono_s(), self._mono_s()))

    def _call_and_watch(self, ask: CallAndWatch, server: VirtualServer, then: Callable[[Any], None]) -> None:
        """Free memory is looked at while the call is out, more rarely than the daemon does: it costs events."""
        span: dict[str, Span] = {}
        out = True

        def watch() -> None:
            if out:
                if not self.upsets.nvml_missing:
                    widen(span, self.host.see_gpus(processes=False))
                self.time.call_later(WATCH_EVERY_S, watch)

        def ended(result: Any) -> None:
            nonlocal out
            out = False
            then((result, span))

        self.time.call_later(WATCH_EVERY_S, watch)
        server.call(ask.verb, ask.timeout_s, ask.mode_parameter, ended)

    def _dated(self, reading: Any) -> Any:
        """The servers' clock starts at 0, the daemon's does not: readings carry the daemon's."""
        if isinstance(reading, Known):
            return Known(reading.value, reading.asked_at_s + 1000.0, reading.at_s + 1000.0)
        return reading

    def _poll_model(self, name: str, epoch: int) -> None:
        if epoch != self._epoch or name not in self.world.models:
            return
        record, asked_s = self.world.models[name], self.time.now()

        def then(reading: Any) -> None:
            if epoch == self._epoch:
                self._looked(name, reading, epoch)
                self._await_poll(name, asked_s, epoch)

        if not is_looked_at(self.world, name):
            self._await_poll(name, asked_s, epoch)
        else:
            self.servers[name].look(asks_sleeping(record), 5.0, then, ask_connections=looks_at_connections(record))

    def _await_poll(self, name: str, asked_s: Seconds, epoch: int) -> None:
        """As the daemon's observer: what woke meanwhile is not waited for as long as the sleeper it was."""
        if epoch != self._epoch or name not in self.world.models:
            return
        left_s = asked_s + poll_after_s(self.world.models[name], self.settings) - self.time.now()
        if left_s <= 0:
            self._poll_model(name, epoch)
        else:
            within_s = min(left_s, self.settings.poll_every_s)
            self.time.call_later(within_s, lambda: self._await_poll(name, asked_s, epoch))

    def _looked(self, name: str, reading: Any, epoch: int) -> None:
        if epoch == self._epoch:
            gate = self.gates.of(name)
            self.submit(ModelLooked(name, self._dated(reading), gate.in_flight, gate.entered))

    def _poll_unit(self, name: str, epoch: int) -> None:
        if epoch == self._epoch and name in self.world.models:
            self._look_at_unit(name, epoch)
            self._await_unit(name, self._mono_s(), epoch)

    def _await_unit(self, name: str, asked_s: Seconds, epoch: int) -> None:
        """As the daemon's observer: how soon follows from what the unit is by then."""
        if epoch != self._epoch or name not in self.world.models:
            return
        left_s = asked_s + unit_after_s(self.world.models[name], self.settings) - self._mono_s()
        if left_s <= 1e-6:
            self._poll_unit(name, epoch)
        else:
            within_s = min(left_s, self.settings.poll_every_s)
            self.time.call_later(within_s, lambda: self._await_unit(name, asked_s, epoch))

    def _look_at_unit(self, name: str, epoch: int) -> None:
        def then(reading: Any) -> None:
            if epoch == self._epoch:
                self.submit(UnitLooked(name, reading))

        if epoch == self._epoch and name in self.world.models:
            self._ask_unit(self.world.models[name].spec.unit, then)

    def _ask_unit(self, unit: str, then: Callable[[Any], None]) -> None:
        assert self.manager is not None
        self.manager.look(unit, lambda reading: then(self._dated(reading)))

    def _poll_gpus(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._read_gpus(epoch)
            self.time.call_later(self.settings.poll_every_s, lambda: self._poll_gpus(epoch))

    def _read_gpus(self, epoch: int) -> None:
        if epoch != self._epoch or self._nvml_busy:
            return
        self._nvml_busy = True
        asked_s, processes = self._mono_s(), wants_processes(self.world)

        def done() -> None:
            if epoch == self._epoch:
                self._nvml_busy = False
                # Host RAM is read beside: one turn for both keeps the simulation cheap.
                now_s = self._mono_s()
                self.submit(HostLooked(Known(self.host.see_ram(), now_s, now_s)))
                self.submit(GpusLooked(self._see_gpus(asked_s, processes=processes), processes))

        self.time.call_later(NVML_S, done)

    def _see_gpus(self, asked_s: float, *, processes: bool) -> Any:
        if self.upsets.nvml_missing:
            return Missing(MissingReason.UNREADABLE, "NVML: unknown error", asked_s)
        return Known(self.host.see_gpus(processes=processes), asked_s, self._mono_s())
