"""The lean shell around `step`: virtual time that skips from one event or deadline to the next.

What the daemon would learn by polling every second is told when it matters: before anything is decided, and before
time alone would decide something. Decisions come from the real `step`, steps from the real procedures.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sleepd.core.beginning import begin
from sleepd.core.commands import Answer, AnswerKind, Command, LeaveStep, LookNow, OpenGate, RunStep
from sleepd.core.deadlines import Deadlines
from sleepd.core.events import CalendarExtended, Event, GateEmptied, GpusLooked, HostLooked, ModelLooked, Tick
from sleepd.core.machine import asks_sleeping, is_looked_at, step
from sleepd.core.model import CauseKind, Known, Now, Settings
from sleepd.core.records import Saved, TaskEnded
from sleepd.core.rules import LocalTime, RequestsBelow
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import MonotonicS, Seconds, WallS
from sleepd.core.wishes import CallerGone, SleepAsked, WakeAsked
from sleepd.core.world import World, proof_key
from sleepd.engine.ticker import AHEAD_S, work_out
from sleepd.replay.account import Account, Switch
from sleepd.replay.hosts import Host
from sleepd.replay.policies.base import Policy
from sleepd.replay.servers import Server, see_gpus, see_ram
from sleepd.replay.steps import NVML_S, Steps
from sleepd.replay.trace import Arrival, Trace

WISH_S: Seconds = 3600.0
"""As the gateway's: one wish for all that wait lasts longer than any of them may."""
GOES_ON_S: Seconds = 60.0
"""As the gateway's: a wish outlives the last that was told to come back by so long."""
ASK_AGAIN_S: Seconds = 0.05


@dataclass(slots=True)
class Door:
    """A model's gate, and who waits at it."""

    open: bool = False
    held: deque[Arrival] = None  # type: ignore[assignment]
    waiter: int | None = None
    active_s: Seconds = 0.0
    """When something last moved inside."""
    told_s: Seconds = -math.inf
    told_in_use: bool = False
    """The last look saw requests inside: until another one does not, nothing falls due by itself."""
    polled: bool = False


class Replay:
    """One trace against one policy. `run` plays it from its begin to its end, once."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        servers: dict[str, Server],
        trace: Trace,
        *,
        start_wall_s: WallS,
        queue_limit: int = 256,
        policy: Policy | None = None,
        judge_from_s: Seconds = 0.0,
        end_s: Seconds | None = None,
    ) -> None:
        self.settings, self.host, self.servers, self.trace = settings, host, servers, trace
        self.account = Account(host, servers, judge_from_s)
        self.end_s = trace.end_s if end_s is None else end_s
        self.turns = 0
        self._all, self._queue_limit, self._policy = tuple(servers.values()), queue_limit, policy or Policy()
        self._start_wall_s, self.now_s = start_wall_s, 0.0
        self._doors = {name: Door(held=deque()) for name in servers}
        self._steps = Steps(
            servers,
            gpus=lambda: see_gpus(host, self._all),
            ram=lambda: see_ram(host, self._all),
            at=self.at,
            moved=lambda server: self.account.moved(server, self.now_s),
            submit=self._submit,
        )
        self._heap: list[tuple[Seconds, int, Callable[[], None]]] = []
        self._order = 0
        self._events: list[Event] = []
        self._unseen: dict[str, None] = {}
        """Models whose last use was not told yet."""
        self._waiters: dict[int, str] = {}
        self._next_waiter = 1
        self._deadlines, self._due_s = Deadlines(), math.inf
        self._windows = any(isinstance(c, RequestsBelow) for rule in settings.rules for c in rule.conditions)
        """Windows count requests by when they were seen: then every use is told at its poll."""
        self._asked = False
        self.world: World = begin(settings, self._remembered(), self._now()).world

    # what happens

    def run(self) -> Account:
        """Play the trace to its end and return what it came to."""
        self._begin()
        for arrival in self.trace.arrivals:
            if arrival.at_s > self.end_s:
                break
            self._advance(arrival.at_s)
            self.now_s = arrival.at_s
            self._arrive(arrival)
            self._settle()
        self._advance(self.end_s)
        self.now_s = self.end_s
        self.account.close(self.now_s)
        return self.account

    def at(self, moment_s: Seconds, then: Callable[[], None]) -> None:
        """Call `then` at that moment; of one moment, in the order of asking."""
        self._order += 1
        heapq.heappush(self._heap, (max(moment_s, self.now_s), self._order, then))

    # for policies: see policies/base.py

    def sleep(self, model: str) -> None:
        self._submit(SleepAsked(self._next_number(), model, "policy", 1, WISH_S, wait=False))

    def wake(self, model: str) -> None:
        if self._fits(model):
            self._submit(WakeAsked(self._next_number(), model, "policy", WISH_S, wait=False))
            self._asked = True

    def in_use(self, model: str) -> bool:
        return self.servers[model].in_flight > 0 or bool(self._doors[model].held)

    def is_awake(self, model: str) -> bool:
        return self._doors[model].open

    def _fits(self, model: str) -> bool:
        """Whether its wake would need nobody's sleep, as far as can be told from what is held."""
        server, margin = self.servers[model], self.settings.gpu_margin_bytes
        takes = server.costs.awake_bytes - server.costs.asleep_bytes
        seen = {gpu.uuid: gpu.free_bytes for gpu in see_gpus(self.host, self._all)}
        return not server.holds and all(seen[uuid] - margin >= takes for uuid in server.gpus)

    def _next_number(self) -> int:
        self._next_waiter += 1
        return self._next_waiter - 1

    def _begin(self) -> None:
        events: list[Event] = [self._read_gpus(listed=True), HostLooked(self._dated(see_ram(self.host, self._all)))]
        if any(isinstance(c, LocalTime) for rule in self.settings.rules for c in rule.conditions):
            self._extend_calendar()
        self._turn([*self._events, *events, *(self._look(name, 0.0) for name in self.servers)])
        self._events = []
        self._policy.begin(self)
        self._settle()

    def _extend_calendar(self) -> None:
        self._submit(CalendarExtended(work_out(self.settings.rules, self._start_wall_s + self.now_s)))
        self.at(self.now_s + AHEAD_S / 2, self._extend_calendar)

    def _advance(self, until_s: Seconds) -> None:
        """Let everything happen that is due before `until_s`, or then."""
        while True:
            next_s = self._heap[0][0] if self._heap else math.inf
            if min(next_s, self._due_s) > until_s:
                return
            if next_s <= self._due_s:
                self.now_s = next_s
                heapq.heappop(self._heap)[2]()
            else:
                self._tick()
            self._settle()

    def _tick(self) -> None:
        """A deadline is due: of a model, then it is looked at, which may put it off; or of something else."""
        self.now_s = due_s = self._due_s
        names = self._deadlines.whose(due_s)
        events: list[Event] = [self._read_gpus()] if self._waiters else []
        if names and all(is_looked_at(self.world, name) for name in names):
            self._turn([*events, *(self._look_at(name) for name in names)])
        else:
            self._turn([*events, *self._looks(), Tick()])

    def _settle(self) -> None:
        while self._events:
            events, self._events = self._events, []
            looks: list[Event] = list(self._looks())
            if self._waiters or self._asked:
                # Whoever waits for room needs a fresh reading, and would ask for one.
                self._asked = False
                looks.append(self._read_gpus())
            self._turn(looks + events)

    def _turn(self, events: list[Event]) -> None:
        now = self._now()
        turn = step(self.world, events, now)
        self.turns += 1
        for model in turn.shut:
            self._doors[model].open = False
        self.world = turn.world
        for record in turn.records:
            if isinstance(record, TaskEnded) and record.done:
                self._count(record.task)
        for command in turn.commands:
            self._carry_out(command)
        due_s = self._deadlines.after(self.world, now)
        self._due_s = math.inf if due_s is None else due_s

    def _count(self, task: Task) -> None:
        if task.kind in (TaskKind.SLEEP, TaskKind.WAKE):
            began_s = task.started_s if task.called_s is None else task.called_s
            cause = f"{task.cause.kind}:{task.cause.who}"
            took_s = round(self.now_s - began_s, 6)
            self.account.switched(Switch(self.now_s, task.model, task.kind.value, task.level, took_s, cause))
            if task.kind is TaskKind.WAKE:
                self._policy.woke(task.model)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, RunStep):
            self._steps.run(command.order, self.now_s)
        elif isinstance(command, OpenGate):
            self._open(command.model)
        elif isinstance(command, Answer):
            self._answered(command)
        elif isinstance(command, LookNow):
            if command.gpus:
                self.at(self.now_s + NVML_S, lambda: self._submit(self._read_gpus()))
            if command.model:
                self.at(self.now_s + NVML_S, lambda: self._submit(self._look(command.model, self.now_s)))
        elif isinstance(command, LeaveStep):
            self._steps.leave(command.model, command.task_id, command.cursor, self.now_s)

    # requests

    def _arrive(self, arrival: Arrival) -> None:
        model, door = arrival.model, self._doors[arrival.model]
        self.account.came(model, arrival.at_s)
        self._policy.arrived(model)
        if door.open:
            self._let_in(arrival)
        elif len(door.held) >= self._queue_limit:
            self.account.refuse(model, arrival.at_s)
        else:
            door.held.append(arrival)
            self.at(arrival.at_s + self.settings.models[model].max_wait_s, lambda: self._time_out(arrival))
            self._wish(model)

    def _wish(self, model: str) -> None:
        """Want the model awake, once for all that wait."""
        door = self._doors[model]
        if door.held and door.waiter is None:
            door.waiter = self._next_number()
            self._waiters[door.waiter] = model
            self._submit(WakeAsked(door.waiter, model, "gateway", WISH_S, cause=CauseKind.REQUEST))

    def _answered(self, answer: Answer) -> None:
        model = self._waiters.pop(answer.waiter, None)
        if model is None:
            return
        door = self._doors[model]
        door.waiter = None
        if answer.kind is AnswerKind.REFUSED:
            while door.held:
                self.account.refuse(model, door.held.popleft().at_s)
        elif door.held:
            self.at(self.now_s + ASK_AGAIN_S, lambda: self._wish(model))

    def _open(self, model: str) -> None:
        door = self._doors[model]
        door.open = True
        while door.held:
            self._let_in(door.held.popleft())

    def _time_out(self, arrival: Arrival) -> None:
        model, door = arrival.model, self._doors[arrival.model]
        if not any(held is arrival for held in door.held):
            return
        door.held.remove(arrival)
        self.account.refuse(model, arrival.at_s)
        if not door.held and door.waiter is not None:
            self.at(self.now_s + GOES_ON_S, lambda: self._withdraw(model))

    def _withdraw(self, model: str) -> None:
        door = self._doors[model]
        if not door.held and door.waiter is not None:
            del self._waiters[door.waiter]
            self._submit(CallerGone(door.waiter, model))
            door.waiter = None

    def _let_in(self, arrival: Arrival) -> None:
        server = self.servers[arrival.model]
        self.account.let_in(arrival.model, arrival.at_s, self.now_s)
        self._touch(arrival.model)
        if server.running >= server.costs.slots:
            server.waiting.append(arrival)
        else:
            self._serve(server, arrival)

    def _serve(self, server: Server, arrival: Arrival) -> None:
        takes_s = server.costs.request_s(arrival.prompt_tokens, arrival.output_tokens, server.running)
        server.running += 1
        self.account.used(server, self.now_s)
        self.at(self.now_s + takes_s, lambda: self._served(server, arrival))

    def _served(self, server: Server, arrival: Arrival) -> None:
        server.running -= 1
        server.count(arrival.prompt_tokens, arrival.output_tokens)
        if server.waiting:
            self._serve(server, server.waiting.popleft())
        self.account.used(server, self.now_s)
        self._touch(server.name)
        if not server.in_flight:
            if not self._doors[server.name].open:
                self._submit(GateEmptied(server.name))
            self._policy.idled(server.name)

    # what is seen

    def _touch(self, model: str) -> None:
        """Something moved inside: a poll would see it."""
        door = self._doors[model]
        door.active_s = self.now_s
        self._unseen[model] = None
        if self._windows or (door.told_in_use and not self.servers[model].in_flight):
            self._poll_next(model)

    def _poll_next(self, model: str) -> None:
        """Let the next poll tell what moved."""
        door, every_s = self._doors[model], self.settings.poll_every_s
        if not door.polled:
            door.polled = True
            self.at((math.floor(self.now_s / every_s) + 1) * every_s, lambda: self._poll(model))

    def _poll(self, model: str) -> None:
        self._doors[model].polled = False
        if model in self._unseen and is_looked_at(self.world, model):
            self._submit(self._look_at(model))
        if model in self._unseen and (self._windows or not self.servers[model].in_flight):
            self._poll_next(model)

    def _looks(self) -> list[Event]:
        """Looks at the models whose use was not told yet, as the last poll saw them."""
        return [self._look_at(name) for name in tuple(self._unseen) if self._is_due(name)]

    def _is_due(self, name: str) -> bool:
        told_s = self._doors[name].told_s
        again_s = told_s + self.settings.poll_every_s if self.servers[name].in_flight else told_s
        return self.now_s >= again_s and is_looked_at(self.world, name)

    def _look_at(self, name: str) -> ModelLooked:
        """Tell what the last poll saw; use is told again as long as it goes on."""
        door, in_use = self._doors[name], self.servers[name].in_flight > 0
        seen_s = self.now_s if in_use or name not in self._unseen else self._seen_s(name, door)
        door.told_s, door.told_in_use = self.now_s, in_use
        if not in_use:
            self._unseen.pop(name, None)
        return self._look(name, seen_s)

    def _seen_s(self, name: str, door: Door) -> MonotonicS:
        """When the poll that saw the last use was asked, if nothing settled since."""
        every_s, record = self.settings.poll_every_s, self.world.models[name]
        polled_s = min(math.ceil(door.active_s / every_s) * every_s, self.now_s)
        newest_s = record.seen.asked_at_s if isinstance(record.seen, Known) else 0.0
        return polled_s if polled_s >= max(record.settled_s, newest_s) else self.now_s

    def _look(self, name: str, asked_s: Seconds) -> ModelLooked:
        server = self.servers[name]
        seen = server.see(ask_sleeping=asks_sleeping(self.world.models[name]))
        return ModelLooked(name, Known(seen, asked_s, asked_s), server.in_flight)

    def _read_gpus(self, *, listed: bool = False) -> GpusLooked:
        return GpusLooked(self._dated(see_gpus(self.host, self._all)), listed)

    def _dated(self, value: object) -> Known:  # type: ignore[type-arg]
        return Known(value, self.now_s, self.now_s)

    def _submit(self, event: Event) -> None:
        self._events.append(event)

    def _now(self) -> Now:
        return Now(self.now_s, self._start_wall_s + self.now_s)

    def _remembered(self) -> Saved:
        saved = {name: server.saved(self._start_wall_s) for name, server in self.servers.items()}
        return Saved(saved, proven=frozenset(proof_key(server.facts) for server in self._all))
