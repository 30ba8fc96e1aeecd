"""sleepd under the load: its core, its steps and its simulated servers, looks, readings and records in virtual time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from contention_side.load import SERVICE_S, Arrival, Outcome

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked
from sleepd.sim.callers import Callers, Fate, Request
from sleepd.sim.host import GpuShare, RamShare, SimGpu, SimHost
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_types import EngineSpec, Timing
from sleepd.sim.world import VirtualDaemon

UP_WITHIN_S = 60.0


class Sleepd:
    """One GPU on which only one of the models fits; all of them have slept once, and the first is awake."""

    def __init__(self, specs: Mapping[str, ModelSpec], down_s: float, up_s: Callable[[str], float], side: str) -> None:
        """`specs`: what is set for each model, but for its name and where it is."""
        self._names = names = tuple(specs)
        self._down_s, self._up_s = down_s, up_s
        self.time, self.outcome = VirtualTime(), Outcome(side)
        self._host = SimHost([SimGpu("GPU-0", 0, 112 * GIB)], ram_bytes=1024 * GIB)
        self._servers = {name: VirtualServer(self.time, name) for name in names}
        specs = {n: replace(spec, name=n, url=f"http://{n}", gpus=("0",)) for n, spec in specs.items()}
        self._daemon = VirtualDaemon(Settings(specs), self.time, self._host, self._servers)
        self._callers = Callers(self._daemon)
        self._daemon.start()
        for name in reversed(names):
            self._bring_up(name)
        for name in names:
            assert name == names[0] or self._state(name) is State.ASLEEP_L1

    def play(self, arrivals: Sequence[Arrival], until_s: float) -> Outcome:
        tasks = self._daemon.tally.notes.get("victim", 0)
        for arrival in arrivals:
            self.time.call_later(arrival.at_s, lambda model=arrival.model: self._come(model))  # type: ignore[misc]
        self.time.run_until(self.time.now() + until_s)
        self.outcome.switches = self._daemon.tally.notes.get("victim", 0) - tasks
        assert self._host.refused == 0, "an allocation failed"
        return self.outcome

    def _come(self, model: str) -> None:
        def ended(fate: Fate, waited_s: float) -> None:
            if fate is Fate.SERVED:
                self.outcome.waits_s[model].append(waited_s)
            else:
                self.outcome.in_vain[model] += 1

        self._callers.send(Request(model, lambda done: _serve(self.time, done), ended))

    def _bring_up(self, name: str) -> None:
        """The server is up; all but the last one sleep once, so that their backups are pinned."""
        pid = 100 + self._names.index(name)
        timing = Timing(sleep_s=self._down_s, wake_s=self._up_s(name))
        spec = EngineSpec(name=name, weights_bytes=75 * GIB, kv_bytes=15 * GIB, residual_bytes=GIB, timing=timing)
        gpu, ram = GpuShare(self._host, (0,), pid), RamShare(self._host, pid)
        self._servers[name].engine = SimEngine(spec, self.time, gpu, ram, on_exit=_died, started_wall_s=1.7e9 + pid)
        self._servers[name].pid = pid
        self._await(lambda: self._state(name) is State.AWAKE and not self._daemon.world.tasks)
        if name != self._names[0]:
            answers: list[Answer] = []
            self._daemon.ask(lambda w: SleepAsked(w, name, "person", 1, UP_WITHIN_S), answers.append)
            self._await(lambda: bool(answers))
            assert answers[0].kind is AnswerKind.DONE, answers

    def _await(self, holds: Callable[[], bool]) -> None:
        end_s = self.time.now() + UP_WITHIN_S
        while not holds():
            assert self.time.now() < end_s, {n: r.reason for n, r in self._daemon.world.models.items()}
            self.time.run_until(self.time.now() + 0.25)

    def _state(self, name: str) -> State:
        return self._daemon.world.models[name].life.state


def _serve(time: VirtualTime, done: Callable[[], None]) -> None:
    time.call_later(SERVICE_S, done)


def _died(status: int) -> None:
    raise AssertionError(f"a server ended with status {status}")
