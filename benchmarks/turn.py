"""What one turn of the daemon's core costs with 32 models: `step` alone, without disk or wire.

Costs are the thread's CPU seconds: what neighbours on the machine take away is not the core's doing. Wall time is
printed beside.
"""

import argparse
import sys
import time

from figures import describe_machine, in_ms, percentile

from sleepd.core.beginning import begin
from sleepd.core.deadlines import Deadlines
from sleepd.core.events import Event, GpusLooked, HostLooked, ModelLooked, Tick
from sleepd.core.life import State
from sleepd.core.machine import step
from sleepd.core.model import Known, ModelSpec, Now, Settings
from sleepd.core.records import Saved
from sleepd.core.rules import SLEEP_1, SLEEP_2, HostAvailableBelow, IdleFor, Rule, Threshold
from sleepd.core.seen import Activity, ControlCounts, EngineFacts, GpuSeen, HostSeen, ModelSeen, SleepGauge
from sleepd.core.turn import Turn
from sleepd.core.wishes import WakeAsked
from sleepd.core.world import World

GIB = 1 << 30
GPUS = 8
BUDGET_MS = 1.0


class Host:
    """Looks at 32 servers on 8 GPUs; every second server answers requests all the time."""

    def __init__(self, models: int) -> None:
        self.names = tuple(f"model-{n:02d}" for n in range(models))
        self.now_s, self._served = 1000.0, 0

    def settings(self) -> Settings:
        everywhere = frozenset(self.names)
        idle = Rule("nap", everywhere, (IdleFor(300.0),), SLEEP_1)
        low = HostAvailableBelow(Threshold(share=0.10), Threshold(share=0.15))
        short = Rule("host-ram-pressure", everywhere, (low,), SLEEP_2, for_s=15.0)
        specs = {
            name: ModelSpec(name=name, url=f"http://127.0.0.1:{8000 + n}", gpus=(str(n % GPUS),), vram_bytes=8 * GIB)
            for n, name in enumerate(self.names)
        }
        return Settings(models=specs, rules=(idle, short))

    def now(self) -> Now:
        return Now(self.now_s, 1.7e9 + self.now_s)

    def look(self, n: int) -> ModelLooked:
        """One server's look, a moment later; the busy ones have served something since."""
        self.now_s += 0.001
        self._served += 1
        done = self._served if n % 2 else 1
        facts = EngineFacts(
            version="0.32.0",
            release=(0, 32),
            incarnation="pst:1.00",
            served_names=(self.names[n],),
            sleep_mode=True,
            described=True,
        )
        seen = ModelSeen(
            facts=facts,
            is_sleeping=False,
            running=n % 2,
            waiting=0,
            activity=Activity(done, done, done),
            control=ControlCounts(),
            gauge=SleepGauge.AWAKE,
            pids=(1000 + n,),
        )
        return ModelLooked(self.names[n], Known(seen, self.now_s, self.now_s), n % 2)

    def look_at_gpus(self) -> GpusLooked:
        self.now_s += 0.001
        used = [{1000 + n: 9 * GIB for n in range(g, len(self.names), GPUS)} for g in range(GPUS)]
        gpus = tuple(GpuSeen(f"GPU-{g}", g, 80 * GIB, 80 * GIB - sum(u.values()), u) for g, u in enumerate(used))
        return GpusLooked(Known(gpus, self.now_s, self.now_s))

    def look_at_ram(self) -> HostLooked:
        return HostLooked(Known(HostSeen(512 * GIB, 400 * GIB), self.now_s, self.now_s))


class Clocked:
    """Takes turns and keeps what each cost."""

    def __init__(self, world: World, host: Host) -> None:
        self.world, self._host, self._deadlines = world, host, Deadlines()
        self.costs: dict[str, list[float]] = {}
        self.walls: list[float] = []

    def turn(self, what: str, events: list[Event]) -> Turn:
        now = self._host.now()
        started_s, cpu_s = time.perf_counter(), time.thread_time()
        turn = step(self.world, events, now)
        self._deadlines.after(turn.world, now)
        self.costs.setdefault(what, []).append(time.thread_time() - cpu_s)
        self.walls.append(time.perf_counter() - started_s)
        self.world = turn.world
        return turn


def measure(models: int, rounds: int) -> Clocked:
    """Return the CPU seconds of each kind of turn, `step` and the search for the next deadline together."""
    host = Host(models)
    clocked = Clocked(begin(host.settings(), Saved(), host.now()).world, host)
    clocked.turn("first looks", [host.look_at_gpus(), host.look_at_ram(), *(host.look(n) for n in range(models))])
    awake = sum(r.life.state is State.AWAKE for r in clocked.world.models.values())
    if awake != models:
        print(f"turn: wanted {models} models awake, found {awake}", file=sys.stderr)
        sys.exit(2)
    for count in range(rounds):
        for n in range(models):
            clocked.turn("one server was looked at", [host.look(n)])
        clocked.turn("the GPUs were looked at", [host.look_at_gpus()])
        clocked.turn("host RAM was looked at", [host.look_at_ram()])
        clocked.turn("a deadline was due", [Tick()])
        asked = WakeAsked(count + 1, host.names[0], "bench", 600.0)
        clocked.turn("a wake of an awake model", [asked])
    del clocked.costs["first looks"]
    return clocked


def main() -> int:
    """Exit status: 0 within the budget, 1 beyond it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200, help="seconds of polling to go through")
    options = parser.parse_args()
    clocked = measure(options.models, options.rounds)
    costs = clocked.costs
    print(f"step at {options.models} models; {describe_machine()}")
    for what, took in costs.items():
        print(f"  {what:26} {in_ms(took)}   ({len(took)} turns)")
    every = [one for took in costs.values() for one in took]
    print(f"  {'all':26} {in_ms(every)}")
    print(f"  {'all, wall time':26} {in_ms(clocked.walls)}")
    met = percentile(every, 0.99) * 1e3 <= BUDGET_MS
    print(f"budget: {BUDGET_MS:g} ms p99 a turn: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
