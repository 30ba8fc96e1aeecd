"""Whose stop it was by which a unit is found stopped, and units that come back by themselves."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, record, world
from rule_worlds import begun, play
from unit_worlds import GONE, INACTIVE, LOST, RUNS, UNIT, WAKE_IT, answers, asked, looked, lost, state, unit

from sleepd.core.commands import AnswerKind
from sleepd.core.events import Evidence, StepEnd, StepEnded
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Known, Settings
from sleepd.core.plan import Verb, plan_start
from sleepd.core.seen import GpuSeen
from sleepd.core.task import Intent, Task, TaskKind
from sleepd.core.unit_sightings import QUIET_S, unit_after_s
from sleepd.core.units import GIB

# --- "A unit that is inactive, deactivating or masked was stopped on purpose" ---------------------------------------


@pytest.mark.parametrize(
    "seen",
    [
        INACTIVE,
        replace(RUNS, active="deactivating", sub="stop-sigterm", job="stop"),
        replace(INACTIVE, load="masked", file_state="masked"),
    ],
)
def test_what_was_stopped_on_purpose_is_left_alone(seen):
    waits = play(world(lost()), WAKE_IT).world
    turn = play(waits, looked(seen), at_s=1.0)
    assert state(turn) is State.STOPPED
    assert answers(turn) == {7: (AnswerKind.REFUSED, "stopped")}
    assert begun(turn) == ""
    assert answers(asked(turn.world, replace(WAKE_IT, waiter=8))) == {8: (AnswerKind.REFUSED, "stopped")}


def test_a_stop_that_took_until_sigkill_ends_as_a_failure_and_was_on_purpose_all_the_same():
    stopping = replace(RUNS, active="deactivating", job="stop")
    made = world(record(spec=UNIT, unit=unit(), served_as="1"))
    seen = play(made, looked(stopping, 1.0), at_s=1.0).world
    gone = replace(seen, models={"a": replace(seen.models["a"], life=LOST, seen=GONE, since_s=NOW.mono_s + 2.0)})
    failed = replace(RUNS, active="failed", sub="failed", result="timeout")
    assert state(play(gone, looked(failed, 3.0), at_s=3.0)) is State.STOPPED


@pytest.mark.parametrize(("seen", "often"), [(RUNS, False), (replace(RUNS, active="deactivating", job="start"), True)])
def test_a_server_that_answers_while_its_unit_stops_is_looked_at_often(seen, often):
    made = record(life=ASLEEP, spec=UNIT, unit=unit(seen))
    assert (unit_after_s(made, Settings({})) < QUIET_S) is often


def test_the_end_of_a_crash_is_not_taken_for_a_stop():
    """While systemd ends what a crash left behind, the unit is deactivating too, and nobody asked for that."""
    dying = replace(RUNS, active="deactivating", sub="stop-sigterm", result="exit-code")
    turn = play(world(lost()), looked(dying), at_s=1.0)
    assert state(turn) is State.LOST
    assert answers(asked(turn.world, WAKE_IT)) == {}


# --- "an auto-restart pending is waited for" ------------------------------------------------------------------------


def test_an_automatic_restart_is_waited_for_and_a_start_holds_its_gpus():
    rests = replace(RUNS, active="activating", sub="auto-restart", result="exit-code")
    waiting = play(play(world(lost()), WAKE_IT).world, looked(rests), at_s=1.0)
    assert (state(waiting), begun(waiting), answers(waiting)) == (State.LOST, "", {})
    comes = play(waiting.world, looked(replace(RUNS, invocation="2"), 2.0), at_s=2.0)
    task = comes.world.tasks["a"]
    assert (state(comes), task.kind, task.claims) == (State.STARTING, TaskKind.START, {"GPU-0"})
    assert task.plan.steps[task.cursor].verb is Verb.AWAIT_HEALTH


def test_a_start_of_a_model_whose_gpus_nobody_knows_holds_all_of_them():
    made = world(lost(placed_on=()))
    auto = replace(made.models["a"].spec, gpus=())
    two = Known((GpuSeen("GPU-0", 0, 80 * GIB, GIB), GpuSeen("GPU-1", 1, 80 * GIB, GIB)), NOW.mono_s, NOW.mono_s)
    settings = Settings({"a": auto})
    made = replace(made, models={"a": replace(made.models["a"], spec=auto)}, gpus=two, settings=settings)
    turn = play(made, looked(replace(RUNS, invocation="2")), at_s=1.0)
    assert turn.world.tasks["a"].claims == {"GPU-0", "GPU-1"}


@pytest.mark.parametrize(
    ("invocation", "ended_s", "left"),
    [
        ("2", 1.0, State.STOPPED),
        ("1", 1.0, State.STARTING),
        ("1", 9.0, State.STARTING),
        ("1", 301.0, State.STARTING),
        ("1", 306.0, State.STOPPED),
        ("1", None, State.STARTING),
        ("1", 200.0, State.STOPPED),
        ("1", -30.0, State.STOPPED),
        ("1", 900.0, State.STOPPED),
    ],
)
def test_who_stopped_a_unit_while_the_daemon_was_gone_is_told_by_its_start_and_by_when(invocation, ended_s, left):
    """A later start than the one to be ended was not ours to stop. That one was, if it ended right after a daemon had
    ordered it, and before the next one went on; where systemd forgot when, it counts as ours."""
    ordered = (NOW.wall_s, NOW.wall_s + 300.0, NOW.wall_s + 305.0)
    cause, intent = Cause(CauseKind.RECOVERY, "a failure"), Intent("pst:1", None, (), 0.0, None, "1", ordered)
    resumed = Task(3, "a", TaskKind.RESTART, 0, cause, plan_start(), NOW.mono_s, intent=intent, attempt=1, running=True)
    starting = record(life=Life(State.STARTING, Weights.LOADED), spec=UNIT, seen=GONE)
    ended_wall_s = 0.0 if ended_s is None else NOW.wall_s + ended_s
    over = unit(replace(INACTIVE, invocation=invocation, left_wall_s=ended_wall_s), 1.0)
    evidence = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=over, stopped_before=True)
    made = replace(world(starting), tasks={"a": resumed})
    turn = play(made, StepEnded("a", 3, 0, StepEnd.DONE, evidence), at_s=1.0)
    assert (state(turn), turn.world.models["a"].stopped) == (left, None)
