"""What the end of a step teaches: bytes per GPU, durations, and residuals that keep growing."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, NOW, record, seen, world
from measured_worlds import FRESH, OTHERS, TOTAL, reading, sleeping, slept, span, unit, waking, woke

from sleepd.core.draft import Draft
from sleepd.core.events import Evidence
from sleepd.core.explain import reason
from sleepd.core.measured import STILL_BYTES, learn_lost_sleep, learn_sleep
from sleepd.core.memory import Admitted, Short, preflight, wake_needs
from sleepd.core.model import Known, Missing, MissingReason, Settings
from sleepd.core.plan import Plan, Verb, step_of
from sleepd.core.seen import GpuSeen
from sleepd.core.units import GIB, MIB

# --- VRAM ---------------------------------------------------------------------------------------------------------


def test_a_sleep_teaches_what_it_gave_back_what_is_left_and_how_long_it_took():
    found = slept(Evidence(gpus_before=reading(30 * GIB), gpus_after=reading(2 * GIB)))
    assert found.freed == {"GPU-0": (28 * GIB,)}
    assert (found.awake, found.asleep) == ({"GPU-0": 30 * GIB}, {"GPU-0": 2 * GIB})
    assert found.residual == {"1": {"GPU-0": (2 * GIB,)}}
    assert found.durations == {"sleep1_first": (7.5,)}


def test_its_own_bytes_are_its_own_whatever_a_neighbour_does_meanwhile():
    found = slept(Evidence(gpus_before=reading(30 * GIB), gpus_after=reading(2 * GIB, others=25 * GIB)))
    assert found.freed == {"GPU-0": (28 * GIB,)}


def test_five_samples_are_kept_and_their_maximum_is_needed():
    footprint = FRESH
    for held in (40, 31, 32, 33, 34, 35):
        footprint = slept(Evidence(gpus_before=reading(held * GIB), gpus_after=reading(2 * GIB)), footprint=footprint)
    assert footprint.freed["GPU-0"] == tuple(b * GIB for b in (29, 30, 31, 32, 33))
    assert footprint.need("GPU-0") == 33 * GIB


def device(earlier: int, before: int, after: int, **more: object) -> Evidence:
    """Readings that tell no processes: only what is free."""
    readings = [reading(None, own=TOTAL - OTHERS - free) for free in (earlier, before, after)]
    return Evidence(gpus_earlier=readings[0], gpus_before=readings[1], gpus_after=readings[2], **more)


STEADY = device(40 * GIB, 40 * GIB, 68 * GIB)


@pytest.mark.parametrize(
    ("evidence", "learned"),
    [
        (STEADY, 28 * GIB),
        (device(40 * GIB + STILL_BYTES, 40 * GIB, 68 * GIB), 28 * GIB),
        (replace(STEADY, span=span(40 * GIB, 68 * GIB)), 28 * GIB),
        # Somebody took or gave memory before the call, ...
        (device(43 * GIB, 40 * GIB, 68 * GIB), None),
        (device(37 * GIB, 40 * GIB, 68 * GIB), None),
        # ... or during it: free memory went below where it began, or above where it ended.
        (replace(STEADY, span=span(35 * GIB, 60 * GIB)), None),
        (replace(STEADY, span=span(41 * GIB, 70 * GIB)), None),
        (replace(STEADY, gpus_earlier=Missing(MissingReason.UNREADABLE)), None),
        (replace(STEADY, gpus_after=Missing(MissingReason.UNREADABLE)), None),
    ],
)
def test_where_processes_are_not_told_the_devices_bytes_count_only_if_nobody_elses_moved(evidence, learned):
    found = slept(evidence)
    assert found.freed == ({} if learned is None else {"GPU-0": (learned,)})
    assert found.awake == {}, "what is its own is not known"


def test_a_wake_teaches_the_most_it_held_on_its_way():
    """Free memory dipped 4 GiB below where it ended: the wake takes that much more than it keeps."""
    asleep = replace(FRESH, asleep={"GPU-0": 2 * GIB})
    ended = Evidence(gpus_before=reading(2 * GIB), gpus_after=reading(30 * GIB))
    dipped = replace(ended, span=span(TOTAL - OTHERS - 34 * GIB, 70 * GIB))
    assert woke(ended, asleep).taken == {"GPU-0": (28 * GIB,)}
    assert woke(dipped, asleep).taken == {"GPU-0": (32 * GIB,)}
    assert woke(dipped, asleep).need("GPU-0") == 32 * GIB


def test_a_dip_beside_a_moving_neighbour_is_not_taken_for_its_own():
    asleep = replace(FRESH, asleep={"GPU-0": 2 * GIB})
    evidence = Evidence(
        gpus_before=reading(2 * GIB),
        gpus_after=reading(30 * GIB, others=9 * GIB),
        span=span(10 * GIB, 70 * GIB),
    )
    assert woke(evidence, asleep).taken == {"GPU-0": (28 * GIB,)}


def test_a_wake_that_went_well_fits_again_beside_who_was_there_whoever_came_and_left_meanwhile():
    """A job that filled the GPU and died of it would else keep the model asleep for good."""
    asleep = replace(FRESH, asleep={"GPU-0": 2 * GIB})
    filled = Evidence(gpus_before=reading(2 * GIB), gpus_after=reading(30 * GIB), span=span(0, 70 * GIB))
    again = record("a", ASLEEP, footprint=woke(filled, asleep))
    needs, margin = wake_needs(again, reading(2 * GIB).value), Settings({}).gpu_margin_bytes
    assert preflight(needs, reading(2 * GIB).value, margin, {}) == Admitted()
    assert isinstance(preflight(needs, reading(2 * GIB, others=OTHERS + 1).value, margin, {}), Short)


def test_a_reading_before_the_wake_without_processes_is_compared_by_what_it_held_asleep():
    asleep = replace(FRESH, asleep={"GPU-0": 2 * GIB})
    before = Known((GpuSeen("GPU-0", 0, TOTAL, TOTAL - OTHERS - 2 * GIB),), 0.0, 0.0)
    dip = span(TOTAL - OTHERS - 33 * GIB, 70 * GIB)
    assert woke(Evidence(gpus_before=before, gpus_after=reading(30 * GIB), span=dip), asleep).taken == {
        "GPU-0": (31 * GIB,)
    }


def test_a_reload_that_takes_more_than_the_awake_model_counts_for_level_2_alone():
    asleep = replace(FRESH, asleep={"GPU-0": 2 * GIB}, freed={"GPU-0": (28 * GIB,)})
    evidence = Evidence(
        started_s=1.0,
        answered_s=13.0,
        gpus_before=reading(18 * GIB),
        gpus_after=reading(18 * GIB),
        span=span(TOTAL - OTHERS - 34 * GIB, 70 * GIB),
    )
    found = woke(evidence, asleep, Verb.RELOAD)
    assert found.reloaded == {"GPU-0": (32 * GIB,)}
    assert (found.need("GPU-0", 1), found.need("GPU-0", 2)) == (28 * GIB, 32 * GIB)
    assert found.last_s("reload") == 12.0


def test_a_lost_sleep_teaches_bytes_and_no_duration():
    draft = Draft(world(record("a", AWAKE, footprint=FRESH)), NOW)
    after = Known(replace(seen().value, unit_memory=unit(20 * GIB)), NOW.mono_s, NOW.mono_s)
    learn_lost_sleep(draft, sleeping(1, kept=6 * GIB), Evidence(seen=after, gpus_after=reading(2 * GIB)))
    found = draft.models["a"].footprint
    assert found.freed == {"GPU-0": (28 * GIB,)}
    assert (found.host_pinned, found.pinned_bytes, found.durations) == (True, 14 * GIB, {})


# --- leaks --------------------------------------------------------------------------------------------------------


def rotate(residuals: tuple[int, ...], *, level: int = 1) -> tuple[Draft, list[str]]:
    draft, told = Draft(world(record("a", AWAKE, footprint=FRESH)), NOW), []
    verb = Verb.SLEEP_L1 if level == 1 else Verb.SLEEP_L2
    for left in residuals:
        learn_sleep(draft, sleeping(level), verb, Evidence(gpus_before=reading(30 * GIB), gpus_after=reading(left)))
    told += [n.text for n in draft.turn().notes if n.kind == "restart_wanted"]
    return draft, told


def test_residuals_that_grow_ask_for_a_restart_once_and_fail_nothing():
    draft, told = rotate((1 * GIB, 2 * GIB, 4 * GIB, 6 * GIB, 9 * GIB))
    wanted = (
        "asleep it holds 6GiB of GPU 0, 5GiB more than after its first sleep (4 sleeps, 1.7GiB each): restart it in a"
        " quiet moment"
    )
    assert told == [f"a: {wanted}"]
    found = draft.models["a"]
    assert (found.restart_wanted, found.failure) == (wanted, None)
    assert reason(draft.world(), "a", NOW).endswith(wanted)


@pytest.mark.parametrize("residuals", [(2 * GIB,), (1 * GIB, 5 * GIB), (5 * GIB, 2 * GIB, 5 * GIB), (GIB,) * 20])
def test_residuals_within_the_limit_ask_for_nothing(residuals):
    draft, told = rotate(residuals)
    assert (told, draft.models["a"].restart_wanted) == ([], "")


def test_levels_are_compared_with_themselves():
    draft = Draft(world(record("a", AWAKE, footprint=FRESH)), NOW)
    for level, left in ((1, GIB), (2, 6 * GIB), (1, GIB + 10 * MIB), (2, 6 * GIB)):
        verb = Verb.SLEEP_L1 if level == 1 else Verb.SLEEP_L2
        evidence = Evidence(gpus_before=reading(30 * GIB), gpus_after=reading(left))
        learn_sleep(draft, sleeping(level), verb, evidence)
    assert draft.models["a"].restart_wanted == ""


@pytest.mark.parametrize("lost", [False, True])
def test_putting_a_failed_wake_back_is_no_sleep_of_its_own(lost):
    draft = Draft(world(record("a", ASLEEP, footprint=replace(FRESH, awake={"GPU-0": 30 * GIB}))), NOW)
    evidence = Evidence(gpus_before=reading(12 * GIB), gpus_after=reading(2 * GIB))
    undo = replace(waking(), plan=Plan((step_of(Verb.WORKER_SLEEP_L1),)))
    if lost:
        learn_lost_sleep(draft, undo, evidence)
    else:
        learn_sleep(draft, undo, Verb.WORKER_SLEEP_L1, evidence)
    found = draft.models["a"].footprint
    assert (found.sleeps, found.freed, found.residual) == (0, {}, {})
    assert (found.awake, found.asleep) == ({"GPU-0": 30 * GIB}, {"GPU-0": 2 * GIB})
