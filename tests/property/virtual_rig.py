"""One small clean host in virtual time, with a daemon that can be killed at any commit and any step.

The scenario of sleepd/sim draws everything from a seed; here one task runs, and the moment of death is counted out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import SETTLED, State
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.record import ModelRecord, serves
from sleepd.core.turn import Note
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked, WakeAsked
from sleepd.sim.host import GpuShare, RamShare, SimGpu, SimHost
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import EngineSpec
from sleepd.sim.world import VirtualDaemon

WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Death:
    """When the daemon dies: before or after its n-th commit, or `late_s` after it sent its n-th call."""

    where: str
    n: int
    late_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.where} {self.n}" + (f" +{self.late_s}s" if self.late_s else "")


class Aimed(VirtualDaemon):
    """Tells when a commit is about to be made: one may follow another without anything published in between."""

    aim: Callable[[], None] = staticmethod(lambda: None)

    def _commit(self, *args: Any) -> None:
        self.aim()
        super()._commit(*args)


@dataclass(slots=True)
class Rig:
    """Models on one 80 GiB GPU: 16 GiB of weights, 30 GiB of KV cache, so that two fit only one at a time awake."""

    version: str
    names: tuple[str, ...] = ("a",)
    max_level: int = 1
    kv_bytes: int = 14 * GIB
    time: VirtualTime = field(default_factory=VirtualTime)
    host: SimHost = field(default_factory=lambda: SimHost([SimGpu("GPU-0", 0, 80 * GIB)], ram_bytes=512 * GIB))
    servers: dict[str, VirtualServer] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    death: Death | None = None
    daemon: Aimed = field(init=False)
    engine_more: Mapping[str, Any] = field(default_factory=dict)
    """More of the engines' EngineSpec."""
    spec_more: Mapping[str, Any] = field(default_factory=dict)
    """More of the models' ModelSpec."""
    _counted: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        specs = {n: self._spec(n) for n in self.names}
        for name in self.names:
            self.servers[name] = VirtualServer(self.time, name)
        settings = Settings(specs, retries=2)
        self.daemon = Aimed(settings, self.time, self.host, self.servers, check=self._count, tell=self.notes.append)
        self.daemon.aim = self._aim

    def _spec(self, name: str) -> ModelSpec:
        plain = ModelSpec(name, f"http://{name}", gpus=("0",), min_awake_s=0.0, fenced=True, max_level=self.max_level)
        return replace(plain, **self.spec_more)

    # the course of things

    def reboot(self, name: str) -> None:
        """Somebody restarts the model's server: another process, its memory as at its start."""
        self.engine(name).kill()
        self.deaths.remove(name)
        self.boot(name, pid=self.servers[name].pid + 100)

    def boot(self, name: str, pid: int = 0) -> None:
        """The model's server is up, its memory held."""
        pid = pid or 100 + self.names.index(name)
        spec = EngineSpec(self.version, name, weights_bytes=16 * GIB, kv_bytes=self.kv_bytes, residual_bytes=GIB)
        spec = replace(spec, **self.engine_more)
        self.servers[name].engine = SimEngine(
            spec,
            self.time,
            GpuShare(self.host, (0,), pid),
            RamShare(self.host, pid),
            on_exit=lambda status: self.deaths.append(name),
            started_wall_s=1.7e9 + pid,
        )
        self.servers[name].pid = pid

    def start(self) -> None:
        self.daemon.start()

    def run(self, seconds: float) -> None:
        self.time.run_until(self.time.now() + seconds)

    def until(self, true: Callable[[], bool], within_s: float = WAIT_S, every_s: float = 0.25) -> bool:
        """Let time pass until something is true, looking so often; False where it never becomes so."""
        end_s = self.time.now() + within_s
        while not true() and self.time.now() < end_s:
            self.run(every_s)
        return true()

    def wake(self, name: str) -> list[Answer]:
        answers: list[Answer] = []
        self.daemon.ask(lambda w: WakeAsked(w, name, "test", WAIT_S), answers.append)
        return answers

    def sleep(self, name: str, level: int) -> list[Answer]:
        answers: list[Answer] = []
        self.daemon.ask(lambda w: SleepAsked(w, name, "test", level, WAIT_S), answers.append)
        return answers

    def arm(self, name: str, *faults: Fault) -> None:
        for fault in faults:
            self.engine(name).arm(fault)

    # death and revival

    def count_from_here(self, death: Death | None) -> None:
        """The death's n counts commits and calls from now on."""
        self._counted = (self.daemon.tally.commits, self.daemon.tally.steps)
        self.death = death
        self._aim()

    def commits_and_calls(self) -> tuple[int, int]:
        return self.daemon.tally.commits - self._counted[0], self.daemon.tally.steps - self._counted[1]

    def _count(self, daemon: VirtualDaemon) -> None:
        self._check_gates()
        self._aim()

    def _aim(self) -> None:
        if self.death is None:
            return
        commits, calls = self.commits_and_calls()
        if self.death.where == "call" and calls >= self.death.n:
            death, self.death = self.death, None
            self.time.call_later(death.late_s, self.daemon.die)
        elif self.death.where != "call" and commits == self.death.n - 1:
            self.daemon.upsets.die_before_commit = self.death.where == "before commit"
            self.daemon.upsets.die_after_commit = self.death.where == "after commit"
            self.death = None

    def spare(self) -> None:
        """The daemon lives on: nothing came that it was to die of."""
        self.death = None
        self.daemon.upsets.die_before_commit = self.daemon.upsets.die_after_commit = False

    def die_and_revive(self) -> None:
        """The daemon met its death, and its supervisor started it again a second later."""
        assert self.until(lambda: not self.daemon.alive, 60.0), "the death it was to die never came"
        self.run(1.0)
        self.daemon.start()

    # what is true

    def engine(self, name: str) -> SimEngine:
        engine = self.servers[name].engine
        assert engine is not None
        return engine

    def record(self, name: str) -> ModelRecord:
        return self.daemon.world.models[name]

    def state(self, name: str) -> State:
        return self.record(name).life.state

    def settled(self) -> bool:
        world = self.daemon.world
        return self.daemon.alive and not world.tasks and all(r.life.state in SETTLED for r in world.models.values())

    def gave_up(self) -> list[str]:
        return [n.text for n in self.notes if n.data.get("fact") == "gave_up"]

    def _check_gates(self) -> None:
        for name in self.names:
            gate, record = self.daemon.gates.of(name), self.daemon.world.models[name]
            assert not gate.open or serves(record), f"{name}'s gate is open while {record.life}, {record.yields}"
            if gate.open and self.engine(name).exit_status is None:
                snap = self.engine(name).snapshot()
                assert not snap.sleeping_tags, f"{name}'s gate is open, its engine sleeps"
                assert not snap.is_paused, f"{name}'s gate is open, its engine is paused"
                assert snap.answers_right, f"{name}'s gate is open and it would serve garbage"

    def check_usable(self, name: str) -> None:
        """Woken on demand within its time, it gives right answers, and nobody harmed an engine on the way."""
        answers = self.wake(name)
        self.until(lambda: bool(answers))
        assert [a.kind for a in answers] == [AnswerKind.DONE], f"{name} cannot be woken: {answers} {self.record(name)}"
        assert self.daemon.gates.of(name).open
        snap = self.engine(name).snapshot()
        assert snap.answers_right
        assert not snap.is_paused
        assert not snap.sleeping_tags
        assert self.deaths == []
