"""What a scenario is played on: host, servers and daemon in virtual time, and an account of what became of them."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from sleepd.core.commands import Answer
from sleepd.core.life import State
from sleepd.core.model import CauseKind
from sleepd.core.records import Saved
from sleepd.core.task import LIFTS, UNIT_TASKS, TaskKind
from sleepd.core.turn import Note
from sleepd.core.unit import UnitOrder
from sleepd.core.units import HOUR_S, Seconds
from sleepd.core.wishes import ReservationAsked, ResetAsked, SleepAsked, StartAsked, StopAsked, WakeAsked
from sleepd.sim.callers import Callers, Fate
from sleepd.sim.host import GpuShare, RamShare
from sleepd.sim.scenario.cast import Cast, engine_of, host_of, settings_of, slice_of, unit_name, unit_of
from sleepd.sim.scenario.foreseen import remember
from sleepd.sim.units import SimManager, SimUnit
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import OutOfMemory
from sleepd.sim.world import VirtualDaemon

RESTART_S = 8.0
"""What a supervisor outside sleepd needs to bring a dead server back."""

Ask: TypeAlias = WakeAsked | SleepAsked | ResetAsked | ReservationAsked | StopAsked | StartAsked
ANSWERED_LATE_S = 100.0
"""A disk that is slow or full keeps answers that long; nothing else keeps them longer than a turn."""


@dataclass(slots=True)
class Account:
    """What happened around the daemon, for the invariants: who died of what, who was answered how."""

    asked: int = 0
    answered: int = 0
    served: int = 0
    jobs: int = 0
    """Jobs that asked for room."""
    deaths: list[str] = field(default_factory=list)
    blamed: set[str] = field(default_factory=set)
    """Models whose engine somebody else or a fault has harmed: these may fail, and may need a restart."""
    doubted: dict[str, Seconds] = field(default_factory=dict)
    """Until when a model may serve what is wrong: a stranger changed it, and nobody can know before the next look."""
    strangers_out: Counter[str] = field(default_factory=Counter)
    """Calls of strangers that were not answered yet, by model: it is doubted as long as one is out."""
    judged: set[int] = field(default_factory=set)
    """Tasks whose beginning was looked at."""
    begun: set[tuple[int, int]] = field(default_factory=set)
    """Wakes whose first call was looked at, and the attempt."""
    granted: set[tuple[str, float]] = field(default_factory=set)
    """Reservations whose grant was looked at, and when they were asked for."""
    lives_judged: int = 0
    """Deaths of the daemon before the life whose grants were looked at: what a dead one granted is not judged anew."""
    stopped_by_person: set[str] = field(default_factory=set)
    """Models whose unit a person stopped last: nobody but a person may start it."""
    restarts: dict[str, list[tuple[int, Seconds]]] = field(default_factory=dict)
    """The daemon's restarts by model: the task and when it ended or started the unit first."""
    waiting: dict[tuple[int, int], Seconds] = field(default_factory=dict)
    """Callers of the daemon's each life (its deaths so far, the caller), and until when they must have an answer."""
    fates: Counter[Fate] = field(default_factory=Counter)
    """What became of the requests of crowds."""
    uninvited: set[int] = field(default_factory=set)
    """Servers that somebody else started where memory was granted to a job: they hold what they took until they sleep.
    """
    turns_begun: set[int] = field(default_factory=set)
    """Wakes whose beginning was compared with who waited longer."""
    foretold: set[tuple[int, int]] = field(default_factory=set)
    """Tasks of rules that go by forecasts whose beginning was looked at, by the daemon's life."""
    acted: dict[tuple[int, str, str], dict[Seconds, Seconds]] = field(default_factory=dict)
    """When these rules acted, by the daemon's life, rule and model: the daemon's moments, and when that was seen."""
    looks: Counter[tuple[Callable[["Stage"], None], ...]] = field(default_factory=Counter)
    """How often these invariants were looked at together."""
    checked: Counter[str] = field(default_factory=Counter)
    """How often what is looked at by itself was, by what it says."""


class Stage:
    """Host, servers and daemon of one cast. Nothing runs before `start`; time is moved by whoever plays."""

    def __init__(
        self, cast: Cast, about: str, check: Callable[["Stage"], None], tell: Callable[["Stage", Note], None]
    ) -> None:
        self.cast, self.about = cast, about
        self.time = VirtualTime()
        self.host = host_of(cast)
        self.models = {model.name: model for model in cast.models}
        self.slice = slice_of(cast)
        self.servers = {name: VirtualServer(self.time, name) for name in self.models}
        for server in self.servers.values():
            server.see_unit = self.host.see_unit
        self.account = Account()
        self.manager = SimManager(self.time)
        self._ended: set[int] = set()
        self._orphaned: set[int] = set()
        for name, model in self.models.items():
            if model.controlled:
                self.manager.units[unit_name(model)] = SimUnit(
                    unit_name(model),
                    begin=partial(self._begin, name),
                    end=partial(self._end_process, name),
                    restarts=model.kills_all,
                    load_s=model.load_s,
                )
        self.faulty = True
        self.deadly: dict[str, Fault] = {}
        """What is armed on every process of a model as it comes up."""
        self._next_pid = 100
        self.daemon = VirtualDaemon(
            settings_of(cast),
            self.time,
            self.host,
            self.servers,
            manager=self.manager,
            check=lambda daemon: check(self),
            tell=lambda note: tell(self, note),
        )
        if cast.foreseen is not None:
            known = remember(cast.foreseen, cast.nap_idle_s, self.daemon.now().wall_s)
            self.daemon.saved = Saved(known)
        self.callers = Callers(self.daemon)
        self.manager.ordered = self._ordered

    def start(self) -> None:
        """Every server that fits is up, the others are tried again; the daemon runs."""
        for name in self.models:
            unit = self.unit_of(name)
            if unit is None:
                self._boot(name)
            else:
                self.manager.start(unit)
        self.daemon.start()

    def unit_of(self, name: str) -> SimUnit | None:
        """The unit of a model whose unit sleepd controls."""
        return self.manager.units.get(unit_name(self.models[name]))

    def blame(self, *names: str) -> None:
        """These models' engines may be harmed by what happens now."""
        self.account.blamed.update(names)

    def doubt(self, name: str, for_s: Seconds) -> None:
        """This engine was changed behind everybody's back: for this long nobody can know."""
        self.account.doubted[name] = max(self.account.doubted.get(name, 0.0), self.time.now() + for_s)

    def is_doubted(self, name: str, since_s: Seconds | None = None) -> bool:
        """Whether it may serve what is wrong now, or could at any time since."""
        until_s = self.account.doubted.get(name, -1.0)
        return self.account.strangers_out[name] > 0 or until_s >= (self.time.now() if since_s is None else since_s)

    def blame_gpu(self, index: int) -> None:
        self.blame(*(name for name, model in self.models.items() if index in model.gpus))

    def say(self, what: str) -> str:
        return f"{self.about} at {self.time.now():.3f}s: {what}"

    def later(self, delay_s: Seconds, do: Callable[[], None]) -> None:
        self.time.call_later(delay_s, do)

    def _boot(self, name: str) -> None:
        """Start the model's server, as a supervisor would; where it does not fit into GPU memory, or under the memory
        limits above it, it is tried again later."""
        if not self._make_process(name):
            self._make_room(name)
            self.later(RESTART_S, lambda: self._boot(name))

    def _begin(self, name: str) -> int:
        """The service manager starts the server's process."""
        pid = self._make_process(name)
        if not pid:
            self.blame(name)
            self._make_room(name)
        return pid

    def _make_process(self, name: str) -> int:
        """The pid of a new server; 0 where it did not fit, and ended at once."""
        pid, self._next_pid = self._next_pid, self._next_pid + 1
        unit = unit_of(self.models[name], self.slice)
        if unit is not None:
            self.host.units[pid] = unit
            if self.host.is_over_limit(unit):
                self.host.end_process(pid)
                return 0
        try:
            engine = SimEngine(
                engine_of(self.models[name]),
                self.time,
                GpuShare(self.host, self.models[name].gpus, pid),
                RamShare(self.host, pid),
                on_exit=lambda status: self._died(name, pid),
                started_wall_s=1.7e9 + self.time.now() + pid / 1000,
            )
        except OutOfMemory:
            self.host.refused -= 1
            self.host.end_process(pid)
            return 0
        self.servers[name].engine, self.servers[name].pid = engine, pid
        if name in self.deadly:
            engine.arm(self.deadly[name])
        if self.time.now() and not self._locked(name):
            self.disturb(self.models[name].gpus)
            if self._is_granted(self.models[name].gpus):
                self.account.uninvited.add(pid)
        return pid

    def disturb(self, gpus: Iterable[int]) -> None:
        """Memory is taken under neighbours' transitions (vLLM F4, F24), and the daemon could not know: its victims are
        not ours."""
        for other in self.daemon.world.tasks:
            if set(self.models[other].gpus) & set(gpus):
                self.blame(other)

    def _is_granted(self, gpus: Iterable[int]) -> bool:
        uuids = {self.host.gpus[index].uuid for index in gpus}
        return any(kept.granted and uuids & set(kept.uuids) for kept in self.daemon.world.reservations.values())

    def _ordered(self, unit: str, order: UnitOrder) -> None:
        """The daemon orders something of a unit: what it must never do is looked at here."""
        name = next(n for n, m in self.models.items() if unit_name(m) == unit)
        task, sim = self.daemon.world.tasks.get(name), self.manager.units[unit]
        self.account.checked["units are ordered only what their tasks say, and within the budget"] += 1
        assert task is not None, self.say(f"{order} of {unit} without a task")
        assert task.kind in UNIT_TASKS, self.say(f"{order} of {unit} without a task")
        if order is not UnitOrder.START:
            return
        assert name not in self.account.stopped_by_person, self.say(f"{unit} is started, and a person stopped it")
        assert not sim.left, self.say(f"{unit} is started while {sim.left} are left of it")
        if sim.active in ("inactive", "failed"):
            assert self.servers[name].engine is None, self.say(f"a second engine of {name} is started")
        if task.kind is TaskKind.RESTART and task.cause.kind is CauseKind.RECOVERY:
            begun = self.account.restarts.setdefault(name, [])
            if all(number != task.id for number, _ in begun):
                begun.append((task.id, self.time.now()))
            recent = [s for _, s in begun if self.time.now() - s < HOUR_S]
            most = self.daemon.settings.max_restarts
            assert len(recent) <= most, self.say(f"{unit} is restarted {len(recent)} times within an hour")

    def _locked(self, name: str) -> bool:
        """Whether the daemon knows that this server starts and keeps its GPUs from others: then it harms nobody."""
        task = self.daemon.world.tasks.get(name)
        wanted = {self.host.gpus[index].uuid for index in self.models[name].gpus}
        return task is not None and task.kind in LIFTS and wanted <= task.claims

    def _end_process(self, name: str, pid: int) -> None:
        """The service manager ends it."""
        self._ended.add(pid)
        engine = self.servers[name].engine
        if engine is not None and self.servers[name].pid == pid:
            engine.kill()
        self.host.end_process(pid)

    def orphan(self, name: str) -> None:
        """The API server dies alone: its engine core lives on in the cgroup, and keeps its GPU memory."""
        unit, server = self.unit_of(name), self.servers[name]
        if unit is None or server.engine is None or unit.pid != server.pid:
            return
        self._orphaned.add(server.pid)
        unit.left.add(server.pid)
        server.engine.kill(orphans=True)

    def _make_room(self, name: str) -> None:
        """Whoever starts a server on a GPU that is full asks for the others there to be put to sleep first."""
        for other, model in self.models.items():
            if self.daemon.alive and other != name and set(model.gpus) & set(self.models[name].gpus):
                self.ask_sleep(other, 1)

    def ask_sleep(self, name: str, level: int) -> None:
        """An operator's wish, whatever comes of it."""
        self.ask(lambda w: SleepAsked(w, name, "operator", level, 60.0), 60.0, lambda answer: None)

    def ask_reset(self, name: str) -> None:
        self.account.restarts.pop(name, None)
        self.ask(lambda w: ResetAsked(w, name, "operator"), 0.0, lambda answer: None)

    def ask(self, make: Callable[[int], Ask], within_s: Seconds, then: Callable[[Answer], None]) -> int:
        """Ask the daemon something that it must answer within `within_s`, unless it dies or the caller leaves."""
        self.account.asked += 1
        epoch = self.daemon.tally.deaths

        def answered(answer: Answer) -> None:
            self.account.answered += 1
            self.account.waiting.pop((epoch, waiter), None)
            then(answer)

        waiter = self.daemon.ask(make, answered)
        self.account.waiting[epoch, waiter] = self.time.now() + within_s
        return waiter

    def leave(self, waiter: int, name: str) -> None:
        self.account.waiting.pop((self.daemon.tally.deaths, waiter), None)
        self.daemon.leave(waiter, name)

    def _died(self, name: str, pid: int) -> None:
        if pid not in self._orphaned:
            self.host.end_process(pid)
        unit = self.unit_of(name)
        if self.servers[name].pid == pid:
            self.servers[name].engine = None
            if pid in self._ended:
                return
            self.account.deaths.append(name)
            self.account.checked["no engine dies of what we did"] += 1
            assert name in self.account.blamed, self.say(f"{name} died and nobody but us touched it")
            if unit is not None:
                self.manager.died(unit, pid)
            else:
                self.later(RESTART_S, lambda: self._boot(name))

    def restart_failed(self) -> None:
        """An operator restarts what the daemon says needs it. None may say so without a cause."""
        for name, record in self.daemon.world.models.items():
            engine = self.servers[name].engine
            if record.life.state is State.FAILED and engine is not None:
                assert name in self.account.blamed, self.say(f"{name} failed without a cause: {record.failure}")
                engine.kill()
