"""Units that are stopped: by persons and by rules, and what keeps or overrules a stop."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, later, record, world
from rule_worlds import begun, play, rule
from unit_worlds import (
    BY_RULE,
    GONE,
    INACTIVE,
    MAY_STOP,
    RUNS,
    UNIT,
    UNSEEN,
    WAKE_IT,
    answers,
    asked,
    looked,
    lost,
    order,
    state,
    stopped,
    unit,
)

from sleepd.core.beginning import begin
from sleepd.core.commands import AnswerKind, LookNow
from sleepd.core.events import Evidence, ModelLooked, StepEnd, StepEnded, UnitLooked
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason
from sleepd.core.plan import Verb, plan_stop
from sleepd.core.records import ModelSaved, Saved, TaskSaved
from sleepd.core.rules import STOP, AsleepFor
from sleepd.core.task import Task, TaskKind
from sleepd.core.unit import JobEnd, Ordered
from sleepd.core.wishes import HoldAsked, PinAsked, StopAsked


def test_a_stop_shuts_the_gate_first_and_confirms_that_nothing_runs():
    turn = asked(world(record(spec=UNIT, unit=unit())), StopAsked(7, "a", "root", 60.0))
    task = turn.world.tasks["a"]
    assert (state(turn), turn.shut, task.plan.steps[0].verb) == (State.DRAINING, ("a",), Verb.CONFIRM_IDLE)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"in_flight": 1}, "busy"),
        ({"pin": True}, "pinned"),
        ({"unit": Missing(MissingReason.NO_MANAGER, "no system bus")}, "engine_failed"),
    ],
)
def test_a_stop_is_refused_where_it_may_not_be(fields, problem):
    made = record(spec=UNIT, **{"unit": unit(), **fields})
    assert answers(asked(world(made), StopAsked(7, "a", "root", 60.0))) == {7: (AnswerKind.REFUSED, problem)}


@pytest.mark.parametrize(
    ("came", "problem"),
    [
        (HoldAsked(8, "h", "a", 1000, "alice", 60.0), "held"),
        (PinAsked(8, "a", "root", True), "pinned"),
    ],
)
def test_a_hold_or_pin_that_came_before_anything_was_sent_takes_back_a_stop(came, problem):
    stops = asked(world(record(spec=UNIT, unit=unit())), StopAsked(7, "a", "root", 60.0))
    turn = play(stops.world, came, at_s=0.1)
    assert (state(turn), turn.world.tasks) == (State.AWAKE, {})
    assert answers(turn) == {7: (AnswerKind.REFUSED, problem), 8: (AnswerKind.DONE, "")}


def test_a_stop_that_polkit_refuses_leaves_the_model_as_it_was():
    made = record(life=ASLEEP, spec=UNIT, unit=unit(), since_s=NOW.mono_s - 60.0)
    turn = asked(world(made), StopAsked(7, "a", "root", 60.0))
    task = turn.world.tasks["a"]
    refused = Evidence(None, "not permitted", unit=unit(), ordered=Ordered(JobEnd.NOT_PERMITTED, "install polkit"))
    ended = play(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.REFUSED, refused), at_s=1.0)
    assert answers(ended) == {7: (AnswerKind.REFUSED, "not_permitted")}
    assert ended.world.models["a"].belief.life == ASLEEP


def test_a_stop_that_finds_no_bus_leaves_the_model_as_it_was_and_restarts_nothing():
    made = record(life=ASLEEP, spec=UNIT, unit=unit(), since_s=NOW.mono_s - 60.0)
    turn = asked(world(made), StopAsked(7, "a", "root", 60.0))
    task = turn.world.tasks["a"]
    no_bus = Missing(MissingReason.NO_MANAGER, "no system bus")
    evidence = Evidence(None, "no system bus", unit=no_bus, ordered=Ordered(JobEnd.UNREACHABLE, "no system bus"))
    ended = play(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.UNANSWERED, evidence), at_s=1.0)
    assert (ended.world.models["a"].belief.life, ended.world.models["a"].restart_due) == (ASLEEP, "")


COMES = replace(RUNS, active="deactivating", sub="stop-sigterm", job="start")


def test_a_stop_that_somebodys_start_overruled_is_no_failure_to_be_ended_by_a_restart():
    made = record(life=ASLEEP, spec=UNIT, unit=unit(), since_s=NOW.mono_s - 60.0)
    turn = asked(world(made), StopAsked(7, "a", "root", 60.0))
    task = turn.world.tasks["a"]
    canceled = Evidence(None, "canceled", unit=unit(COMES, 1.0), ordered=Ordered(JobEnd.CANCELED, "canceled"))
    ended = play(turn.world, StepEnded("a", task.id, task.cursor, StepEnd.REFUSED, canceled), at_s=1.0)
    assert answers(ended) == {7: (AnswerKind.REFUSED, "engine_failed")}
    comes = play(ended.world, looked(COMES, 2.0), at_s=2.0)
    assert (state(comes), comes.world.tasks["a"].kind) == (State.STARTING, TaskKind.START)
    assert comes.world.models["a"].restarts_s == ()


def test_a_stop_takes_no_lock_that_the_start_in_its_place_had_not_got_yet():
    others = Task(9, "b", TaskKind.SLEEP, 1, Cause(CauseKind.RULE, "nap"), plan_stop(confirm=True), NOW.mono_s)
    others = replace(others, claims=frozenset({"GPU-0"}), running=True)
    made = world(lost(), record("b", Life(State.DRAINING, Weights.LOADED)), tasks={"b": others})
    starts = play(made, looked(replace(RUNS, invocation="2")), at_s=1.0)
    assert starts.world.tasks["a"].claims == frozenset()
    stops = play(starts.world, StopAsked(7, "a", "root", 60.0), at_s=2.0)
    assert (begun(stops), stops.world.tasks["a"].claims) == ("stop 0", frozenset())


@pytest.mark.parametrize(("before", "problem"), [(True, "stopped"), (False, None)])
def test_what_a_person_stopped_before_a_rule_could_is_not_the_rules_to_start(before, problem):
    retire = rule("retire", STOP, AsleepFor(0.0))
    made = world(record(life=ASLEEP, spec=MAY_STOP, unit=unit(), since_s=NOW.mono_s - 60.0), rules=(retire,))
    stopping = play(made)
    task = stopping.world.tasks["a"]
    evidence = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=unit(INACTIVE, 1.0), stopped_before=before)
    gone = play(stopping.world, StepEnded("a", task.id, task.cursor, StepEnd.DONE, evidence), at_s=1.0)
    assert state(gone) is State.STOPPED
    wished = play(gone.world, WAKE_IT, at_s=1.0)
    assert answers(wished) == ({7: (AnswerKind.REFUSED, problem)} if problem else {})


RESTARTED = replace(RUNS, invocation="2")


def rules_stop():
    """A rule begins to stop a sleeper that was read in its first start."""
    retire = rule("retire", STOP, AsleepFor(0.0))
    return play(world(record(life=ASLEEP, spec=MAY_STOP, unit=unit(), since_s=NOW.mono_s - 60.0), rules=(retire,)))


def test_a_rules_stop_is_of_the_start_it_was_decided_for_also_when_a_new_daemon_goes_on_with_it():
    first = rules_stop()
    assert order(first).invocation == "1"
    (a,) = [r for r in first.records if isinstance(r, ModelSaved)]
    tasks = {r.task.model: r.task for r in first.records if isinstance(r, TaskSaved)}
    made = begin(first.world.settings, Saved({"a": a}, tasks, next_task=2), later(1.0)).world
    made = replace(made, models={"a": replace(made.models["a"], unit=unit(RESTARTED, 1.5))})
    assert order(play(made, at_s=2.0)).invocation == "1"


def test_what_a_person_started_before_a_rule_could_stop_it_is_left_running_and_waited_for():
    stopping = rules_stop()
    task = stopping.world.tasks["a"]
    left = Evidence(None, "another process runs in its place already", unit=unit(RESTARTED, 1.0))
    turn = play(stopping.world, StepEnded("a", task.id, task.cursor, StepEnd.DONE, left), at_s=1.0)
    assert (state(turn), turn.world.models["a"].stopped) == (State.LOST, None)
    comes = play(turn.world, looked(RESTARTED, 2.0), at_s=2.0)
    assert (state(comes), comes.world.tasks["a"].kind) == (State.STARTING, TaskKind.START)


def test_a_person_who_waits_for_a_rules_stop_gets_whatever_runs_then_stopped():
    stopping = rules_stop()
    waits = asked(stopping.world, StopAsked(7, "a", "root", 60.0))
    task = waits.world.tasks["a"]
    left = Evidence(None, "another process runs in its place already", unit=unit(RESTARTED, 1.0))
    turn = play(waits.world, StepEnded("a", task.id, task.cursor, StepEnd.DONE, left), at_s=1.0)
    assert answers(turn) == {}
    assert (state(turn), turn.world.tasks["a"].cause.kind) == (State.STOPPING, CauseKind.OPERATOR)
    assert order(turn).invocation == ""


def test_a_persons_stop_is_of_whatever_start_runs():
    turn = asked(world(record(life=ASLEEP, spec=UNIT, unit=unit())), StopAsked(7, "a", "root", 60.0))
    assert order(turn).invocation == ""


def test_a_stop_in_the_daemons_first_moment_waits_for_the_first_look_at_the_unit():
    """sleepctl stop right after a start of the daemon: "cannot be read: not read yet", with nothing wrong."""
    turn = asked(world(record(spec=UNIT, unit=Missing(MissingReason.NOT_YET))), StopAsked(7, "a", "root", 60.0))
    assert (answers(turn), [c.unit for c in turn.commands if isinstance(c, LookNow)]) == ({}, ["a"])
    assert begun(turn) == "", "what cannot be read is not ordered about"
    turn = play(turn.world, looked(RUNS, 0.1), at_s=0.1)
    assert (begun(turn), answers(turn)) == ("stop 0", {})


def test_a_stop_before_the_first_look_at_the_server_waits_for_it_too():
    turn = asked(world(record(**UNSEEN, unit=unit())), StopAsked(7, "a", "root", 60.0))
    for at_s in (0.1, 0.2, 0.3):
        assert (begun(turn), answers(turn)) == ("", {})
        turn = play(turn.world, ModelLooked("a", GONE), at_s=at_s)
    assert (state(turn), begun(turn)) == (State.STOPPING, "stop 0")


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (Missing(MissingReason.NO_MANAGER, "no system bus"), (AnswerKind.REFUSED, "engine_failed")),
        (unit(replace(INACTIVE, load="not-found"), 0.1), (AnswerKind.REFUSED, "engine_failed")),
        (unit(INACTIVE, 0.1), (AnswerKind.DONE, "")),
    ],
)
def test_a_stop_that_waited_for_the_first_look_is_answered_by_what_it_shows(found, answer):
    """What a rule had stopped is a person's stop from then on: nobody's request starts it any more."""
    made = stopped(stopped=BY_RULE)
    turn = asked(world(replace(made, unit=Missing(MissingReason.NOT_YET))), StopAsked(7, "a", "root", 60.0))
    assert answers(turn) == {}
    turn = play(turn.world, UnitLooked("a", found), at_s=0.1)
    assert (answers(turn), begun(turn)) == ({7: answer}, "")
    assert (turn.world.models["a"].stopped is None) is (answer[0] is AnswerKind.DONE)


def test_a_stop_of_what_was_not_read_yet_is_refused_at_once_where_somebody_keeps_the_model():
    made = record(spec=UNIT, unit=Missing(MissingReason.NOT_YET), pin=True)
    assert answers(asked(world(made), StopAsked(7, "a", "root", 60.0))) == {7: (AnswerKind.REFUSED, "pinned")}


def test_a_stop_of_a_server_that_turns_out_to_answer_nobody_is_refused():
    """Whether it is in use can never be told: it is stopped by hand."""
    turn = asked(world(record(**UNSEEN, unit=unit())), StopAsked(7, "a", "root", 60.0))
    assert answers(turn) == {}
    turn = play(turn.world, ModelLooked("a", Missing(MissingReason.NO_DEV_MODE, "404")), at_s=0.1)
    assert answers(turn) == {7: (AnswerKind.REFUSED, "engine_failed")}
