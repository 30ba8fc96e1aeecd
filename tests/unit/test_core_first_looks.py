"""Right after its start the daemon has read little yet: what may still turn out well is waited for, not refused."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, record, world
from rule_worlds import begun, fresh, looked, play

from sleepd.core.commands import Answer, AnswerKind, LookNow
from sleepd.core.draft import Draft
from sleepd.core.events import HostLooked, UnitLooked
from sleepd.core.first_looks import FIRST_LOOKS_S
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Failure, Known, Missing, MissingReason
from sleepd.core.record import Stopped
from sleepd.core.room import Refuse, WaitFor, room_for
from sleepd.core.seen import ControlCounts, GpuSeen
from sleepd.core.sightings import LOST_AFTER_POLLS
from sleepd.core.unit import UnitSeen
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked

UNIT = {"unit": "vllm@a.service"}
NOT_YET = Missing(MissingReason.NOT_YET)
UNKNOWN = Life(State.UNKNOWN, Weights.LOADED)
STOPPED, FAILED = (Life(s, Weights.LOADED) for s in (State.STOPPED, State.FAILED))
OURS = Stopped(Cause(CauseKind.RECOVERY, "a failure"), "1")
REQUEST = WakeAsked(7, "a", "gateway", 100.0, cause=CauseKind.REQUEST)
FULL = 5 * GIB
INACTIVE = UnitSeen(invocation="1")


def answers(turn):
    return [(c.kind, c.problem) for c in turn.commands if isinstance(c, Answer)]


def unread(**more):
    return record("b", UNKNOWN, **{"seen": NOT_YET, **more})


def asked(made):
    return play(fresh(made), REQUEST)


def refused(made):
    return [problem for kind, problem in answers(asked(made)) if kind is AnswerKind.REFUSED]


# --- room --------------------------------------------------------------------------------------------------------


def test_a_neighbour_that_nobody_looked_at_yet_may_make_room():
    waits = asked(world(record("a", ASLEEP), unread(), free=FULL))
    assert answers(waits) == []
    assert waits.world.models["a"].reason == "waits for a first look at b"
    found = play(fresh(waits.world), looked("b", control=ControlCounts()))
    assert answers(found) == []
    assert found.world.models["a"].reason == "waits for its turn, after that of b"


@pytest.mark.parametrize(
    "told",
    [
        {"failed_polls": LOST_AFTER_POLLS},
        {"seen": Missing(MissingReason.NO_DEV_MODE, "GET /is_sleeping: 404")},
        {"life": Life(State.LOST, Weights.LOADED)},
    ],
)
def test_after_so_many_looks_what_is_missing_is_missing(told):
    assert refused(world(record("a", ASLEEP), replace(unread(), **told), free=FULL)) == ["no_room"]


def test_nobody_waits_for_a_first_look_for_ever():
    waits = asked(world(record("a", ASLEEP), unread(), free=FULL)).world
    late_s = FIRST_LOOKS_S + 0.1
    assert answers(play(fresh(waits, late_s), at_s=late_s)) == [(AnswerKind.REFUSED, "no_room")]


def test_a_neighbour_on_another_gpu_makes_no_room_here():
    other = unread(spec={})
    other = replace(other, spec=replace(other.spec, gpus=("1",)))
    made = world(record("a", ASLEEP), other, free=FULL)
    both = (*made.gpus.value, GpuSeen("GPU-1", 1, 80 * GIB, 80 * GIB))
    assert refused(replace(made, gpus=replace(made.gpus, value=both))) == ["no_room"]


def test_a_neighbour_that_lies_nobody_knows_where_is_placed_first():
    made = world(record("a", ASLEEP), replace(record("b"), listed_s=-1.0, since_s=5.0), free=FULL)
    both = (*made.gpus.value, GpuSeen("GPU-1", 1, 80 * GIB, 80 * GIB))
    nowhere = replace(made.models["b"], spec=replace(made.models["b"].spec, gpus=()))
    made = replace(made, gpus=replace(made.gpus, value=both), models={**made.models, "b": nowhere})
    assert refused(made) == []
    listed = replace(made, models={**made.models, "b": replace(nowhere, listed_s=6.0)})
    assert refused(listed) == ["no_room"]


def test_one_that_lies_nobody_knows_where_is_placed_before_it_is_refused():
    made = world(record("a", ASLEEP, since_s=5.0), free=FULL)
    both = (*made.gpus.value, GpuSeen("GPU-1", 1, 80 * GIB, 80 * GIB))
    nowhere = replace(made.models["a"], spec=replace(made.models["a"].spec, gpus=()))
    made = replace(made, gpus=replace(made.gpus, value=both), models={"a": nowhere})
    found = room_for(Draft(made, NOW), "a", task_id=None, force=False)
    assert isinstance(found, WaitFor)
    assert found.look
    listed = replace(made, models={"a": replace(nowhere, listed_s=6.0)})
    found = room_for(Draft(listed, NOW), "a", task_id=None, force=False)
    assert isinstance(found, Refuse)
    assert found.problem == "blind"


def test_host_ram_that_was_not_read_yet_may_hold_the_backup():
    made = world(record("a", ASLEEP), record("b"), free=FULL)
    assert refused(replace(made, host=NOT_YET)) == []
    unreadable = Missing(MissingReason.UNREADABLE, "/proc/meminfo")
    assert answers(play(asked(replace(made, host=NOT_YET)).world, HostLooked(unreadable))) == [
        (AnswerKind.REFUSED, "no_room")
    ]


# --- units -------------------------------------------------------------------------------------------------------


def stopped(**more):
    return record(life=STOPPED, spec=UNIT, seen=NOT_YET, **{"unit": NOT_YET, **more})


def told(unit, at_s=0.0):
    return UnitLooked("a", unit if isinstance(unit, Missing) else Known(unit, NOW.mono_s + at_s, NOW.mono_s + at_s))


def test_what_we_stopped_is_started_once_its_unit_was_read():
    waits = asked(world(stopped(stopped=OURS)))
    assert answers(waits) == []
    assert LookNow(unit="a") in waits.commands
    assert begun(play(waits.world, told(INACTIVE))) == "start 0"


def test_a_start_wanted_outlasts_the_first_turn():
    wanted = stopped(start_wanted=Cause(CauseKind.OPERATOR, "alice"))
    assert play(world(wanted)).world.models["a"].start_wanted is not None


@pytest.mark.parametrize("reason", [MissingReason.NO_MANAGER, MissingReason.UNREADABLE])
def test_a_unit_that_cannot_be_read_is_told_at_once(reason):
    waits = asked(world(stopped(stopped=OURS))).world
    assert answers(play(waits, told(Missing(reason)))) == [(AnswerKind.REFUSED, "stopped")]


def test_what_was_stopped_may_have_been_started_meanwhile():
    waits = asked(world(stopped()))
    assert answers(waits) == []
    starts = play(waits.world, told(UnitSeen(active="activating", sub="start", invocation="2", job="start")))
    assert starts.world.models["a"].life.state is State.STARTING
    assert answers(starts) == []
    assert answers(play(waits.world, told(INACTIVE))) == [(AnswerKind.REFUSED, "stopped")]


def test_a_failed_model_may_be_restarted_once_its_unit_was_read():
    failed = record(
        life=FAILED, spec=UNIT, seen=NOT_YET, unit=NOT_YET, failure=Failure("wedged", "it does not answer", NOW.wall_s)
    )
    waits = asked(world(failed))
    assert answers(waits) == []
    runs = UnitSeen(active="active", sub="running", invocation="1")
    restarts = play(waits.world, told(runs))
    assert answers(restarts) == []
    assert begun(restarts) == "restart 0"


def test_a_failed_model_whose_unit_tells_that_nobody_restarts_it_is_refused():
    failed = record(life=FAILED, spec=UNIT, seen=NOT_YET, unit=NOT_YET)
    waits = asked(world(failed)).world
    told_once = play(waits, told(replace(INACTIVE, load="not-found", active="inactive")))
    assert answers(told_once) + answers(play(told_once.world)) == [(AnswerKind.REFUSED, "failed")]


def test_a_failed_model_without_restarts_left_is_refused_at_once():
    failed = record(life=FAILED, spec=UNIT, seen=NOT_YET, unit=NOT_YET, restarts_spent=True)
    assert refused(world(failed)) == ["failed"]
