"""A reading that leaves one GPU out, as it fails or needs a reset: what lies there is not told, which is not zero."""

from dataclasses import replace

import pytest
from core_worlds import FACTS, NOW, record, seen, world

from sleepd.core.commands import RunStep
from sleepd.core.events import Evidence, StepEnd, StepEnded
from sleepd.core.footprint import Footprint
from sleepd.core.half_way import holds_as_asleep
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Known, ModelSpec
from sleepd.core.plan import Verb, plan_sleep
from sleepd.core.remedy import found_since
from sleepd.core.seen import CallCount, ControlCounts, GpuSeen
from sleepd.core.task import Intent, Phase, Task, TaskKind
from sleepd.core.turn import Turn
from sleepd.core.unanswered import BLIND_S
from sleepd.core.units import GIB
from sleepd.core.world import World

OLD = replace(FACTS, version="0.26.0", release=(0, 26))
"""A sleep of it that failed is a restart."""
COUNTED = ControlCounts(sleep=CallCount(ok=1))
SLEPT = Evidence(200, seen=seen(facts=OLD, is_sleeping=True, control=COUNTED))


def gpu(index: int, held: int) -> GpuSeen:
    return GpuSeen(f"GPU-{index}", index, 80 * GIB, (80 - held) * GIB, {1: held * GIB})


def reading(*gpus: GpuSeen) -> Known[tuple[GpuSeen, ...]]:
    return Known(gpus, NOW.mono_s, NOW.mono_s)


BEFORE, AFTER, LEFT_OUT = reading(gpu(0, 30), gpu(1, 0)), reading(gpu(0, 2), gpu(1, 0)), reading(gpu(1, 0))


def falling(phase: Phase, sent_s: float) -> World:
    """Its call to sleep is out, or what that did is being found out."""
    life = Life(State.FALLING_ASLEEP if phase is Phase.DO else State.SLEEP_PENDING, Weights.OFFLOADED)
    a = record("a", life, facts=OLD, seen=seen(facts=OLD), control=ControlCounts(), placed_on=("GPU-0",))
    a = replace(a, spec=ModelSpec("a", "http://a"))
    plan = plan_sleep(1, fingerprint_wanted=False)
    task = Task(1, "a", TaskKind.SLEEP, 1, Cause(CauseKind.OPERATOR, "test"), plan, sent_s, 1, phase, running=True)
    intent = Intent("pst:1", ControlCounts(), {"GPU-0": 30 * GIB}, NOW.wall_s)
    task = replace(task, sent_s=sent_s, intent=intent, uncounted=(Verb.SLEEP_L1,))
    return replace(world(a), gpus=BEFORE, tasks={"a": task})


def ended(made: World, end: StepEnd, **more: object) -> Turn:
    return step(made, [StepEnded("a", 1, 1, end, replace(SLEPT, **more))], NOW)


def test_a_sleep_that_nothing_shows_is_found_out_later_and_costs_no_engine() -> None:
    turn = ended(falling(Phase.DO, NOW.mono_s - 20.0), StepEnd.UNPROVEN, gpus_before=BEFORE, gpus_after=LEFT_OUT)
    found = turn.world.models["a"]
    assert (found.life.state, found.failure) == (State.SLEEP_PENDING, None)
    assert [c.order.step.verb for c in turn.commands if isinstance(c, RunStep)] == [Verb.FENCE]
    shown = ended(falling(Phase.DO, NOW.mono_s - 20.0), StepEnd.UNPROVEN, gpus_before=BEFORE, gpus_after=BEFORE)
    assert shown.world.models["a"].failure is not None, "nothing was given back, for all to see"


@pytest.mark.parametrize(
    ("after", "waited_s", "state"),
    [
        (LEFT_OUT, 20.0, State.SLEEP_PENDING),
        (AFTER, 20.0, State.ASLEEP_L1),
        # Where it stays so, its counted call decides.
        (LEFT_OUT, BLIND_S, State.ASLEEP_L1),
    ],
)
def test_what_an_unanswered_sleep_did_is_not_told_by_the_other_gpus(
    after: Known[tuple[GpuSeen, ...]], waited_s: float, state: State
) -> None:
    turn = ended(falling(Phase.FENCE, NOW.mono_s - waited_s), StepEnd.DONE, gpus_after=after)
    found = turn.world.models["a"]
    assert (found.life.state, found.failure) == (state, None)


def test_bytes_of_both_gpus_or_none() -> None:
    intent = Intent("pst:1", ControlCounts(), {"GPU-0": 30 * GIB, "GPU-1": 30 * GIB}, NOW.wall_s)
    both = found_since(Verb.SLEEP_L1, intent, replace(SLEPT, gpus_after=reading(gpu(0, 2), gpu(1, 3))), (1,))
    one = found_since(Verb.SLEEP_L1, intent, replace(SLEPT, gpus_after=reading(gpu(0, 2))), (1,))
    assert both is not None
    assert both.freed == 55 * GIB
    assert one is not None
    assert one.freed is None


def test_who_may_hold_more_on_a_gpu_that_is_left_out_does_not_hold_what_sleepers_do() -> None:
    a = record("a", footprint=Footprint(asleep={"GPU-0": 2 * GIB, "GPU-1": 2 * GIB}))
    assert holds_as_asleep(a, reading(gpu(0, 2), gpu(1, 2)), (1,))
    assert not holds_as_asleep(a, reading(gpu(0, 2)), (1,))
    assert not holds_as_asleep(a, reading(gpu(0, 2), gpu(1, 3)), (1,))
