"""A seeded scenario: models, traffic and faults from one number, and the invariants that must survive them.

A safety phase with faults, then they end and everything must converge: no task left, every model settled, every
model that did not need a restart serving right answers again.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from sleepd.core.events import Answer, AnswerKind, ResetAsked, SleepAsked, WakeAsked
from sleepd.core.life import SERVING, SETTLED, State
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.rules import SLEEP_1, SLEEP_2, HostAvailableBelow, IdleFor, Rule, Threshold
from sleepd.core.units import GIB, Seconds
from sleepd.core.world import HOST_LOCK
from sleepd.sim.host import GpuShare, RamShare, SimGpu, SimHost
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import EngineSpec, HttpRequest, OutOfMemory, SimReply, Timing
from sleepd.sim.world import VirtualDaemon

FAULTY_S = 900.0
CALM_S = 300.0
RESTART_S = 8.0
"""What a supervisor outside sleepd needs to bring a dead server back."""
VERSIONS = ("0.16.0", "0.22.1", "0.28.0", "0.32.0")
NEIGHBOUR_PID = 9


@dataclass(slots=True)
class Person:
    """What happened around the daemon, for the invariants: who died of what, who was answered how."""

    asked: int = 0
    answered: int = 0
    served: int = 0
    deaths: list[str] = field(default_factory=list)
    blamed: set[str] = field(default_factory=set)
    """Models whose engine somebody else or a fault has harmed: these may fail, and may need a restart."""


class Scenario:
    """One seed, played out. `play` raises AssertionError where an invariant is broken."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, Random(seed)
        self.time = VirtualTime()
        self.host = self._make_host()
        self.specs: dict[str, EngineSpec] = {}
        self.places: dict[str, tuple[int, ...]] = {}
        self.servers: dict[str, VirtualServer] = {}
        self.person = Person()
        self.faulty = True
        self._next_pid = 100
        self._checked_commits = -1
        self._engine_gone: dict[str, float] = {}
        self.settings = self._make_models()
        self.daemon = VirtualDaemon(self.settings, self.time, self.host, self.servers, check=self._check)

    # the host and its models

    def _make_host(self) -> SimHost:
        count = self.random.choice((1, 1, 2))
        gpus = [SimGpu(f"GPU-{i}", i, 80 * GIB) for i in range(count)]
        return SimHost(gpus, ram_bytes=self.random.choice((128, 512)) * GIB)

    def _make_models(self) -> Settings:
        specs = {}
        for i in range(self.random.randint(2, 4)):
            name, version = f"m{i}", self.random.choice(VERSIONS)
            wide = len(self.host.gpus) == 2 and self.random.random() < 0.2
            gpus = (0, 1) if wide else (self.random.randrange(len(self.host.gpus)),)
            weights = self.random.choice((8, 16, 24)) * GIB
            self.specs[name] = EngineSpec(
                version=version,
                name=name,
                weights_bytes=weights,
                kv_bytes=self.random.choice((10, 20)) * GIB,
                residual_bytes=GIB,
                timing=Timing(first_sleep_factor=self.random.choice((1.0, 10.0))),
                tensor_parallel_size=len(gpus),
                pace_s=0.02,
            )
            self.places[name] = gpus
            self.servers[name] = VirtualServer(self.time, name)
            specs[name] = ModelSpec(
                name=name,
                url=f"http://127.0.0.1:80{i:02}",
                gpus=tuple(str(g) for g in gpus) if self.random.random() < 0.5 else (),
                max_level=self.random.choice((1, 1, 2)),
                min_awake_s=self.random.choice((0.0, 10.0, 60.0)),
                priority=self.random.choice((0, 0, 5)),
                fenced=version == "0.16.0" or self.random.random() < 0.3,
            )
        names = frozenset(specs)
        pressure = HostAvailableBelow(Threshold(share=0.2), Threshold(share=0.3))
        rules = (
            Rule("nap", names, (IdleFor(self.random.choice((20.0, 60.0, 180.0))),), SLEEP_1),
            Rule("host-ram-pressure", names, (pressure,), SLEEP_2, for_s=15.0),
        )
        return Settings(specs, rules, poll_every_s=self.random.choice((2.0, 4.0, 6.0)), retries=2)

    def _boot(self, name: str) -> None:
        """Start the model's server, as a supervisor would; where it does not fit, it is tried again later."""
        pid, self._next_pid = self._next_pid, self._next_pid + 1
        spec = self.specs[name]
        try:
            engine = SimEngine(
                spec,
                self.time,
                GpuShare(self.host, self.places[name], pid),
                RamShare(self.host, pid),
                on_exit=lambda status: self._died(name, pid),
                started_wall_s=1.7e9 + self.time.now() + pid / 1000,
            )
        except OutOfMemory:
            self.host.refused -= 1
            self.time.call_later(RESTART_S, lambda: self._boot(name))
            return
        self.servers[name].engine, self.servers[name].pid = engine, pid
        # A server that starts takes memory under a neighbour's transition (vLLM F4, F24): its victims are not ours.
        for other in self.daemon.world.tasks if self.time.now() > 0 else ():
            if set(self.places[other]) & set(self.places[name]):
                self.person.blamed.add(other)
        self._engine_gone.pop(name, None)

    def _died(self, name: str, pid: int) -> None:
        for gpu in self.host.gpus:
            gpu.held.pop(pid, None)
        self.host.pinned.pop(pid, None)
        if self.servers[name].pid == pid:
            self.servers[name].engine = None
            self._engine_gone[name] = self.time.now()
            self.person.deaths.append(name)
            if name not in self.person.blamed:
                raise AssertionError(self._say(f"{name} died and nobody but us touched it"))
            self.time.call_later(RESTART_S, lambda: self._boot(name))

    # playing

    def play(self) -> str:
        """Play the seed to its end and return one line about it. Raises AssertionError."""
        self._boot_all()
        self.daemon.start()
        self._every(self._request, 4.0, 25.0)
        self._every(self._operate, 30.0, 200.0)
        self._every(self._upset, 20.0, 120.0)
        self.time.run_until(FAULTY_S)
        self._heal()
        self.time.run_until(FAULTY_S + CALM_S)
        self._check_settled()
        tally = self.daemon.tally
        return (
            f"seed {self.seed}: {len(self.specs)} models, {tally.turns} turns, {tally.steps} steps,"
            f" {self.person.served} served, {tally.deaths} daemon deaths, {len(self.person.deaths)} engine deaths"
        )

    def _boot_all(self) -> None:
        """Bring every server up; those that do not fit beside the others are put to sleep first, by hand."""
        for name in self.specs:
            self._boot(name)

    def _every(self, do: Any, least_s: Seconds, most_s: Seconds) -> None:
        def again() -> None:
            do()
            self.time.call_later(self.random.uniform(least_s, most_s), again)

        self.time.call_later(self.random.uniform(0.0, most_s), again)

    def _request(self) -> None:
        """A caller over the socket: wakes a model, enters its gate, asks one question, leaves."""
        name = self.random.choice(sorted(self.specs))
        if not self.daemon.alive:
            return
        self.person.asked += 1
        timeout_s = self.random.choice((5.0, 60.0, 120.0))
        epoch = self.daemon.tally.deaths

        def answered(answer: Answer) -> None:
            self.person.answered += 1
            if answer.kind is AnswerKind.DONE and self.daemon.gates.of(name).enter():
                self._ask_engine(name, epoch)

        waiter = self.daemon.ask(lambda w: WakeAsked(w, name, "user", timeout_s), answered)
        if self.random.random() < 0.1:
            self.time.call_later(self.random.uniform(0.0, 3.0), lambda: self._leave(waiter, name, epoch))

    def _leave(self, waiter: int, name: str, epoch: int) -> None:
        if self.daemon.alive and self.daemon.tally.deaths == epoch:
            self.daemon.leave(waiter, name)

    def _ask_engine(self, name: str, epoch: int) -> None:
        tokens = self.random.choice((8, 100, 400))
        body = {"model": name, "prompt": "hello", "max_tokens": tokens, "temperature": 0}
        engine = self.servers[name].engine
        deaths = len(self.person.deaths)
        gates = self.daemon.gates

        def take(answer: Any) -> None:
            gates.leave(name)
            if isinstance(answer, SimReply) and answer.status == 200:
                self.person.served += 1
                reason = answer.body["choices"][0].get("finish_reason")
                fine = name in self.person.blamed or (reason != "abort" and "!!!!" not in str(answer.body))
                assert fine, self._say(f"{name} was aborted or served garbage: {answer.body['choices'][0]}")
            elif name not in self.person.blamed and len(self.person.deaths) == deaths:
                raise AssertionError(self._say(f"{name} refused a request that its gate let in: {answer}"))

        if engine is None:
            gates.leave(name)
            return
        self.servers[name].request(HttpRequest("POST", "/v1/completions", (), body), 600.0, take)

    def _operate(self) -> None:
        """An operator: sleeps a model by hand, or resets a failed one."""
        if not self.daemon.alive:
            return
        name = self.random.choice(sorted(self.specs))
        self.person.asked += 1

        def answered(answer: Answer) -> None:
            self.person.answered += 1

        if self.daemon.world.models[name].life.state is State.FAILED:
            self.daemon.ask(lambda w: ResetAsked(w, name, "operator"), answered)
        else:
            level = self.random.choice((1, 1, 2))
            self.daemon.ask(lambda w: SleepAsked(w, name, "operator", level, 60.0), answered)

    # faults

    def _upset(self) -> None:
        if not self.faulty:
            return
        kind = self.random.choice(_UPSETS)
        name = self.random.choice(sorted(self.specs))
        getattr(self, f"_upset_{kind}")(name)

    def _upset_engine(self, name: str) -> None:
        engine = self.servers[name].engine
        if engine is None:
            return
        kind, path = self.random.choice(_ENGINE_FAULTS)
        blocks = self.random.randint(0, 5)
        self.person.blamed.add(name)
        engine.arm(Fault(kind, path=path, blocks=blocks, seconds=self.random.choice((0.2, 5.0, 40.0))))
        if kind == "hang":
            self.time.call_later(self.random.uniform(5.0, 500.0), engine.release_hang)

    def _upset_death(self, name: str) -> None:
        engine = self.servers[name].engine
        if engine is not None:
            self.person.blamed.add(name)
            engine.kill()

    def _upset_foreign(self, name: str) -> None:
        """Somebody else's curl."""
        path, query = self.random.choice(_FOREIGN)
        self.person.blamed.add(name)
        self.servers[name].request(HttpRequest("POST", path, query), 600.0, lambda answer: None)

    def _upset_neighbour(self, name: str) -> None:
        """A stranger takes GPU memory for a while; an allocation of ours may then fail at the engine."""
        gpu = self.random.choice(self.host.gpus)
        taken = min(gpu.free_bytes, self.random.randint(1, 30) * GIB)
        gpu.held[NEIGHBOUR_PID] = gpu.held.get(NEIGHBOUR_PID, 0) + taken
        self.person.blamed.update(n for n, places in self.places.items() if gpu.index in places)

        def leave() -> None:
            gpu.held.pop(NEIGHBOUR_PID, None)

        self.time.call_later(self.random.uniform(5.0, 120.0), leave)

    def _upset_ram(self, name: str) -> None:
        """Other people's use of host RAM rises and falls."""
        room = max(0, self.host.available_bytes)
        extra = int(room * self.random.uniform(0.5, 0.95))
        self.host.others_bytes += extra

        def over() -> None:
            self.host.others_bytes -= extra

        self.time.call_later(self.random.uniform(30.0, 200.0), over)
        self.person.blamed.update(self.specs)

    def _upset_daemon(self, name: str) -> None:
        """The daemon is killed: now, before its next commit or right after it; a moment later it starts again."""
        how = self.random.choice(("now", "before", "after", "after"))
        if not self.daemon.alive:
            return
        if how == "now":
            self.daemon.die()
        self.daemon.upsets.die_before_commit = how == "before"
        self.daemon.upsets.die_after_commit = how == "after"

        def revive() -> None:
            self.daemon.upsets.die_before_commit = self.daemon.upsets.die_after_commit = False
            if not self.daemon.alive:
                self.daemon.start()

        self.time.call_later(self.random.uniform(0.5, 30.0), revive)

    def _upset_disk(self, name: str) -> None:
        self.daemon.upsets.fail_commits = self.random.randint(1, 4)

    def _upset_nvml(self, name: str) -> None:
        self.daemon.upsets.nvml_missing = True

        def over() -> None:
            self.daemon.upsets.nvml_missing = False

        self.time.call_later(self.random.uniform(1.0, 30.0), over)

    def _upset_clock(self, name: str) -> None:
        self.daemon.upsets.wall_offset_s += self.random.choice((-7200.0, -5.0, 3600.0))

    def _heal(self) -> None:
        """Faults end: what is armed is disarmed, strangers leave, engines that need it are restarted as told."""
        self.faulty = False
        self.daemon.upsets.fail_commits, self.daemon.upsets.nvml_missing = 0, False
        self.daemon.upsets.die_after_commit = self.daemon.upsets.die_before_commit = False
        for gpu in self.host.gpus:
            gpu.held.pop(NEIGHBOUR_PID, None)
        for server in self.servers.values():
            if server.engine is not None:
                server.engine.disarm()
                server.engine.release_hang()
        if not self.daemon.alive:
            self.daemon.start()

        def restart_failed() -> None:
            for name, record in self.daemon.world.models.items():
                engine = self.servers[name].engine
                if record.life.state is State.FAILED and engine is not None:
                    assert name in self.person.blamed, self._say(f"{name} failed without a cause: {record.failure}")
                    engine.kill()

        self.time.call_later(60.0, restart_failed)

    # invariants

    def _check(self, daemon: VirtualDaemon) -> None:
        """After every turn."""
        claims: dict[str, int] = {}
        for name, record in daemon.world.models.items():
            gate = daemon.gates.of(name)
            assert not gate.open or record.life.state in SERVING, self._say(
                f"{name}'s gate is open while {record.life}"
            )
            task = daemon.world.tasks.get(name)
            if task is not None:
                for claim in task.claims:
                    assert claim not in claims, self._say(f"two tasks hold {claim}")
                    claims[claim] = task.id
            if gate.open and daemon.tally.commits != self._checked_commits and name not in self.person.blamed:
                self._check_serving(name)
        self._checked_commits = daemon.tally.commits

    def _check_serving(self, name: str) -> None:
        engine = self.servers[name].engine
        if engine is not None and engine.exit_status is None:
            snap = engine.snapshot()
            asleep = bool(snap.sleeping_tags) or snap.is_paused
            assert not asleep, self._say(f"{name}'s gate is open, its engine sleeps: {sorted(snap.sleeping_tags)}")
            assert snap.answers_right, self._say(f"{name}'s gate is open and it would serve garbage")

    def _check_settled(self) -> None:
        world = self.daemon.world
        for name, record in world.models.items():
            task = world.tasks.get(name)
            settled = record.life.state in SETTLED and task is None
            # A level 2 check or a caller may be under way at any moment; only what cannot end is wrong.
            young = task is not None and self.daemon.now().mono_s - task.started_s < 120.0
            assert settled or young, self._say(f"{name} did not settle: {record.life} {record.reason} {task}")
            assert record.life.state is not State.FAILED or name in self.person.blamed, self._say(f"{name} failed")
            if record.life.state in SERVING and self.servers[name].engine is not None:
                self._check_serving(name)
        strict = not self.person.blamed
        if strict:
            assert self.host.refused == 0, self._say("an out-of-memory reached an engine")
        assert HOST_LOCK == "host"

    def _say(self, what: str) -> str:
        return f"seed {self.seed} at {self.time.now():.3f}s: {what}"


_UPSETS = (
    "engine",
    "engine",
    "death",
    "foreign",
    "neighbour",
    "ram",
    "daemon",
    "daemon",
    "daemon",
    "disk",
    "nvml",
    "clock",
)
_ENGINE_FAULTS: tuple[tuple[Any, str | None], ...] = (
    ("fail_sleep", None),
    ("fail_wake", None),
    ("fail_reload", None),
    ("fail_reset_cache", None),
    ("free_nothing", None),
    ("hang", None),
    ("slow", None),
    ("slow", "/is_sleeping"),
    ("lose_before", None),
    ("lose_after", None),
    ("no_op", "/sleep"),
    ("no_op", "/wake_up"),
    ("die_at_call", None),
    ("die_after_sleep", None),
)
_FOREIGN: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("/sleep", (("level", "1"),)),
    ("/wake_up", ()),
    ("/sleep", (("level", "2"),)),
)
