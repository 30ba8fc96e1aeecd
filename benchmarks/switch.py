"""Two models that do not fit together, by turns: a script of curl calls against sleepd, in virtual time.

Both drive the same simulated servers on the same simulated host with the durations of published vLLM logs: level 1,
75 GiB down in 43 s the first time and in 6.5 s later, up in 1.5 s and 2.4 s; level 2, 0.14 s down, 0.13 s up and 13.9 s
to read the weights. The script knows what to call and calls it one after the other: it looks at nothing, waits for
nothing else, and proves nothing. sleepd is asked for the next model, and does the rest: preflight, drain, sleep, proof,
wake, proof, with a record before each call (2 ms), looks (0.5 to 1 ms) and readings of NVML (5 ms) as the simulator
times them. What its own code costs on a processor is not in here: see turn.py and wake_overhead.py.

A switch is timed from the first call until the next model has answered a request of one token.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked, WakeAsked
from sleepd.sim.host import GpuShare, RamShare, SimGpu, SimHost
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.virtual_time import VirtualTime
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_types import EngineSpec, HttpRequest, SimReply, Timing
from sleepd.sim.world import VirtualDaemon

FIRST_S, LATER_S, UP_S = 43.0, 6.5, {"a": 1.5, "b": 2.4}
"""Level 1 with 75 GiB of weights: the first sleep pins its backup."""
DOWN2_S, UP2_S, RELOAD_S = 0.14, 0.13, 13.9
PAUSE_S = 20.0
"""Between switches nobody asks for anything."""
SWITCHES = ("b", "a", "b", "a", "b")
PATIENCE_S = 3600.0


class Machine:
    """One GPU for one of two models, "a" and "b", whose servers are up when their turn comes."""

    def __init__(self, level: int) -> None:
        self.level, self.time = level, VirtualTime()
        ram_bytes = 512 * GIB if level == 1 else 64 * GIB
        self.host = SimHost([SimGpu("GPU-0", 0, 96 * GIB)], ram_bytes=ram_bytes)
        self.servers = {name: VirtualServer(self.time, name) for name in UP_S}
        for server in self.servers.values():
            server.see_unit = self.host.see_unit

    def boot(self, name: str) -> None:
        """The server is up and holds the GPU."""
        if self.level == 1:
            timing = Timing(sleep_s=LATER_S, first_sleep_factor=FIRST_S / LATER_S, wake_s=UP_S[name])
        else:
            timing = Timing(sleep_s=DOWN2_S, wake_s=UP2_S, reload_s=RELOAD_S)
        pid = 100 + ord(name)
        spec = EngineSpec(name=name, weights_bytes=75 * GIB, kv_bytes=15 * GIB, residual_bytes=GIB, timing=timing)
        gpu, ram = GpuShare(self.host, (0,), pid), RamShare(self.host, pid)
        wall_s = 1.7e9 + pid
        self.servers[name].engine = SimEngine(spec, self.time, gpu, ram, on_exit=_died, started_wall_s=wall_s)
        self.servers[name].pid = pid

    def await_(self, begin: Callable[[Callable[[Any], None]], object]) -> Any:
        """Let time run until what `begin` began has called back, and return what it was given."""
        got: list[Any] = []
        begin(got.append)
        end_s = self.time.now() + PATIENCE_S
        while not got:
            assert self.time.now() < end_s, "nothing came back"
            self.time.run_until(self.time.now() + 0.001)
        return got[0]

    def post(self, name: str, path: str, query: tuple[tuple[str, str], ...] = (), body: Any = None) -> SimReply:
        """One curl call, answered with success."""
        request = HttpRequest("POST", path, query, body)
        answer = self.await_(lambda then: self.servers[name].request(request, PATIENCE_S, then))
        assert isinstance(answer, SimReply), answer
        assert answer.status == 200, answer
        return answer

    def complete(self, name: str) -> None:
        """A request of one token, answered as the model answers."""
        body = {"model": name, "prompt": "hello", "max_tokens": 1, "temperature": 0}
        assert "!" not in str(self.post(name, "/v1/completions", (), body).body["choices"][0]["text"])

    def pause(self, seconds: float = PAUSE_S) -> None:
        self.time.run_until(self.time.now() + seconds)


class Script:
    """Somebody's shell script: it sleeps the one, wakes the other, and trusts every 200."""

    def __init__(self, level: int) -> None:
        self.machine = Machine(level)
        # "b" came up first and was put to sleep to make room for "a": that is how both can be there at all.
        self.machine.boot("b")
        self._sleep("b")
        self.machine.boot("a")

    def switch(self, to: str) -> None:
        self._sleep("a" if to == "b" else "b")
        if self.machine.level == 1:
            self.machine.post(to, "/wake_up")
            return
        self.machine.post(to, "/wake_up", (("tags", "weights"),))
        self.machine.post(to, "/collective_rpc", body={"method": "reload_weights"})
        self.machine.post(to, "/reset_prefix_cache")
        self.machine.post(to, "/wake_up", (("tags", "kv_cache"),))

    def _sleep(self, name: str) -> None:
        self.machine.post(name, "/sleep", (("level", str(self.machine.level)),))


class Daemon:
    """sleepd, asked over its socket for the next model. `prime`: as in the configuration of the models."""

    def __init__(self, level: int, *, prime: bool) -> None:
        self.machine, self._prime = Machine(level), prime
        self.machine.boot("b")
        specs = {n: ModelSpec(n, f"http://{n}", gpus=("0",), min_awake_s=0.0, max_level=level) for n in UP_S}
        if prime:
            specs = {n: replace(spec, prime=True) for n, spec in specs.items()}
        settings = Settings(specs, poll_every_s=1.0)
        self._daemon = VirtualDaemon(settings, self.machine.time, self.machine.host, self.machine.servers)
        self._daemon.start()
        self._settle("b")
        asked = self._ask(lambda waiter: SleepAsked(waiter, "b", "person", level, PATIENCE_S))
        assert asked.kind is AnswerKind.DONE, asked
        self.machine.boot("a")
        self._settle("a")

    def switch(self, to: str) -> None:
        answer = self._ask(lambda waiter: WakeAsked(waiter, to, "person", PATIENCE_S))
        assert answer.kind is AnswerKind.DONE, answer

    def _ask(self, make: Callable[[int], Any]) -> Answer:
        answer: Answer = self.machine.await_(lambda then: self._daemon.ask(make, then))
        return answer

    def _settle(self, name: str) -> None:
        """Met, and what its configuration asks of it in its first idle moment is over: a check, a priming."""
        for _ in range(60):
            self.machine.pause(5.0)
            world = self._daemon.world
            if world.models[name].life.state is State.AWAKE and not world.tasks:
                break
        primed = not self._prime or self._daemon.world.models[name].footprint.host_pinned
        assert primed, f"{name} was not primed: {self._daemon.world.models[name].reason}"


@dataclass(frozen=True, slots=True)
class Timed:
    name: str
    seconds: tuple[float, ...]

    @property
    def total_s(self) -> float:
        return sum(self.seconds)


def play(name: str, side: Script | Daemon) -> Timed:
    """Time every switch until the next model has answered a request."""
    took = []
    for to in SWITCHES:
        side.machine.pause()
        began_s = side.machine.time.now()
        side.switch(to)
        side.machine.complete(to)
        took.append(side.machine.time.now() - began_s)
    assert side.machine.host.refused == 0, "an allocation failed"
    return Timed(name, tuple(took))


def _died(status: int) -> None:
    raise AssertionError(f"a server ended with status {status}")


def show(level: int, rows: list[Timed]) -> None:
    print(f"level {level}: a->b->a->b->a->b, seconds until the next model answered")
    print(f"  {'':24}" + "".join(f"{n + 1:>8}." for n in range(len(SWITCHES))) + f"{'all':>9}{'ratio':>8}")
    for row in rows:
        each = "".join(f"{s:9.2f}" for s in row.seconds)
        print(f"  {row.name:24}{each}{row.total_s:9.2f}{row.total_s / rows[0].total_s:8.3f}")


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    script = play("curl, one by one", Script(1))
    plain = play("sleepd", Daemon(1, prime=False))
    primed = play("sleepd, prime = true", Daemon(1, prime=True))
    show(1, [script, plain, primed])
    script2 = play("curl, one by one", Script(2))
    show(2, [script2, play("sleepd", Daemon(2, prime=False))])
    return 0


if __name__ == "__main__":
    sys.exit(main())
