"""Whether the bytes that an engine holds contradict its word: at the boundaries, by GPU and by release."""

from dataclasses import replace

import pytest
from core_worlds import FACTS, NOW, record, seen

from sleepd.core.footprint import Footprint
from sleepd.core.half_way import half_way
from sleepd.core.model import Known
from sleepd.core.seen import GpuSeen
from sleepd.core.units import GIB

OLD = replace(FACTS, version="0.26.0", release=(0, 26))
MARGIN = GIB
BOTH = Footprint(awake={"GPU-0": 30 * GIB, "GPU-1": 30 * GIB}, asleep={"GPU-0": 2 * GIB, "GPU-1": 2 * GIB})
AWAKE_ONLY = replace(BOTH, asleep={})


def told(held: tuple[int, int], *, sleeps: bool, footprint: Footprint = BOTH, facts=OLD) -> str:
    gpus = tuple(GpuSeen(f"GPU-{i}", i, 80 * GIB, GIB, {1: held[i], 9: 20 * GIB}) for i in range(2))
    of = record("a", footprint=footprint, facts=facts)
    return half_way(of, seen().value, Known(gpus, NOW.mono_s, NOW.mono_s), MARGIN, sleeps=sleeps)


@pytest.mark.parametrize(
    ("second", "half"), [(2 * GIB, False), (3 * GIB, False), (3 * GIB + 1, True), (16 * GIB, True), (30 * GIB, True)]
)
def test_a_sleeper_holds_what_it_was_learned_to_hold_asleep_on_each_gpu(second, half):
    found = told((2 * GIB, second), sleeps=True)
    assert bool(found) is half
    assert not half or "on GPU 1: it is half awake" in found


@pytest.mark.parametrize(
    ("second", "half"),
    [(2 * GIB, False), (16 * GIB, False), (16 * GIB + 1, True), (29 * GIB - 1, True), (30 * GIB, False)],
)
def test_of_one_that_never_slept_here_more_than_half_and_less_than_all_is_half_awake(second, half):
    """All of it is what a server holds that frees nothing."""
    assert bool(told((2 * GIB, second), sleeps=True, footprint=AWAKE_ONLY)) is half


@pytest.mark.parametrize(
    ("second", "half"), [(30 * GIB, False), (15 * GIB, False), (15 * GIB - 1, True), (2 * GIB, True)]
)
def test_one_that_is_awake_holds_more_than_half_of_what_a_sleep_gives_back(second, half):
    found = told((30 * GIB, second), sleeps=False)
    assert bool(found) is half
    assert not half or "on GPU 1, of 30GiB: it is half asleep" in found


def test_releases_that_leave_alone_what_is_mapped_may_be_half_awake_where_they_have_one_rank():
    assert told((2 * GIB, 16 * GIB), sleeps=True, facts=FACTS) == ""
    assert told((2 * GIB, 16 * GIB), sleeps=True, facts=replace(FACTS, tensor_parallel=2))
    assert told((30 * GIB, 2 * GIB), sleeps=False, facts=FACTS)
