"""What a look may claim: counters no older than the word they are judged by, and no incarnation made of a gap."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sleepd.core.calls import Answered
from sleepd.core.events import StepOrder
from sleepd.core.model import Known, ModelSeen, Reading
from sleepd.core.plan import Verb, step_of
from sleepd.core.procedure import Got, Look, perform
from tests.adapters.raw_server import Answer, Asked, serving
from tests.property.virtual_rig import Rig
from tests.unit.test_adapter_vllm_http import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "s")
    async with serving(bench.path, bench.answer) as bench.raw:
        yield bench
        await bench.vllm.close()


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
