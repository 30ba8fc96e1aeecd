"""What the end of a sleep teaches of its backup in host RAM."""

from dataclasses import replace

import pytest
from core_worlds import AWAKE, FACTS, NOW, record, seen, world
from measured_worlds import FRESH, ram, reading, sleeping, slept, unit

from sleepd.core.draft import Draft
from sleepd.core.events import Evidence
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.measured import learn_failed_backup, learn_lost_sleep, learn_sleep
from sleepd.core.model import Known
from sleepd.core.plan import Verb
from sleepd.core.units import GIB, MIB


def backup(*, kept: tuple[int, int] | None, fell: int | None, own: bool = True) -> Footprint:
    after = seen() if kept is None else seen(unit_memory=unit(kept[1], own=own))
    host = {} if fell is None else {"host_before": ram(100 * GIB), "host_after": ram(100 * GIB - fell)}
    evidence = Evidence(seen=after, gpus_before=reading(30 * GIB), gpus_after=reading(2 * GIB), **host)
    return slept(evidence, kept=kept[0] if kept and own else None)


@pytest.mark.parametrize(
    ("kept", "fell", "own", "learned"),
    [
        # Its own cgroup tells, whatever others did to the host meanwhile.
        ((4 * GIB, 20 * GIB), 25 * GIB, True, 16 * GIB),
        ((4 * GIB, 20 * GIB), -3 * GIB, True, 16 * GIB),
        ((4 * GIB, 20 * GIB), None, True, 16 * GIB),
        # The driver's pages are not charged to the unit: then what the host lost is all there is to see.
        ((4 * GIB, 4 * GIB), 16 * GIB, True, 16 * GIB),
        # No cgroup of its own.
        ((4 * GIB, 20 * GIB), 12 * GIB, False, 12 * GIB),
        (None, 12 * GIB, True, 12 * GIB),
        # Somebody else took or gave back host RAM meanwhile: no backup is larger than twice the weights, or smaller.
        ((4 * GIB, 20 * GIB), 60 * GIB, True, 16 * GIB),
        ((4 * GIB, 4 * GIB + 5 * MIB), 60 * GIB, True, None),
        ((4 * GIB, 4 * GIB + 5 * MIB), 3 * MIB, True, None),
        (None, 60 * GIB, True, None),
        (None, 2 * GIB, True, None),
        # Weights that were quantized as they were loaded are smaller than their checkpoint.
        ((4 * GIB, 7 * GIB), 4 * GIB, True, 3 * GIB),
        # Nothing to see: a backup was made all the same.
        (None, -1 * GIB, True, None),
        (None, None, True, None),
    ],
)
def test_what_a_backup_took(kept, fell, own, learned):
    found = backup(kept=kept, fell=fell, own=own)
    assert found.host_bytes == learned
    assert found.host_pinned
    assert found.pinned_bytes == (learned or 0)


@pytest.mark.parametrize(("fell", "learned"), [(12 * GIB, 12 * GIB), (60 * GIB, None)])
def test_where_the_checkpoint_is_not_known_no_backup_is_larger_than_twice_what_the_gpu_got_back(fell, learned):
    facts = replace(FACTS, checkpoint_bytes=None)
    evidence = Evidence(
        seen=seen(),
        gpus_before=reading(30 * GIB),
        gpus_after=reading(2 * GIB),
        host_before=ram(100 * GIB),
        host_after=ram(100 * GIB - fell),
    )
    assert slept(evidence, facts=facts).host_bytes == learned


def test_a_second_backup_uses_the_blocks_of_the_first_and_teaches_nothing():
    first = backup(kept=(4 * GIB, 20 * GIB), fell=None)
    evidence = Evidence(
        seen=seen(unit_memory=unit(21 * GIB)), gpus_before=reading(30 * GIB), gpus_after=reading(2 * GIB)
    )
    again = slept(evidence, kept=20 * GIB, footprint=first)
    assert (again.backups, again.pinned_bytes) == ((16 * GIB,), 16 * GIB)
    assert again.durations == {"sleep1_first": (7.5,), "sleep1": (7.5,)}


@pytest.mark.parametrize("lost", [False, True])
def test_a_backup_into_blocks_that_a_stranger_pinned_before_is_not_taken_for_its_size(lost):
    """Of an adopted process: 30 MiB would be all that the next one were asked to find."""
    after = seen(unit_memory=unit(20 * GIB + 30 * MIB))
    evidence = Evidence(seen=after, gpus_before=reading(30 * GIB), gpus_after=reading(2 * GIB))
    draft = Draft(world(record("a", AWAKE, footprint=FRESH)), NOW)
    if lost:
        learn_lost_sleep(draft, sleeping(1, kept=20 * GIB), evidence)
    else:
        learn_sleep(draft, sleeping(1, kept=20 * GIB), Verb.SLEEP_L1, evidence)
    found = draft.models["a"].footprint
    assert (found.host_bytes, found.host_pinned) == (None, True)


def test_the_rest_of_a_backup_that_failed_once_makes_it_whole():
    half = replace(FRESH, pinned_bytes=15 * GIB)
    evidence = Evidence(
        seen=seen(unit_memory=unit(21 * GIB)), gpus_before=reading(9 * GIB), gpus_after=reading(2 * GIB)
    )
    assert slept(evidence, kept=20 * GIB, footprint=half).host_bytes == 16 * GIB


def test_a_level_2_sleep_backs_nothing_up():
    found = slept(Evidence(gpus_before=reading(30 * GIB), gpus_after=reading(2 * GIB)), level=2)
    assert not found.host_pinned
    assert found.residual == {"2": {"GPU-0": (2 * GIB,)}}


def test_of_a_backup_that_failed_what_shows_is_counted_and_the_rest_is_not_given_out_before_the_next_reading():
    draft = Draft(world(record("a", Life(State.FALLING_ASLEEP, Weights.OFFLOADED), footprint=FRESH)), NOW)
    after = seen(unit_memory=unit(9 * GIB))
    learn_failed_backup(draft, sleeping(1, kept=4 * GIB), Evidence(500, seen=after), 20 * GIB)
    footprint = draft.models["a"].footprint
    assert (footprint.pinned_bytes, footprint.host_pinned) == (5 * GIB, False)
    assert isinstance(draft.host, Known)
    assert draft.host.value.available_bytes == 70 * GIB
