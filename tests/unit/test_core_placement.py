"""On which GPUs a server lies: seen in lists of processes, of which one GPU's may be missing now and then."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, FACTS, NOW, record, seen, world

from sleepd.core.commands import Answer
from sleepd.core.draft import Draft
from sleepd.core.first_looks import FIRST_LOOKS_S
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life
from sleepd.core.machine import step, wants_processes
from sleepd.core.memory import Blind, placement, wake_needs
from sleepd.core.model import Known, ModelSpec
from sleepd.core.placing import place
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpuSeen
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked

WIDE = replace(FACTS, tensor_parallel=2)


def wide(life: Life = AWAKE, **more: object) -> ModelRecord:
    """A server with two ranks, whose GPUs are to be found by its processes, one of which was started for each."""
    look = seen(facts=WIDE, pids=(1, 2))
    return record("a", life, **{"spec": {}, "facts": WIDE, "seen": look, "footprint": Footprint(), **more})


def draft_of(made: ModelRecord, *gpus: GpuSeen) -> Draft:
    """The two GPUs as they were just listed."""
    auto = replace(made, spec=ModelSpec("a", "http://a"))
    return Draft(replace(world(auto), gpus=Known(gpus, NOW.mono_s, NOW.mono_s)), NOW)


def gpu(index: int, used: dict[int, int] | None) -> GpuSeen:
    return GpuSeen(f"GPU-{index}", index, 80 * GIB, 40 * GIB, used)


FIRST, SECOND, UNTOLD = gpu(0, {1: 30 * GIB}), gpu(1, {2: 31 * GIB}), gpu(1, None)
BOTH = {"GPU-0": 30 * GIB, "GPU-1": 31 * GIB}


def placed(draft: Draft) -> tuple[list[str], dict[str, int]]:
    place(draft)
    found = draft.models["a"]
    return sorted(found.placed_on), dict(found.footprint.awake)


def test_it_lies_where_its_processes_hold_memory() -> None:
    assert placed(draft_of(wide(), FIRST, SECOND)) == (["GPU-0", "GPU-1"], BOTH)


@pytest.mark.parametrize("gpus", [(FIRST, UNTOLD), (FIRST,)], ids=["list not told", "GPU not told"])
def test_a_gpu_that_tells_nothing_for_once_is_still_its_own(gpus: tuple[GpuSeen, ...]) -> None:
    """Its next wake would be let in by the memory of the other alone."""
    known = wide(placed_on=("GPU-0", "GPU-1"), footprint=Footprint(awake=BOTH))
    assert placed(draft_of(known, *gpus)) == (["GPU-0", "GPU-1"], BOTH)


def test_a_gpu_that_lists_others_alone_is_its_own_no_more() -> None:
    known = wide(placed_on=("GPU-0", "GPU-1"), footprint=Footprint(awake=BOTH))
    assert placed(draft_of(known, FIRST, gpu(1, {99: GIB}))) == (["GPU-0"], {"GPU-0": 30 * GIB})


def test_half_of_its_ranks_is_no_place() -> None:
    """It is placed once all of them are seen, and looked for until then."""
    draft = draft_of(wide(), FIRST, UNTOLD)
    assert placed(draft)[0] == []
    assert wants_processes(draft.world())
    assert placed(draft_of(replace(wide(), facts=FACTS), FIRST, UNTOLD))[0] == ["GPU-0"]
    draft = draft_of(wide(), FIRST, SECOND)
    place(draft)
    assert not wants_processes(draft.world())


@pytest.mark.parametrize(("later_s", "sought"), [(FIRST_LOOKS_S - 1.0, True), (FIRST_LOOKS_S, False)])
def test_ranks_that_are_not_here_are_not_looked_for_for_ever(later_s: float, sought: bool) -> None:
    """Of a server that spans hosts, or whose workers belong to another unit. Lists stall GPUs, and who wants it asleep
    is told what to do about it."""
    draft = draft_of(wide(), FIRST, UNTOLD)
    place(draft)
    later = replace(NOW, mono_s=NOW.mono_s + later_s)
    draft = Draft(replace(draft.world(), gpus=Known((FIRST, UNTOLD), later.mono_s, later.mono_s)), later)
    place(draft)
    assert draft.models["a"].placed_on == ()
    assert wants_processes(draft.world()) is sought
    turn = step(draft.world(), [SleepAsked(7, "a", "root", 1, 600.0)], later)
    answers = [c for c in turn.commands if isinstance(c, Answer)]
    assert [a.problem for a in answers] == ([] if sought else ["blind"])
    assert all("set gpus in [models.a]" in a.detail for a in answers)
    assert placed(Draft(replace(draft.world(), gpus=draft_of(wide(), FIRST, SECOND).gpus), later))[0] != []


def test_no_wake_is_let_in_by_the_gpus_that_happen_to_be_told() -> None:
    freed = Footprint(freed={"GPU-0": (28 * GIB,), "GPU-1": (28 * GIB,)})
    sleeper = replace(wide(ASLEEP, placed_on=("GPU-0", "GPU-1"), footprint=freed), spec=ModelSpec("a", "http://a"))
    assert placement(sleeper.spec, sleeper.placed_on, (FIRST,)) == ()
    needs = wake_needs(sleeper, (FIRST,))
    assert isinstance(needs, Blind)
    assert "GPU-1, where it lies, is not told of" in needs.wanted
    assert wake_needs(sleeper, (FIRST, UNTOLD)) == {"GPU-0": 28 * GIB, "GPU-1": 28 * GIB}
