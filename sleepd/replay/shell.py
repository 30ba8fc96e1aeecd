"""The lean shell around `step`: virtual time that skips from one event or deadline to the next.

What the daemon would learn by polling every second is told when it matters: before anything is decided, and before
time alone would decide something. Decisions come from the real `step`, steps from the real procedures.
"""

import math

from sleepd.core.beginning import begin
from sleepd.core.commands import Answer, Command, LeaveStep, LookNow, OpenGate, RunStep
from sleepd.core.deadlines import Deadlines
from sleepd.core.events import CalendarExtended, Event, GpusLooked, HostLooked, Tick
from sleepd.core.machine import is_looked_at, step
from sleepd.core.model import Known, Now, Settings
from sleepd.core.records import Saved, TaskEnded
from sleepd.core.rules import LocalTime, PredictedIdle
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Seconds, WallS
from sleepd.core.wishes import WISH_S, SleepAsked, WakeAsked
from sleepd.core.world import World, proof_key
from sleepd.engine.ticker import AHEAD_S, work_out
from sleepd.replay.account import Account, Switch
from sleepd.replay.doors import Doors
from sleepd.replay.hosts import Host
from sleepd.replay.looks import Looks
from sleepd.replay.policies.base import Policy
from sleepd.replay.servers import Server, see_gpus, see_ram
from sleepd.replay.steps import NVML_S, Steps
from sleepd.replay.timeline import Timeline
from sleepd.replay.trace import Trace


class Replay(Timeline):
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
        super().__init__()
        self.settings, self.host, self.servers, self.trace = settings, host, servers, trace
        self.account = Account(host, servers, judge_from_s)
        self.end_s = trace.end_s if end_s is None else end_s
        self.turns = 0
        self._all, self._policy, self._start_wall_s = tuple(servers.values()), policy or Policy(), start_wall_s
        self._events: list[Event] = []
        self._asked = False
        self._looks = Looks(settings, servers, self, world=lambda: self.world, submit=self._submit)
        self._doors = Doors(
            servers,
            self,
            self.account,
            self._policy,
            queue_limit=queue_limit,
            submit=self._submit,
            touched=self._looks.touch,
        )
        self._steps = Steps(
            servers,
            gpus=lambda: see_gpus(host, self._all),
            ram=lambda: see_ram(host, self._all),
            at=self.at,
            moved=lambda server: self.account.moved(server, self.now_s),
            submit=self._submit,
        )
        self._deadlines, self._due_s = Deadlines(), math.inf
        self.world: World = begin(settings, self._remembered(), self._now()).world

    def run(self) -> Account:
        """Play the trace to its end and return what it came to."""
        self._begin()
        for arrival in self.trace.arrivals:
            if arrival.at_s > self.end_s:
                break
            self._advance(arrival.at_s)
            self.now_s = arrival.at_s
            self._doors.arrive(arrival, self.settings.models[arrival.model])
            self._settle()
        self._advance(self.end_s)
        self.now_s = self.end_s
        self.account.close(self.now_s)
        return self.account

    # for policies: see policies/base.py

    def sleep(self, model: str) -> None:
        self._submit(SleepAsked(self._doors.number(), model, "policy", 1, WISH_S, wait=False))

    def wake(self, model: str) -> None:
        if self._fits(model):
            self._submit(WakeAsked(self._doors.number(), model, "policy", WISH_S, wait=False))
            self._asked = True

    def in_use(self, model: str) -> bool:
        return self._doors.in_use(model)

    def is_awake(self, model: str) -> bool:
        return self._doors.is_open(model)

    def _fits(self, model: str) -> bool:
        """Whether its wake would need nobody's sleep, as far as can be told from what is held."""
        server, margin = self.servers[model], self.settings.gpu_margin_bytes
        takes = server.costs.awake_bytes - server.costs.asleep_bytes
        seen = {gpu.uuid: gpu.free_bytes for gpu in see_gpus(self.host, self._all)}
        return not server.holds and all(seen[uuid] - margin >= takes for uuid in server.gpus)

    # what happens

    def _begin(self) -> None:
        if any(isinstance(c, LocalTime | PredictedIdle) for rule in self.settings.rules for c in rule.conditions):
            self._extend_calendar()
        self._submit(self._read_gpus(listed=True))
        self._submit(HostLooked(Known(see_ram(self.host, self._all), 0.0, 0.0)))
        for name in self.servers:
            self._submit(self._looks.now(name, 0.0))
        self._settle()
        self._policy.begin(self)
        self._settle()

    def _extend_calendar(self) -> None:
        self._submit(CalendarExtended(work_out(self.settings.rules, self._start_wall_s + self.now_s)))
        self.at(self.now_s + AHEAD_S / 2, self._extend_calendar)

    def _advance(self, until_s: Seconds) -> None:
        """Let everything happen that is due before `until_s`, or then."""
        while min(self.next_s, self._due_s) <= until_s:
            # A deadline comes before what else happens in its moment: a turn that passes it would pass over it.
            if self._due_s <= self.next_s:
                self._tick()
            else:
                self.run_next()
            self._settle()

    def _tick(self) -> None:
        """A deadline is due: of a model, then it is looked at, which may put it off; or of something else."""
        self.now_s = due_s = self._due_s
        names = self._deadlines.whose(due_s)
        events: list[Event] = [self._read_gpus()] if self._doors.anybody_waits else []
        if names and all(is_looked_at(self.world, name) for name in names):
            self._turn([*events, *(self._looks.at(name) for name in names)])
        else:
            self._turn([*events, *self._looks.due(), Tick()])

    def _settle(self) -> None:
        while self._events:
            events, self._events = self._events, []
            looks = self._looks.due()
            if self._doors.anybody_waits or self._asked:
                # Whoever waits for room needs a fresh reading, and would ask for one.
                self._asked = False
                looks.append(self._read_gpus())
            self._turn(looks + events)

    def _turn(self, events: list[Event]) -> None:
        now = self._now()
        turn = step(self.world, events, now)
        self.turns += 1
        for model in turn.shut:
            self._doors.shut(model)
        self.world = turn.world
        for record in turn.records:
            if isinstance(record, TaskEnded) and record.done:
                self._count(record.task)
        for command in turn.commands:
            self._carry_out(command)
        due_s = self._deadlines.after(self.world, now)
        self._due_s = math.inf if due_s is None else due_s

    def _count(self, task: Task) -> None:
        if task.kind not in (TaskKind.SLEEP, TaskKind.WAKE):
            return
        began_s = task.started_s if task.called_s is None else task.called_s
        cause, took_s = f"{task.cause.kind}:{task.cause.who}", round(self.now_s - began_s, 6)
        self.account.switched(Switch(self.now_s, task.model, task.kind.value, task.level, took_s, cause))
        if task.kind is TaskKind.WAKE:
            self._policy.woke(task.model)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, RunStep):
            self._steps.run(command.order, self.now_s)
        elif isinstance(command, OpenGate):
            self._doors.open(command.model)
        elif isinstance(command, Answer):
            self._doors.answered(command)
        elif isinstance(command, LookNow):
            if command.gpus:
                self.at(self.now_s + NVML_S, lambda: self._submit(self._read_gpus()))
            if command.model:
                self.at(self.now_s + NVML_S, lambda: self._submit(self._looks.now(command.model, self.now_s)))
        elif isinstance(command, LeaveStep):
            self._steps.leave(command.model, command.task_id, command.cursor, self.now_s)

    def _read_gpus(self, *, listed: bool = False) -> GpusLooked:
        return GpusLooked(Known(see_gpus(self.host, self._all), self.now_s, self.now_s), listed)

    def _submit(self, event: Event) -> None:
        self._events.append(event)

    def _now(self) -> Now:
        return Now(self.now_s, self._start_wall_s + self.now_s)

    def _remembered(self) -> Saved:
        saved = {name: server.saved(self._start_wall_s) for name, server in self.servers.items()}
        return Saved(saved, proven=frozenset(proof_key(server.facts) for server in self._all))
