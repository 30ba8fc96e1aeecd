"""Units that are started: who may start what whose stop ended, and what a start waits for."""

from dataclasses import replace

import pytest
from core_worlds import AWAKE, NOW, record, seen, world
from rule_worlds import begun, fresh, play, rule
from unit_worlds import (
    BY_RULE,
    GONE,
    INACTIVE,
    RUNS,
    UNIT,
    UNSEEN,
    WAKE_IT,
    answers,
    asked,
    looked,
    order,
    state,
    stopped,
    unit,
)

from sleepd.core.commands import AnswerKind
from sleepd.core.events import Evidence, ModelLooked, StepEnd, StepEnded
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason, Settings
from sleepd.core.plan import Verb, plan_start
from sleepd.core.rules import WAKE, AsleepFor
from sleepd.core.task import Intent, Task, TaskKind
from sleepd.core.unit import JobEnd, Ordered
from sleepd.core.units import GIB
from sleepd.core.wishes import StartAsked

# --- "A model stopped by a rule is started by the next wake. A model stopped by a person stays stopped." ------------


def test_demand_starts_what_a_rule_stopped():
    turn = play(world(stopped(stopped=BY_RULE)), WAKE_IT)
    assert (state(turn), begun(turn), answers(turn)) == (State.STARTING, "start 0", {})


def test_a_rule_that_wakes_starts_it_too():
    made = world(stopped(stopped=BY_RULE), rules=(rule("morning", WAKE, AsleepFor(0.0)),))
    holds = replace(made.settings.rules[0], conditions=())
    made = replace(made, settings=Settings(made.settings.models, (holds,)))
    assert begun(play(made)) == "start 0"


def test_what_ran_since_a_rule_stopped_it_was_stopped_by_somebody_else():
    made = world(stopped(stopped=BY_RULE))
    turn = play(made, looked(replace(INACTIVE, invocation="2")), at_s=1.0)
    assert answers(asked(turn.world, WAKE_IT)) == {7: (AnswerKind.REFUSED, "stopped")}


def test_a_person_starts_what_a_person_stopped():
    turn = asked(world(stopped()), StartAsked(7, "a", "root", 60.0))
    assert (state(turn), begun(turn)) == (State.STARTING, "start 0")


def test_a_start_that_does_not_fit_waits_for_room_and_keeps_no_gpu():
    held = Footprint(awake={"GPU-0": 30 * GIB})
    made = world(stopped(stopped=BY_RULE, footprint=held), free=GIB)
    # Nobody is refused by what was read before the wish.
    turn = play(fresh(play(made, WAKE_IT).world, 1.0), at_s=1.0)
    assert (state(turn), begun(turn)) == (State.STOPPED, "")
    assert answers(turn) == {7: (AnswerKind.REFUSED, "no_room")}


def test_a_start_that_somebodys_stop_overruled_stays_stopped():
    turn = asked(world(stopped()), StartAsked(7, "a", "root", 60.0))
    task = turn.world.tasks["a"]
    over = Evidence(None, "", NOW.mono_s + 0.5, NOW.mono_s + 0.5, unit=unit(INACTIVE, 0.5))
    turn = play(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.DONE, over), at_s=0.5)
    turn = play(fresh(turn.world, 1.0), at_s=1.0)
    task = turn.world.tasks["a"]
    assert (task.plan.steps[task.cursor].verb, task.running) == (Verb.START_UNIT, True)
    canceled = Evidence(None, "canceled", unit=unit(INACTIVE, 1.0), ordered=Ordered(JobEnd.CANCELED, "canceled"))
    ended = play(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.REFUSED, canceled), at_s=1.0)
    left = play(ended.world, looked(INACTIVE, 2.0), at_s=2.0)
    assert (state(left), left.world.models["a"].stopped) == (State.STOPPED, None)
    assert answers(ended) == {7: (AnswerKind.REFUSED, "stopped")}


@pytest.mark.parametrize(("by", "left"), [(CauseKind.REQUEST, State.STOPPED), (CauseKind.OPERATOR, State.STARTING)])
def test_what_was_started_and_stopped_before_our_start_began_is_started_for_a_person_alone(by, left):
    intent = Intent("pst:1", None, invocation="1")
    begun_at = Task(
        3, "a", TaskKind.START, 0, Cause(by, "alice"), plan_start(), NOW.mono_s, intent=intent, running=True
    )
    starting = record(life=Life(State.STARTING, Weights.LOADED), spec=UNIT, seen=GONE)
    over = unit(replace(INACTIVE, invocation="2"), 1.0)
    evidence = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=over, stopped_before=True)
    made = replace(world(starting), tasks={"a": begun_at})
    turn = play(made, StepEnded("a", 3, 0, StepEnd.DONE, evidence), at_s=1.0)
    assert state(turn) is left


def test_a_start_leaves_alone_what_somebody_started_since_it_was_last_seen():
    made = world(stopped(stopped=BY_RULE), free=70 * GIB)
    turn = play(made, WAKE_IT)
    assert (order(turn).step.verb, order(turn).invocation) == (Verb.END_UNIT, "1")


def test_a_start_that_fails_and_that_systemd_repeats_is_left_to_systemd():
    """`sleepctl start` of a unit that found no room was stopped and started anew every two seconds, past the budget."""
    turn = asked(world(stopped()), StartAsked(7, "a", "root", 60.0))
    rests = replace(RUNS, active="activating", sub="auto-restart", result="exit-code", invocation="2")
    steps = ((Verb.END_UNIT, INACTIVE), (Verb.START_UNIT, replace(RUNS, invocation="2")), (Verb.AWAIT_HEALTH, rests))
    for at_s, (verb, told) in enumerate(steps, 1):
        task = turn.world.tasks["a"]
        assert task.plan.steps[task.cursor].verb is verb
        end = StepEnd.BROKEN_OFF if told is rests else StepEnd.DONE
        over = Evidence(None, "it ended", NOW.mono_s + at_s, NOW.mono_s + at_s, unit=unit(told, at_s))
        turn = play(turn.world, StepEnded("a", task.id, task.cursor, end, over), at_s=at_s)
        turn = play(fresh(turn.world, at_s + 0.5), at_s=at_s + 0.5)
    for at_s in (4.0, 5.0, 6.0):
        turn = play(turn.world, looked(rests, at_s), at_s=at_s)
        assert (state(turn), begun(turn), answers(turn)) == (State.LOST, "", {}), "waited for, and who asked waits too"


def test_a_start_of_what_was_not_looked_at_yet_waits_for_the_first_look_and_starts_it():
    """sleepctl reload, then sleepctl start: it said "unknown already", and nothing was started."""
    made = world(record(**UNSEEN, unit=Missing(MissingReason.NOT_YET)), free=70 * GIB)
    turn = asked(made, StartAsked(7, "a", "root", 60.0))
    assert answers(turn) == {}
    for at_s in (0.1, 0.2, 0.3):
        turn = play(turn.world, ModelLooked("a", GONE), at_s=at_s)
    assert (state(turn), answers(turn)) == (State.LOST, {})
    turn = play(fresh(play(turn.world, looked(INACTIVE, 0.4), at_s=0.4).world, 0.5), at_s=0.5)
    assert (turn.world.tasks["a"].kind, answers(turn)) == (TaskKind.START, {})


def test_a_start_of_what_turns_out_to_run_is_done_and_starts_nothing_later():
    turn = asked(world(record(**UNSEEN, unit=unit())), StartAsked(7, "a", "root", 60.0))
    turn = play(turn.world, ModelLooked("a", replace(seen(), asked_at_s=NOW.mono_s + 0.1)), at_s=0.1)
    # Its weights may be anybody's: it answers a question first, as any server that is met.
    assert (state(turn), turn.world.models["a"].start_wanted) == (State.PROVING, None)


def test_a_start_that_nobody_waits_for_any_more_ends_no_turn_of_a_model_in_use():
    """Whoever asked for it left, and the wish stays: nobody's patience says when the turn is over."""
    used = record("b", AWAKE, in_flight=1, last_active_s=NOW.mono_s, placed_on=("GPU-0",))
    wanted = stopped(start_wanted=Cause(CauseKind.OPERATOR, "alice"), footprint=Footprint(awake={"GPU-0": 30 * GIB}))
    full = world(wanted, used, free=20 * GIB)
    waited = play(full, at_s=0.0)
    assert state(waited, "b") is State.AWAKE
    assert waited.world.models["a"].reason.startswith("waits for room")
    idle = replace(used, in_flight=0, last_active_s=NOW.mono_s - 600.0)
    assert state(play(world(wanted, idle, free=20 * GIB), at_s=0.0)) is State.STARTING
