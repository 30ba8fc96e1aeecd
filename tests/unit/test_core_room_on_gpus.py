"""On which GPUs a wake needs its room: as they are named, several, parts of one, half mapped already."""

from dataclasses import replace

import pytest
from core_worlds import (
    NEED,
    NOW,
    seen,
    world,
)
from room_worlds import GPU, ask, neighbour, sleeper

from sleepd.core.footprint import Footprint
from sleepd.core.model import Known
from sleepd.core.room import Go, Refuse
from sleepd.core.seen import GpuSeen
from sleepd.core.units import GIB


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (("0",), "GPU 0 is divided into MIG devices: name one of MIG-a, MIG-b"),
        (("MIG-c",), "MIG-c is none of those here: MIG-a, MIG-b, GPU-1 (nvidia-smi -L)"),
        (("GPU-9", "1"), "GPU-9 is none of those here: MIG-a, MIG-b, GPU-1 (nvidia-smi -L)"),
        (("7",), "the GPUs here are MIG-a, MIG-b, 1 (nvidia-smi -L)"),
    ],
)
def test_gpus_that_are_not_here_are_named_beside_those_that_are(written, said):
    parts = [GpuSeen(f"MIG-{n}", 1000 + i, 20 * GIB, 20 * GIB, mig_of=0) for i, n in enumerate("ab")]
    reading = Known((*parts, GpuSeen("GPU-1", 1, 80 * GIB, 80 * GIB)), NOW.mono_s, NOW.mono_s)
    found = ask(replace(world(sleeper_on(*written)), gpus=reading))
    assert found.problem == "blind"
    assert found.hint == f"gpus = {', '.join(written)} in [models.a], but {said}"


def test_a_mig_device_is_one_place_by_its_uuid():
    footprint = Footprint(freed={"MIG-a": (10 * GIB,)})
    parts = [GpuSeen(f"MIG-{n}", 1000 + i, 20 * GIB, 20 * GIB, mig_of=0) for i, n in enumerate("ab")]
    made = replace(world(sleeper_on("MIG-a", footprint=footprint)), gpus=Known(tuple(parts), NOW.mono_s, NOW.mono_s))
    assert ask(made) == Go(frozenset({"MIG-a"}))


def test_an_index_and_a_uuid_of_the_same_gpu_are_one_place():
    assert ask(world(sleeper_on("0", "GPU-0"))) == Go(GPU)


def sleeper_on(*written: str, **more):
    made = sleeper(**more)
    return replace(made, spec=replace(made.spec, gpus=written))


# --- several GPUs ------------------------------------------------------------------------------------------------


def two_gpus(*free: int) -> Known:
    asked_s = NOW.mono_s - 0.1
    return Known(tuple(GpuSeen(f"GPU-{i}", i, 80 * GIB, f) for i, f in enumerate(free)), asked_s, asked_s)


def test_a_wide_model_needs_room_on_each_of_its_gpus():
    wide = sleeper(footprint=Footprint(freed={"GPU-0": (NEED,), "GPU-1": (NEED,)}))
    wide = replace(wide, spec=replace(wide.spec, gpus=("0", "1")))
    made = world(wide)
    assert ask(replace(made, gpus=two_gpus(40 * GIB, 40 * GIB))) == Go(frozenset({"GPU-0", "GPU-1"}))
    found = ask(replace(made, gpus=two_gpus(40 * GIB, 20 * GIB)))
    assert isinstance(found, Refuse)
    assert found.wanted == "28GiB, 28GiB per GPU"


def test_a_neighbour_on_another_gpu_makes_no_room():
    elsewhere = neighbour(footprint=Footprint(freed={"GPU-1": (NEED,)}))
    elsewhere = replace(elsewhere, spec=replace(elsewhere.spec, gpus=("1",)))
    made = replace(world(sleeper(), elsewhere), gpus=two_gpus(20 * GIB, 20 * GIB))
    assert isinstance(ask(made), Refuse)


def test_what_a_half_done_wake_mapped_need_not_be_found_again():
    held = {1: 12 * GIB}
    asked_s = NOW.mono_s - 0.1
    reading = Known((GpuSeen("GPU-0", 0, 80 * GIB, 20 * GIB, held),), asked_s, asked_s)
    halfway = sleeper(footprint=Footprint(freed={"GPU-0": (NEED,)}, asleep={"GPU-0": 2 * GIB}), seen=seen(pids=(1,)))
    assert ask(replace(world(halfway), gpus=reading)) == Go(GPU)
