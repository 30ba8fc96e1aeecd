"""What a look may claim: counters no older than the word they are judged by, and no incarnation made of a gap."""

import asyncio
import heapq

import pytest

from sleepd.core.asking import Got, Look
from sleepd.core.calls import Answered
from sleepd.core.commands import StepOrder
from sleepd.core.events import Event
from sleepd.core.life import State
from sleepd.core.model import Known, Missing, MissingReason, Now, Reading
from sleepd.core.plan import Verb, step_of
from sleepd.core.procedure import perform
from sleepd.core.seen import ModelSeen
from sleepd.engine.observer import Observer
from tests.adapters.raw_server import Answer, Asked
from tests.property.virtual_rig import Rig
from tests.unit.test_outer_gates import world_of
from tests.unit.vllm_bench import Bench


class CallThatEnds:
    """A sleep call is counted in the moment before /is_sleeping is answered, as by an engine that was busy with it."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._plain = bench, bench.answer
        bench.raw.answer = self

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/is_sleeping":
            for page in ("/metrics", "/metrics/"):
                self._bench.pages[page] = self._bench.pages[page].replace(b'"2xx"} 3', b'"2xx"} 4')
        return self._plain(asked)


async def test_a_fence_counts_only_after_is_sleeping_was_answered(bench: Bench) -> None:
    await bench.look()
    CallThatEnds(bench)
    begun = len(bench.raw.asked)
    reading = await bench.vllm.look(ask_sleeping=True, timeout_s=2.0, fence=True)
    assert [asked.path for asked in bench.raw.asked[begun:]] == ["/is_sleeping", "/metrics/"]
    assert isinstance(reading, Known)
    assert reading.value.control.sleep.ok == 4


async def test_a_fence_that_is_a_first_look_counts_after_is_sleeping_too(bench: Bench) -> None:
    CallThatEnds(bench)
    reading = await bench.vllm.look(ask_sleeping=True, timeout_s=2.0, fence=True)
    assert isinstance(reading, Known)
    assert reading.value.control.sleep.ok == 4


def order_of(verb: Verb) -> StepOrder:
    return StepOrder("a", 1, 0, step_of(verb), 60.0)


def test_the_looks_that_judge_a_call_are_fences() -> None:
    assert next(perform(order_of(Verb.FENCE), 0.0)) == Look(60.0, ask_sleeping=True, fence=True)
    sleeping = perform(order_of(Verb.SLEEP_L1), 0.0)
    next(sleeping)
    for value in (None, None):
        sleeping.send(Got(value, 0.0))
    proof = sleeping.send(Got((Answered(200), {}), 1.0))
    assert isinstance(proof, Look)
    assert proof.fence


@pytest.mark.parametrize(("fence", "counted"), [(False, 0), (True, 1)])
def test_a_simulated_look_is_dated_as_the_real_one(fence: bool, counted: int) -> None:
    """A look asked while a sleep call runs: the page is older than the call's end, and only a fence waits for it."""
    rig = Rig("0.32.0")
    rig.boot("a")
    server = rig.servers["a"]
    looked: list[Reading[ModelSeen]] = []
    server.call(Verb.SLEEP_L1, 60.0, False, lambda result: None)

    rig.time.call_later(0.1, lambda: server.look(True, 60.0, looked.append, fence=fence))
    rig.run(30.0)
    (reading,) = looked
    assert isinstance(reading, Known)
    assert (reading.value.is_sleeping, reading.value.control.sleep.ok) == (True, counted)


class MovedClock:
    """A clock that stands still until it is moved to the moment that the next sleeper waits for."""

    def __init__(self) -> None:
        self.mono_s = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> Now:
        return Now(self.mono_s, 0.0)

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.mono_s + seconds, id(future), future))
        await future

    async def move(self) -> None:
        due_s, _, future = heapq.heappop(self._waiting)
        self.mono_s = max(self.mono_s, due_s)
        if not future.done():
            future.set_result(None)
        for _ in range(10):
            await asyncio.sleep(0)


class Watched:
    """A sink and a server in one: notes when it was looked at, and is what the test says by then."""

    def __init__(self, clock: MovedClock, state: State) -> None:
        self._clock, self.world = clock, world_of(state)
        self.looked_s: list[float] = []

    def submit(self, event: Event, within_s: float = 0.0) -> None:
        pass

    def in_flight(self, model: str) -> int:
        return 0

    def entered(self, model: str) -> int:
        return 0

    async def look(self, **asked: object) -> Missing:
        self.looked_s.append(self._clock.mono_s)
        return Missing(MissingReason.NOT_YET)

    async def read(self, *, processes: bool = False) -> Missing:
        return Missing(MissingReason.NOT_YET)


@pytest.mark.parametrize(
    ("becomes", "looked_s"), [(State.ASLEEP_L1, [0.0, 5.0, 10.0]), (State.AWAKE, [0.0, 1.0, 2.0, 3.0])]
)
async def test_what_woke_since_its_last_look_is_not_waited_for_as_a_sleeper(
    becomes: State, looked_s: list[float]
) -> None:
    clock = MovedClock()
    watched = Watched(clock, State.ASLEEP_L1)
    observer = Observer(watched, clock, watched, watched, lambda name: watched)  # type: ignore[arg-type]
    observer.start()
    await asyncio.sleep(0.01)
    watched.world = world_of(becomes)
    while len(watched.looked_s) < len(looked_s):
        await clock.move()
    await observer.stop()
    assert watched.looked_s == looked_s
