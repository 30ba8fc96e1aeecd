"""What a wake needs by what was learned: of this process, of those before it, or by an upper bound."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, FACTS, NOW, record, seen, world
from measured_worlds import FRESH, reading

from sleepd.core.events import ModelLooked
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.memory import Blind, start_needs, wake_needs
from sleepd.core.model import Known
from sleepd.core.units import GIB

# --- incarnations -------------------------------------------------------------------------------------------------


def test_a_new_process_begins_with_what_earlier_ones_taught_and_its_own_word_comes_first():
    old = replace(FRESH, freed={"GPU-0": (30 * GIB,)}, backups=(16 * GIB,), host_pinned=True, pinned_bytes=16 * GIB)
    prior = old.retired(replace(FRESH, freed={"GPU-0": (20 * GIB,)}, backups=(12 * GIB,)))
    reborn = record("a", footprint=FRESH, prior=prior)
    assert reborn.learned.need("GPU-0") == 30 * GIB
    assert reborn.learned.host_bytes == 16 * GIB
    assert not reborn.learned.host_pinned, "what the old process pinned went with it"
    assert reborn.learned.pinned_bytes == 0
    own = replace(reborn, footprint=replace(FRESH, freed={"GPU-0": (25 * GIB,)}))
    assert own.learned.need("GPU-0") == 25 * GIB


# --- sleepers that were adopted -----------------------------------------------------------------------------------


def needs(**more: object) -> object:
    adopted = record("a", ASLEEP, **more)
    return wake_needs(adopted, reading(2 * GIB).value)


def test_an_adopted_sleeper_needs_what_it_was_seen_to_hold_awake():
    seen_awake = replace(FRESH, awake={"GPU-0": 30 * GIB}, asleep={"GPU-0": 2 * GIB})
    assert needs(footprint=seen_awake, prior=replace(FRESH, freed={"GPU-0": (9 * GIB,)})) == {"GPU-0": 28 * GIB}


def test_else_what_earlier_processes_taught_else_what_is_declared():
    prior = replace(FRESH, freed={"GPU-0": (27 * GIB,)})
    assert needs(footprint=FRESH, prior=prior, spec={"vram_bytes": GIB}) == {"GPU-0": 27 * GIB}
    assert needs(footprint=FRESH, spec={"vram_bytes": 26 * GIB}) == {"GPU-0": 26 * GIB}


def test_else_its_share_of_the_gpu_less_what_it_holds_asleep():
    half = replace(FACTS, gpu_memory_utilization=0.5)
    assert needs(footprint=FRESH, facts=half) == {"GPU-0": 38 * GIB}


def test_a_cache_of_its_own_size_is_bounded_by_itself_and_the_checkpoint():
    sized = replace(FACTS, gpu_memory_utilization=0.9, kv_cache_memory_bytes=20 * GIB)
    assert needs(footprint=FRESH, facts=sized) == {"GPU-0": 30 * GIB}, "what it holds asleep stays beside them"
    assert needs(footprint=FRESH, facts=replace(sized, checkpoint_bytes=None)) == {"GPU-0": 70 * GIB}


def test_a_start_takes_the_whole_share_whatever_the_size_of_the_cache():
    sized = replace(FACTS, gpu_memory_utilization=0.9, kv_cache_memory_bytes=20 * GIB)
    stopped = record("a", ASLEEP, footprint=replace(FRESH, awake={"GPU-0": 32 * GIB}), facts=sized)
    assert start_needs(stopped, reading(2 * GIB).value) == {"GPU-0": 72 * GIB}
    beyond = replace(sized, gpu_memory_utilization=0.3)
    assert start_needs(record("a", ASLEEP, footprint=FRESH, facts=beyond), reading(2 * GIB).value) == {
        "GPU-0": 30 * GIB
    }


@pytest.mark.parametrize(
    ("life", "needed"),
    [
        (ASLEEP, 28 * GIB),
        (Life(State.ASLEEP_L2, Weights.BLANK), 35 * GIB),
        (Life(State.ASLEEP_L1, Weights.DOUBTFUL), 35 * GIB),
    ],
)
def test_a_sleeper_whose_weights_may_have_to_be_read_anew_needs_the_peak_of_that(life, needed):
    peaked = replace(FRESH, freed={"GPU-0": (28 * GIB,)}, reloaded={"GPU-0": (35 * GIB,)})
    assert wake_needs(record("a", life, footprint=peaked), reading(2 * GIB).value) == {"GPU-0": needed}


def test_else_nothing_is_promised():
    assert isinstance(needs(footprint=FRESH), Blind)


@pytest.mark.parametrize(("cache", "prior"), [(None, (28 * GIB,)), (20 * GIB, None)])
def test_a_new_process_takes_over_sizes_of_the_same_arguments_alone(
    cache: int | None, prior: tuple[int, ...] | None
) -> None:
    learned = replace(FRESH, freed={"GPU-0": (28 * GIB,)}, host_pinned=True, pinned_bytes=GIB)
    facts = replace(FACTS, incarnation="pst:2", kv_cache_memory_bytes=cache)
    look = replace(seen().value, facts=facts)
    known = record("a", footprint=learned)
    turn = step(world(known), [ModelLooked("a", Known(look, NOW.mono_s, NOW.mono_s), 0)], NOW)
    found = turn.world.models["a"]
    assert found.incarnation == "pst:2"
    assert found.learned.freed.get("GPU-0") == prior
    assert (found.learned.host_pinned, found.learned.pinned_bytes) == (False, 0)
