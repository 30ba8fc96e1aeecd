"""Whether a wake may go ahead: go, make room, wait, or refuse with what was wanted, found and to be done."""

from dataclasses import replace

import pytest
from core_worlds import (
    ASLEEP,
    FACTS,
    KNOWN_ANSWER,
    NEED,
    NOW,
    gpus,
    host,
    nap,
    pressure,
    proven,
    record,
    seen,
    world,
)
from room_worlds import GPU, ask, neighbour, sleeper

from sleepd.core.events import GpusLooked, ModelLooked
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step, wants_processes
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason, Now
from sleepd.core.plan import plan_sleep
from sleepd.core.record import AskKind, Waiter
from sleepd.core.room import FRESH_S, Go, MakeRoom, Refuse, WaitFor
from sleepd.core.seen import ControlCounts
from sleepd.core.task import HOST_LOCK, Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.world import DetectorMemory

MARGIN = GIB
WISH = Cause(CauseKind.OPERATOR, "somebody")
SHORT_OF_ONE = 20 * GIB
"""Free bytes beside which one model must sleep first."""


def task_of(name: str, *claims: str) -> Task:
    cause = Cause(CauseKind.RULE, "nap")
    plan = plan_sleep(1, fingerprint_wanted=False)
    return Task(7, name, TaskKind.SLEEP, 1, cause, plan, 0.0, claims=frozenset(claims))


# --- go ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "fits"), [(NEED + MARGIN, True), (NEED + MARGIN - 1, False)])
def test_it_goes_where_the_need_fits_beside_the_margin(free, fits):
    found = ask(world(sleeper(), free=free))
    assert (found == Go(GPU)) is fits


def test_a_level_2_wake_claims_the_host_too_since_it_reloads():
    deep = record("a", Life(State.ASLEEP_L2, Weights.BLANK))
    assert ask(world(deep)) == Go(GPU | {HOST_LOCK})


def test_declared_bytes_stand_in_for_learned_ones_and_the_servers_own_share_for_both():
    unmeasured = sleeper(footprint=Footprint(), spec={"vram_bytes": 39 * GIB})
    assert ask(world(unmeasured)) == Go(GPU)
    bounded = sleeper(footprint=Footprint(), facts=replace(FACTS, gpu_memory_utilization=0.9))
    assert isinstance(ask(world(bounded)), Refuse)
    assert ask(world(bounded, free=74 * GIB)) == Go(GPU)


def test_force_skips_the_preflight_and_not_the_lock():
    made = world(sleeper(), free=0)
    assert ask(made, force=True) == Go(GPU)
    assert isinstance(ask(replace(made, tasks={"b": task_of("b", "GPU-0")}), force=True), WaitFor)


# --- make room ---------------------------------------------------------------------------------------------------


def test_an_idle_neighbour_makes_room_and_both_are_claimed():
    found = ask(world(sleeper(), neighbour(), free=SHORT_OF_ONE))
    assert isinstance(found, MakeRoom)
    assert ([(o.model, o.level) for o in found.choice.offers], found.claims) == ([("b", 1)], GPU | {HOST_LOCK})


def test_the_dearer_neighbour_stays():
    dear = record("c", spec={"priority": 5}, last_active_s=0.0)
    assert ask(world(sleeper(), neighbour(), dear, free=SHORT_OF_ONE)).victim == "b"


def test_of_equals_the_longest_idle_makes_room():
    older = record("c", last_active_s=NOW.mono_s - 5000.0)
    assert ask(world(sleeper(), neighbour(), older, free=SHORT_OF_ONE)).victim == "c"


def test_under_host_pressure_the_victim_goes_as_deep_as_it_may():
    memory = DetectorMemory(crossed=frozenset({("host-ram-pressure", "b", 0)}))
    made = world(sleeper(), neighbour(), rules=(nap(), pressure()), free=SHORT_OF_ONE, memory=memory)
    assert ask(made).level == 1, "level 2 is not allowed to it, and its backup still fits"


# --- wait --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "said", "problem"),
    [
        (Missing(MissingReason.UNREADABLE, "NVML"), "a reading of GPU memory (NVML)", "blind"),
        (gpus(40 * GIB, age_s=FRESH_S + 0.01), "a fresh reading of GPU memory", "no_room"),
    ],
)
def test_no_reading_and_an_old_one_admit_nothing_and_are_asked_for(reading, said, problem):
    found = ask(replace(world(sleeper()), gpus=reading))
    assert isinstance(found, WaitFor)
    assert (found.reason, found.problem) == (said, problem)
    assert found.look


@pytest.mark.parametrize(("version", "fresh_wanted"), [("0.26.0", True), ("0.32.0", False)])
def test_where_a_failed_wake_costs_the_engine_only_a_reading_after_the_wish_admits(version, fresh_wanted):
    """Seen on a GPU with 0.26: a job took the room between reading and wish, and the wake ran out of memory."""
    facts = replace(FACTS, version=version, release=tuple(int(part) for part in version.split(".")[:2]))
    asked = sleeper(facts=facts, waiters=(Waiter(1, AskKind.WAKE, WISH, NOW.mono_s - 0.05, NOW.mono_s + 60.0),))
    found = ask(world(asked))
    assert isinstance(found, WaitFor) == fresh_wanted
    assert not fresh_wanted or found.look
    assert ask(replace(world(asked), gpus=gpus(80 * GIB, age_s=0.01))) == Go(GPU)


def test_a_reading_from_before_a_neighbour_moved_is_old():
    moved = neighbour(settled_s=NOW.mono_s - 0.05)
    assert ask(world(sleeper(), moved)).look
    assert ask(world(sleeper(), neighbour(settled_s=NOW.mono_s - 0.5))) == Go(GPU)


def test_a_reading_from_before_a_server_was_met_is_old():
    """It took its memory between the reading and its first answer."""
    unmet = neighbour(life=Life(State.UNKNOWN, Weights.LOADED), incarnation=None, seen=Missing(MissingReason.NOT_YET))
    made = world(sleeper(), unmet)
    met = Known(seen(control=ControlCounts()).value, NOW.mono_s - 0.05, NOW.mono_s - 0.01)
    made = step(made, [ModelLooked("b", met)], NOW).world
    assert made.models["b"].life.state is State.AWAKE
    assert ask(made).look
    assert ask(replace(made, gpus=gpus(40 * GIB, age_s=0.04))) == Go(GPU)


def test_a_reading_from_before_a_started_server_answered_is_old():
    """It is unknown until it is looked at, and has taken its memory all the same."""
    started = neighbour(life=Life(State.UNKNOWN, Weights.LOADED), settled_s=NOW.mono_s - 0.05)
    assert ask(world(sleeper(), started)).look
    assert ask(replace(world(sleeper(), started), gpus=gpus(40 * GIB, age_s=0.04))) == Go(GPU)


def test_a_reading_from_before_a_server_answered_that_nobody_placed_yet_is_old():
    """Which GPUs it took its memory on is not known before processes were listed: it may be any."""
    came_up = neighbour(settled_s=NOW.mono_s - 0.05)
    came_up = replace(came_up, spec=replace(came_up.spec, gpus=()), life=Life(State.UNKNOWN, Weights.LOADED))
    assert ask(world(sleeper(), came_up)).look
    assert ask(replace(world(sleeper(), came_up), gpus=gpus(40 * GIB, age_s=0.04))) == Go(GPU)


def test_what_is_found_asleep_after_a_reset_holds_what_a_new_reading_tells():
    """A wake that failed half-way left it with more than it was learned to hold asleep."""
    was = Footprint(freed={"GPU-0": (NEED,)}, asleep={"GPU-0": 2 * GIB})
    reset = record("a", Life(State.UNKNOWN, Weights.DOUBTFUL), footprint=was, seen=Missing(MissingReason.NOT_YET))
    made = step(world(reset), [ModelLooked("a", seen(is_sleeping=True, control=ControlCounts()))], NOW).world
    assert (made.models["a"].life.state, wants_processes(made)) == (State.UNKNOWN, True)
    held = (replace(gpus(40 * GIB).value[0], used_by_pid={1: 13 * GIB}),)
    later = Now(NOW.mono_s + 1.0, NOW.wall_s + 1.0)
    made = step(made, [GpusLooked(Known(held, later.mono_s, later.mono_s), listed=True)], later).world
    assert made.models["a"].life.state is State.ASLEEP_L1, "from 0.28 on its next wake brings the rest"
    assert made.models["a"].footprint.asleep == {"GPU-0": 13 * GIB}


def test_a_silent_server_is_waited_for():
    found = ask(world(sleeper(seen=Missing(MissingReason.TIMED_OUT))))
    assert found == WaitFor("the server's answer (no answer in time)", problem="engine_failed")


def test_a_claimed_gpu_is_waited_for_and_a_claim_of_ones_own_is_none():
    made = replace(world(sleeper(), neighbour()), tasks={"b": task_of("b", "GPU-0")})
    assert ask(made).reason == "another transition on its GPU"
    assert ask(made, task_id=7) == Go(GPU)


def test_a_barred_gpu_is_left_to_whoever_is_next_there():
    found = ask(world(sleeper(), record("b", ASLEEP)), barred={"GPU-0": "b"})
    assert found == WaitFor("its turn: b is next", GPU)


def test_a_victims_sleep_needs_the_host_lock():
    made = replace(world(sleeper(), neighbour(), free=SHORT_OF_ONE), tasks={"c": task_of("c", HOST_LOCK)})
    assert ask(made).reason == "another transition on the host"


@pytest.mark.parametrize(
    ("hindered", "said"),
    [
        ({"in_flight": 1}, "b: it is in use"),
        ({"awake_since_s": NOW.mono_s - 10.0}, "b: it woke recently: min_awake leaves 50s"),
        ({"seen": Missing(MissingReason.TIMED_OUT)}, "b: it does not answer"),
    ],
)
def test_a_hindrance_that_passes_is_waited_for(hindered, said):
    found = ask(world(sleeper(), neighbour(**hindered), free=SHORT_OF_ONE))
    assert found == WaitFor(f"room: {said}", GPU)


# --- refuse ------------------------------------------------------------------------------------------------------


def test_no_room_says_what_was_wanted_found_and_what_to_do():
    found = ask(world(sleeper(), free=SHORT_OF_ONE))
    assert found == Refuse(
        "no_room",
        "a needs 28GiB of VRAM, 19GiB free beside the margin, 0B reclaimable",
        "28GiB",
        "19GiB free beside the margin, 0B reclaimable",
        "stop or unpin what holds the GPU, or use a smaller one",
    )


@pytest.mark.parametrize(
    ("hindered", "said"),
    [
        ({"spec": {"pinned": True}}, "b: it is pinned"),
        ({"spec": {"max_level": 0}}, "b: max_level = 0 keeps it awake"),
        ({"frees_nothing": True}, "b: sleeping frees nothing on this server"),
        ({"facts": replace(FACTS, version="0.16.0", release=(0, 16))}, "b: vLLM 0.16.0 dies of a request while asleep"),
    ],
)
def test_a_hindrance_that_stays_is_refused_by_name(hindered, said):
    found = ask(world(sleeper(), neighbour(**hindered), free=SHORT_OF_ONE))
    assert isinstance(found, Refuse)
    assert found.problem == "no_room"
    assert said in found.detail


def test_a_neighbour_whose_backup_does_not_fit_makes_no_room():
    found = ask(replace(world(sleeper(), neighbour(), free=SHORT_OF_ONE), host=host(10 * GIB)))
    assert "b: its backup would not fit into host RAM above the reserve" in found.detail


def test_a_neighbour_whose_backup_does_not_fit_makes_room_at_level_2_where_that_is_proven():
    known = neighbour(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER)
    made = proven(replace(world(sleeper(), known, free=SHORT_OF_ONE), host=host(10 * GIB)))
    assert ask(made).level == 2
    assert ask(replace(made, host=host(90 * GIB))).level == 1


@pytest.mark.parametrize(("available", "sleeps"), [(48 * GIB, True), (48 * GIB - 1, False)])
def test_nobody_sleeps_for_nothing_because_the_next_backup_finds_no_room(available, sleeps):
    """Two must sleep, with backups of 20 GiB each beside a reserve of 8; who suffices alone needs its own only."""
    small = Footprint(freed={"GPU-0": (14 * GIB,)})
    made = world(sleeper(), neighbour(footprint=small), record("c", footprint=small), free=2 * GIB)
    found = ask(replace(made, host=host(available)))
    assert isinstance(found, MakeRoom if sleeps else Refuse)
    if not sleeps:
        assert "c: its backup would not fit beside the others'" in found.detail
    large = replace(made, models={**made.models, "c": record("c", footprint=Footprint(freed={"GPU-0": (NEED,)}))})
    assert ask(replace(large, host=host(28 * GIB))).victim == "c"


def test_neighbours_that_cannot_make_enough_room_are_left_alone():
    small = neighbour(footprint=Footprint(freed={"GPU-0": (2 * GIB,)}))
    found = ask(world(sleeper(), small, free=SHORT_OF_ONE))
    assert found.problem == "no_room"
    assert found.found == "19GiB free beside the margin, 2GiB reclaimable"


def test_what_is_not_known_is_refused_as_blind_with_the_setting_that_helps():
    unmeasured = sleeper(footprint=Footprint())
    found = ask(world(unmeasured))
    assert found.problem == "blind"
    assert "set vram in [models.a]" in found.hint
    nowhere = replace(unmeasured, spec=replace(unmeasured.spec, gpus=()), listed_s=NOW.mono_s)
    assert "set gpus in [models.a]" in ask(world(nowhere)).hint
    elsewhere = replace(unmeasured, spec=replace(unmeasured.spec, gpus=("5",)))
    assert "gpus = 5" in ask(world(elsewhere)).hint
