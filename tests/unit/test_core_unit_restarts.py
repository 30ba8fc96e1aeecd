"""Units that are restarted: what nobody brings back, and what leaks; within the budget."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NEED, NOW, record, world
from rule_worlds import begun, kinds, play
from unit_worlds import FAILED, INACTIVE, RUNS, UNIT, WAKE_IT, answers, fresh_step, looked, lost, order, state, unit

from sleepd.core.commands import AnswerKind
from sleepd.core.events import Evidence, ModelLooked, StepEnd, StepEnded
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import CauseKind, Failure, Known, Mode
from sleepd.core.plan import Verb
from sleepd.core.seen import ControlCounts
from sleepd.core.task import TaskKind
from sleepd.core.unit import JobEnd, Ordered
from sleepd.core.units import GIB

# --- "[recovery] restart_units: wedged, dead-but-active or failed units" --------------------------------------------

DEAD = (RUNS, replace(RUNS, active="failed", sub="failed", result="signal"))


@pytest.mark.parametrize("seen", DEAD, ids=["dead but active", "failed"])
def test_a_unit_that_nobody_brings_back_is_restarted_and_who_waits_goes_on_waiting(seen):
    turn = play(play(world(lost()), WAKE_IT).world, looked(seen), at_s=1.0)
    task = turn.world.tasks["a"]
    assert (state(turn), task.kind, answers(turn)) == (State.STARTING, TaskKind.RESTART, {})
    assert [s.verb for s in task.plan.steps] == [Verb.END_UNIT, Verb.START_UNIT, Verb.AWAIT_HEALTH]
    assert order(turn).uuids == ("GPU-0",), "these have to be shown free"
    assert turn.world.models["a"].restarts_s == (NOW.mono_s + 1.0,)
    assert turn.world.models["a"].restart_due == "", "what fails from now on is judged by the budget anew"
    assert any(getattr(r, "restarts_wall_s", None) for r in turn.records), "the budget is committed with the intent"


@pytest.mark.parametrize("seen", DEAD, ids=["dead but active", "failed"])
def test_not_where_the_configuration_says_no(seen):
    made = world(lost())
    made = replace(made, settings=replace(made.settings, restart_units=False))
    turn = play(play(made, WAKE_IT).world, looked(seen), at_s=1.0)
    assert (state(turn), begun(turn)) == (State.LOST, "")
    assert answers(turn) == {7: (AnswerKind.REFUSED, "engine_failed")}
    assert "restart_left" in kinds(turn)


def test_what_is_only_observed_is_not_restarted():
    made = world(lost())
    spec = replace(made.models["a"].spec, mode=Mode.OBSERVE)
    made = replace(made, models={"a": replace(made.models["a"], spec=spec)})
    assert begun(play(made, looked(DEAD[1]), at_s=1.0)) == ""


def test_the_hours_restarts_used_up_it_is_failed_and_an_hour_later_it_still_is():
    made = world(lost(restarts_s=(NOW.mono_s - 60.0, NOW.mono_s - 30.0, NOW.mono_s - 10.0)))
    turn = play(made, looked(DEAD[1]), at_s=1.0)
    assert (state(turn), begun(turn)) == (State.FAILED, "")
    much_later = play(turn.world, looked(DEAD[1], 7200.0), at_s=7200.0)
    assert (state(much_later), begun(much_later)) == (State.FAILED, "")


def test_a_failed_model_with_a_unit_is_restarted_whatever_brought_it_there():
    failed = record(life=FAILED, spec=UNIT, unit=unit(), failure=Failure("doubtful", "its weights cannot be proven"))
    turn = play(world(failed))
    assert (state(turn), begun(turn)) == (State.STARTING, "restart 0")


def test_a_restart_that_polkit_refuses_is_not_tried_again():
    turn = play(world(lost()), looked(DEAD[1]), at_s=1.0)
    task = turn.world.tasks["a"]
    refused = Evidence(None, "not permitted", unit=unit(DEAD[1], 1.0), ordered=Ordered(JobEnd.NOT_PERMITTED, "no"))
    ended = play(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.REFUSED, refused), at_s=2.0)
    assert (state(ended), begun(ended)) == (State.FAILED, "")
    assert ended.world.models["a"].failure.code == "not_permitted"
    assert begun(play(ended.world, at_s=3000.0)) == ""


def test_after_a_restart_its_weights_are_loaded_and_who_waited_is_served():
    made = play(play(world(lost()), WAKE_IT).world, looked(DEAD[1]), at_s=1.0).world
    for _ in range(3):
        task = made.tasks["a"]
        evidence = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 2.0, unit=unit(RUNS, 2.0))
        made = fresh_step(made, StepEnded("a", task.id, task.cursor, StepEnd.DONE, evidence))
    assert made.models["a"].life == Life(State.UNKNOWN, Weights.LOADED)
    assert made.models["a"].settled_s == NOW.mono_s + 2.0, "older readings of GPUs may not know what it took"
    seen = record().seen
    facts = replace(seen.value.facts, incarnation="pst:2")
    fresh = replace(seen.value, facts=facts, control=ControlCounts())
    look = ModelLooked("a", Known(fresh, NOW.mono_s + 3.0, NOW.mono_s + 3.0))
    turn = play(made, look, at_s=3.0)
    assert (state(turn), answers(turn)) == (State.AWAKE, {7: (AnswerKind.DONE, "")})


# --- leaks ------------------------------------------------------------------------------------------------------------


def leaking(idle_s=700.0, **more):
    awake = Footprint(awake={"GPU-0": 30 * GIB})
    return record(
        life=ASLEEP,
        spec=UNIT,
        unit=unit(),
        restart_wanted="what it keeps asleep grows",
        last_active_s=NOW.mono_s - idle_s,
        footprint=replace(awake, freed={"GPU-0": (NEED,)}),
        **more,
    )


def test_what_leaks_is_restarted_in_a_quiet_moment_within_the_budget():
    turn = play(world(leaking()))
    assert (begun(turn), state(turn)) == ("stop 0", State.STOPPING)
    task = turn.world.tasks["a"]
    assert task.cause.kind is CauseKind.RECOVERY
    assert turn.world.models["a"].restarts_s == (NOW.mono_s,)
    evidence = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=unit(INACTIVE, 1.0))
    ended = fresh_step(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.DONE, evidence))
    assert ended.tasks["a"].kind is TaskKind.START


@pytest.mark.parametrize(
    "made",
    [
        leaking(idle_s=60.0),
        leaking(pin=True),
        leaking(restarts_s=(NOW.mono_s - 1.0,) * 3),
        replace(leaking(), spec=replace(leaking().spec, unit="")),
    ],
    ids=["not quiet", "pinned", "budget", "no unit"],
)
def test_not_otherwise(made):
    assert begun(play(world(made))) == ""


def test_nor_where_it_would_find_no_room():
    assert begun(play(world(leaking(), free=2 * GIB))) == ""
