"""What a rehearsed wake tells: victims and the terms of their cost, bytes before and after, steps, seconds, waits."""

import pytest
from core_worlds import NOW, record
from test_core_victims import BIG, QUICK_TO_WAKE, asleep, hosted, on, sized

from sleepd.core.events import Tick
from sleepd.core.footprint import STEP, Footprint
from sleepd.core.frozen import replace
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.record import Hold
from sleepd.core.rehearse import PlannedGpu, PlannedStay, PlannedStep, plan_of_wake
from sleepd.core.units import GIB


def plan(made, name: str = "t"):
    return plan_of_wake(made, name, NOW)


def two_wide():
    """`t` over two GPUs, one neighbour on each of them, and a dear one over both."""
    cheap = [replace(on(n, g), footprint=sized(45, g, **QUICK_TO_WAKE)) for n, g in (("a", 0), ("b", 1))]
    dear = replace(on("w", 0, 1), footprint=sized(45, 0, 1, sleep1=(60.0,), wake1=(60.0,)))
    wide = replace(asleep("t", 0, 1, waits_s=1.0), waiters=())
    return hosted(replace(wide, footprint=sized(40, 0, 1, wake1=(4.0,))), *cheap, dear)


def test_victims_come_with_the_terms_of_their_cost_and_nothing_is_done():
    made = two_wide()
    found = plan(made)
    assert (found.would, found.level, found.exact) == ("wake", 1, True)
    assert [(v.offer.model, v.offer.level, v.frees) for v in found.victims] == [
        ("a", 1, {"GPU-0": 45 * GIB}),
        ("b", 1, {"GPU-1": 45 * GIB}),
    ]
    terms = found.victims[0].offer
    assert (terms.sleep_s, terms.wake_s, terms.again, terms.felt_s) == (3.0, 2.0, 0.5, 4.0)
    assert found.chosen == "cheapest of what 3 could give; 8s felt"
    assert made.tasks == {}


def test_who_stays_is_named_with_what_its_sleep_would_have_cost():
    assert plan(two_wide()).stay == (PlannedStay("w", "1m30s felt, frees 90GiB"),)


def test_bytes_are_told_per_gpu_before_and_after():
    found = plan(two_wide())
    assert found.gpus == tuple(PlannedGpu(f"GPU-{i}", i, GIB, GIB, 45 * GIB, 40 * GIB) for i in (0, 1))
    assert [g.left_bytes for g in found.gpus] == [6 * GIB, 6 * GIB]


def test_seconds_are_told_for_each_step_and_in_all():
    found = plan(two_wide())
    assert found.steps == (PlannedStep("wake", 4.0),)
    assert (found.sleep_s, found.eta_s, found.measured) == (6.0, 10.0, True)
    guessed = hosted(asleep("t", 0), on("b", 0, gib=45))
    assert not plan(guessed).measured


def test_steps_of_a_level_2_wake_that_were_measured_say_how_long_they_take():
    learned = Footprint(
        freed={"GPU-0": (20 * GIB,)},
        durations={"wake2": (15.0,), "reload": (13.0,), STEP + "wake weights": (0.3,), STEP + "wake kv cache": (0.2,)},
    )
    deep = replace(record("t", Life(State.ASLEEP_L2, Weights.BLANK)), footprint=learned)
    found = plan(hosted(deep, free=(40, 40)))
    seconds = {s.call: s.seconds for s in found.steps}
    assert (seconds["wake weights"], seconds["reload weights"], seconds["wake kv cache"]) == (0.3, 13.0, 0.2)
    assert seconds["reset prefix cache"] is None
    assert found.eta_s == 15.0


HOLD = Hold("h", 1, "ann", "", 0.0, None, None, None)


@pytest.mark.parametrize(
    ("hindered", "why", "in_s"),
    [
        ({"awake_since_s": NOW.mono_s - 10.0}, "it woke recently: min_awake leaves 50s", 50.0),
        # Half of its max_wait, or whatever of it the switch leaves, is how long one that is used may keep it waiting.
        ({"in_flight": 1}, "it is in use", 59.0),
        ({"in_flight": 1, "holds": (HOLD,)}, "it is in use", None),
    ],
)
def test_what_is_waited_for_is_named_with_the_seconds_that_are_known(hindered, why, in_s):
    found = plan(hosted(asleep("t", 0), on("b", 0, gib=45, **hindered)))
    assert (found.would, found.problem, found.victims) == ("wait", "no_room", ())
    assert found.stay == (PlannedStay("b", why, in_s),)


def test_what_is_impossible_says_wanted_found_and_hint_beside_who_holds_the_gpu():
    found = plan(hosted(asleep("t", 0), on("b", 0, gib=45, spec={"pinned": True})))
    assert (found.would, found.problem, found.wanted) == ("refuse", "no_room", "40GiB")
    assert found.found == "0B free beside the margin, 0B reclaimable"
    assert found.hint
    assert found.stay == (PlannedStay("b", "it is pinned"),)


def test_a_place_in_a_group_is_rehearsed_too():
    made = hosted(asleep("t", 0, gib=20), on("b", 1), on("c", 1, in_flight=1), free=(40, 1), groups=(BIG,))
    found = plan(made)
    assert [v.offer.model for v in found.victims] == ["b"]
    assert found.gpus[0].freed_bytes == 0, "it sleeps for its place, elsewhere"
    busy = replace(made, models={**made.models, "b": replace(made.models["b"], in_flight=1)})
    assert plan(busy).problem == "group_full"
    assert [s.model for s in plan(busy).stay] == ["b", "c"]


def test_what_is_rehearsed_is_what_then_happens():
    made = two_wide()
    found = plan(made)
    waiting = asleep("t", 0, 1).waiters
    asked = replace(made, models={**made.models, "t": replace(made.models["t"], waiters=waiting)})
    begun = step(asked, [Tick()], NOW).world
    first = found.victims[0].offer
    assert (begun.tasks["t"].victim, begun.tasks[first.model].level) == (first.model, first.level)
