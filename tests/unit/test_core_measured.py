"""What the end of a step teaches: bytes per GPU, backups, durations, and residuals that keep growing; and what of that
a new process takes over."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, FACTS, NOW, record, seen, world

from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.events import Evidence, ModelLooked
from sleepd.core.explain import reason
from sleepd.core.footprint import Footprint, sized_by
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.measured import (
    STILL_BYTES,
    learn_failed_backup,
    learn_lost_sleep,
    learn_reload,
    learn_sleep,
    learn_wake,
)
from sleepd.core.memory import Admitted, Blind, Short, preflight, start_needs, wake_needs
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason, Settings
from sleepd.core.orders import expected_s, step_timeout
from sleepd.core.plan import Plan, Verb, plan_sleep, plan_wake, step_of
from sleepd.core.seen import GpuSeen, HostSeen, Span, UnitMemory
from sleepd.core.task import Intent, Task, TaskKind
from sleepd.core.units import GIB, MIB

FRESH = Footprint(under=sized_by(FACTS))
TOTAL = 80 * GIB
OTHERS = 5 * GIB
RULE = Cause(CauseKind.RULE, "nap")


def reading(held: int | None, *, others: int = OTHERS, own: int = 0) -> Known[tuple[GpuSeen, ...]]:
    """One GPU on which pid 1 holds `held` by NVML, or `own` where NVML does not tell, and a stranger `others`."""
    used = None if held is None else {1: held, 99: others}
    free = TOTAL - (held if held is not None else own) - others
    return Known((GpuSeen("GPU-0", 0, TOTAL, free, used),), NOW.mono_s, NOW.mono_s)


def span(least: int, most: int) -> dict[str, Span]:
    return {"GPU-0": Span(least, most)}


def ram(available: int) -> Known[HostSeen]:
    return Known(HostSeen(256 * GIB, available), NOW.mono_s, NOW.mono_s)


def unit(kept: int, *, own: bool = True) -> UnitMemory:
    return UnitMemory(kept, kept, own)


def sleeping(level: int = 1, kept: int | None = None) -> Task:
    plan = plan_sleep(level, fingerprint_wanted=False)
    intent = Intent("pst:1", None, {"GPU-0": 30 * GIB}, kept_bytes=kept)
    return Task(1, "a", TaskKind.SLEEP, level, RULE, plan, 0.0, cursor=len(plan.steps) - 1, intent=intent)


def waking(level: int = 1) -> Task:
    plan = plan_wake(level, capabilities(FACTS, fenced=False), doubtful=False, known=True)
    return Task(1, "a", TaskKind.WAKE, level, RULE, plan, 0.0)


def slept(
    evidence: Evidence, *, level: int = 1, kept: int | None = None, footprint: Footprint = FRESH, **more
) -> Footprint:
    draft = Draft(world(record("a", AWAKE, footprint=footprint, **more)), NOW)
    verb = Verb.SLEEP_L1 if level == 1 else Verb.SLEEP_L2
    learn_sleep(draft, sleeping(level, kept), verb, replace(evidence, started_s=10.0, answered_s=17.5))
    return draft.models["a"].footprint


def woke(evidence: Evidence, footprint: Footprint, verb: Verb = Verb.WAKE) -> Footprint:
    draft = Draft(world(record("a", ASLEEP, footprint=footprint)), NOW)
    (learn_reload if verb is Verb.RELOAD else learn_wake)(draft, waking(), evidence)
    return draft.models["a"].footprint


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


# --- backups ------------------------------------------------------------------------------------------------------


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


# --- patience -----------------------------------------------------------------------------------------------------

LARGE = replace(FACTS, checkpoint_bytes=75 * GIB)


@pytest.mark.parametrize(
    ("footprint", "verb", "least_s"),
    [
        # 75 GiB were seen to take 43 s the first time: unanswered is not before ten times that.
        (Footprint(), Verb.SLEEP_L1, 430.0),
        (Footprint(durations={"sleep1": (6.5,)}), Verb.SLEEP_L1, 1300.0),
        (Footprint(durations={"sleep1": (6.5,), "sleep1_first": (60.0,)}), Verb.SLEEP_L1, 600.0),
        (Footprint(host_pinned=True, durations={"sleep1": (6.5,), "sleep1_first": (43.0,)}), Verb.SLEEP_L1, 430.0),
        (Footprint(), Verb.SLEEP_L2, 300.0),
        (Footprint(durations={"wake1": (2.4, 50.0, 1.5)}), Verb.WAKE, 500.0),
        (Footprint(), Verb.WAKE, 300.0),
        (Footprint(), Verb.RELOAD, 1500.0),
        (Footprint(), Verb.FENCE, 60.0),
    ],
)
def test_how_long_a_call_may_stay_unanswered(footprint, verb, least_s):
    of = record("a", footprint=footprint, facts=LARGE)
    found = step_timeout(of, verb, world(of).settings)
    assert found == pytest.approx(least_s, rel=0.1)
    assert found >= 10 * expected_s(of, verb)


def test_a_call_is_waited_for_by_what_calls_like_it_took_and_by_nothing_else():
    """A server that takes ten minutes to start, or two to read its weights, has no slow wakes from host RAM."""
    slow = replace(FRESH, durations={"start": (600.0,), "reload": (120.0,), "wake2": (125.0,), "wake1": (40.0,)})
    of = record("a", footprint=slow)
    settings = world(of).settings
    found = {verb: step_timeout(of, verb, settings) for verb in (Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.RELOAD)}
    assert found == {Verb.WAKE: 400.0, Verb.WAKE_WEIGHTS: 1250.0, Verb.RELOAD: 1250.0}
    assert step_timeout(of, Verb.AWAIT_HEALTH, settings) == 6000.0


def test_a_configured_patience_is_taken_as_it_is():
    of = record("a", facts=LARGE)
    settings = replace(world(of).settings, stuck_after_s=20.0)
    assert step_timeout(of, Verb.SLEEP_L1, settings) == 20.0


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
