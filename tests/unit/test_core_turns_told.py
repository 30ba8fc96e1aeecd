"""What is told of turns: when it is whose, and what keeps one that is due."""

import pytest
from core_worlds import ASLEEP, NOW, later, record, world
from turn_worlds import PATIENCE_S, REQUEST, TIGHT, eta_of, given_up, turn, used, waiting

from sleepd.core.explain import explain, next_action, reason
from sleepd.core.footprint import Footprint
from sleepd.core.frozen import replace
from sleepd.core.model import Missing, MissingReason
from sleepd.core.plan import plan_prove
from sleepd.core.record import Awaited
from sleepd.core.task import Task, TaskKind


def test_when_it_is_next_and_after_whom_is_told():
    made = turn(world(waiting(age_s=48.0), used(), free=TIGHT)).world
    assert reason(made, "qwen", NOW) == "waits for its turn: next in 12s, after that of chat"
    assert reason(made, "qwen", later(5.0)) == "waits for its turn: next in 7s, after that of chat"
    coming = next_action(made, "qwen", NOW)
    assert (coming.rule, coming.action) == ("its turn", "wake")
    ends = next_action(made, "chat", NOW)
    assert (ends.rule, ends.action, ends.in_s) == ("its turn", "sleep", 12.0)
    assert explain(made, "chat", NOW).verdict == "its turn ends in 12s: qwen waits for its room"
    assert eta_of(made, "qwen") > 12.0 + 2.0


def test_when_a_turn_comes_that_is_due_and_kept_is_told_as_far_as_it_is_known():
    """ "wake in 0s" was said of it for as long as a transition of others took, or GPU memory could not be read."""
    made = turn(world(waiting(age_s=48.0), used(), free=TIGHT)).world
    late, blind = later(20.0), Missing(MissingReason.TIMED_OUT)
    assert next_action(replace(made, gpus=blind), "qwen", later(2.0)).in_s > 10.0, "by then it may be read again"
    assert next_action(replace(made, gpus=blind), "qwen", late) is None
    assert next_action(replace(made, gpus=blind), "chat", late) is None
    assert explain(replace(made, gpus=blind), "chat", late).verdict == "its turn is over: qwen waits for its room"
    other = record("b", ASLEEP, footprint=Footprint(durations={"wake1": (9.0,)}))
    task = Task(
        7, "b", TaskKind.WAKE, 0, REQUEST, plan_prove(reload=False), late.mono_s - 4.0, claims=frozenset({"GPU-0"})
    )
    wakes = replace(task, running=True, called_s=late.mono_s - 4.0)
    moving = replace(made, models={**made.models, "b": other}, tasks={"b": wakes})
    assert next_action(moving, "chat", late).in_s == pytest.approx(5.0)
    assert next_action(moving, "qwen", late).in_s > 5.0, "and then it has still to fall asleep"
    overdue = replace(moving, tasks={"b": replace(wakes, called_s=late.mono_s - 30.0)})
    assert (next_action(overdue, "chat", late), next_action(overdue, "qwen", late)) == (None, None)
    elsewhere = replace(moving, tasks={"b": replace(wakes, claims=frozenset({"GPU-1"}))})
    assert next_action(elsewhere, "chat", late).in_s == 0.0


def test_who_comes_after_one_whose_turn_is_still_to_come_waits_for_that_turn_too():
    made = turn(world(waiting(age_s=PATIENCE_S), used(last_drain_s=200.0), waiting("third", 10.0), free=TIGHT)).world
    assert made.models["third"].awaited.after == ("qwen",)
    late = later(100.0)
    assert made.models["third"].awaited.at_s < late.mono_s
    assert next_action(made, "qwen", late).in_s > 100.0
    assert next_action(made, "third", late).in_s > next_action(made, "qwen", late).in_s + 60.0
    assert eta_of(made, "third", 100.0) == pytest.approx(next_action(made, "third", late).in_s + 2.0)
    circle = {n: replace(made.models[n], awaited=Awaited((o,), 0.0)) for n, o in (("qwen", "third"), ("third", "qwen"))}
    assert next_action(replace(made, models={**made.models, **circle}), "third", late) is None


def test_when_a_drain_ends_that_takes_longer_than_the_last_is_not_known():
    made = turn(world(waiting(age_s=PATIENCE_S), used(last_drain_s=8.0), free=TIGHT)).world
    assert made.models["chat"].yields is not None
    assert next_action(made, "chat", later(3.0)).in_s == 5.0
    assert next_action(made, "qwen", later(3.0)).in_s > 5.0
    assert (next_action(made, "chat", later(9.0)), next_action(made, "qwen", later(9.0))) == (None, None)
    idle = replace(made.models["chat"], in_flight=0)
    assert next_action(replace(made, models={**made.models, "chat": idle}), "chat", later(9.0)).in_s == 0.0


def test_what_keeps_a_turn_that_is_due_is_told():
    """A reading or a transition: "next in 0s" was said of it for many seconds."""
    made = turn(world(waiting(age_s=48.0), used(), free=TIGHT)).world
    late = later(20.0)
    blind = replace(made, gpus=Missing(MissingReason.TIMED_OUT))
    assert reason(blind, "qwen", late) == "waits for its turn, which is due: GPU memory cannot be read"
    stuck = replace(made.models["qwen"], reason="waits for another transition on its GPU")
    moving = replace(made, models={**made.models, "qwen": stuck})
    assert reason(moving, "qwen", late).endswith("which is due: another transition on its GPU")
    third = replace(stuck, reason="waits for its turn: b is next")
    assert reason(replace(made, models={**made.models, "qwen": third}), "qwen", late) == third.reason


def test_who_has_not_finished_yet_is_told():
    made = given_up().world
    assert reason(made, "qwen", NOW) == "waits for its turn: next when chat has finished its requests"
    told = reason(made, "chat", later(10.0))
    assert told == "its turn is over: finishes a request, in 4m50s at most, then qwen is next"
    # Back after the other's whole turn.
    assert eta_of(made, "chat") > 60.0


def test_the_third_in_line_is_told_whom_it_comes_after():
    made = turn(world(waiting(age_s=40.0), waiting("third", 10.0), used(), free=TIGHT)).world
    told = turn(made, 1.0).world
    assert told.models["third"].awaited.after == ("qwen",)
    assert "after that of qwen" in reason(told, "third", later(1.0))
    assert eta_of(told, "third", 1.0) > 20.0 + 60.0
