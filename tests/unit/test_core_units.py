"""What becomes of a model whose unit sleepd controls: stopped on purpose, come back by itself, restarted, stopped for
its RAM; sentence by sentence of the contract."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, NEED, NOW, later, pressure, record, seen, world
from rule_worlds import begun, fresh, kinds, play, rule

from sleepd.core.beginning import begin
from sleepd.core.commands import Answer, AnswerKind, LookNow, RunStep
from sleepd.core.events import Evidence, HostLooked, ModelLooked, StepEnd, StepEnded, UnitLooked
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Failure, Known, Missing, MissingReason, Mode, Settings
from sleepd.core.plan import Verb, plan_start, plan_stop
from sleepd.core.record import Stopped
from sleepd.core.records import ModelSaved, Saved, TaskSaved
from sleepd.core.rules import STOP, WAKE, AsleepFor
from sleepd.core.seen import ControlCounts, GpuSeen, HostSeen
from sleepd.core.task import Intent, Task, TaskKind
from sleepd.core.unit import JobEnd, Ordered, UnitSeen
from sleepd.core.unit_sightings import QUIET_S, unit_after_s
from sleepd.core.units import GIB
from sleepd.core.wishes import HoldAsked, PinAsked, StartAsked, StopAsked, WakeAsked

UNIT = {"unit": "vllm@a.service"}
MAY_STOP = {**UNIT, "may_stop": True}
LOST, STOPPED, FAILED = (Life(s, Weights.LOADED) for s in (State.LOST, State.STOPPED, State.FAILED))
GONE = Missing(MissingReason.REFUSED)
RUNS = UnitSeen(active="active", sub="running", invocation="1")
INACTIVE = UnitSeen(invocation="1")
BY_RULE = Stopped(Cause(CauseKind.RULE, "retire"), "1")


def unit(seen=RUNS, at_s=0.0):
    return Known(seen, NOW.mono_s + at_s, NOW.mono_s + at_s)


def looked(seen, at_s=1.0):
    return UnitLooked("a", unit(seen, at_s))


def lost(**more):
    fields = {
        "life": LOST,
        "seen": GONE,
        "since_s": NOW.mono_s,
        "failed_polls": 3,
        "served_as": "1",
        "unit": unit(at_s=-1.0),
    }
    return record(spec=UNIT, **{**fields, **more})


def stopped(**more):
    return record(life=STOPPED, spec=UNIT, seen=GONE, unit=unit(INACTIVE), failed_polls=9, **more)


def state(turn, model="a"):
    return turn.world.models[model].life.state


def answers(turn):
    return {c.waiter: (c.kind, c.problem) for c in turn.commands if isinstance(c, Answer)}


def asked(made, ask):
    return play(made, ask, at_s=0.0)


WAKE_IT = WakeAsked(7, "a", "alice", 60.0)


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


def fresh_step(made, event):
    """The event's turn, with readings that are not older than the step."""
    moment = NOW.mono_s + 2.0
    gpus = replace(made.gpus, asked_at_s=moment, at_s=moment)
    return step(replace(made, gpus=gpus), [event], later(2.0)).world


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


# --- sleepctl stop ---------------------------------------------------------------------------------------------------


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


# --- "Host-RAM pressure ... level 1 sleepers with may_stop are stopped, least recently used first, one at a time" -----


def short(available=5, pressed=None, at_s=0.0):
    return Known(HostSeen(100 * GIB, available * GIB, pressed), NOW.mono_s + at_s, NOW.mono_s + at_s)


def sleepers(**more):
    of = {"a": 900.0, "b": 1800.0}
    specs = {name: {"unit": f"vllm@{name}.service", "may_stop": True} for name in of}
    return [
        record(name, ASLEEP, spec=specs[name], unit=unit(), last_active_s=NOW.mono_s - idle_s, **more)
        for name, idle_s in of.items()
    ]


def test_one_at_a_time_the_least_recently_used_first_and_measured_before_the_next():
    made = world(*sleepers(), rules=(pressure(),))
    first = play(made, HostLooked(short()))
    assert (begun(first, "a"), begun(first, "b")) == ("", "stop 0")
    (said,) = [n for n in first.notes if n.kind == "rule"]
    assert (said.data["rule"], said.data["action"]) == (pressure().name, "stop")
    task = first.world.tasks["b"]
    done = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=unit(INACTIVE, 1.0))
    gone = play(first.world, StepEnded("b", task.id, task.cursor, StepEnd.DONE, done), at_s=1.0)
    assert (state(gone, "b"), begun(gone, "a")) == (State.STOPPED, "")
    too_early = play(gone.world, HostLooked(short(6, at_s=2.0)), at_s=2.0)
    assert begun(too_early, "a") == ""
    measured = play(too_early.world, HostLooked(short(9, at_s=10.0)), at_s=10.0)
    (told,) = [n.text for n in measured.notes if n.kind == "relief"]
    assert "9GiB of RAM are available now, 4GiB more than before" in told
    assert not {"helpless"} & {*kinds(gone), *kinds(too_early), *kinds(measured)}
    assert begun(measured, "a") == "stop 0"


def test_enough_after_the_first_and_the_second_sleeps_on():
    made = world(*sleepers(), rules=(pressure(),))
    first = play(made, HostLooked(short()))
    task = first.world.tasks["b"]
    done = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=unit(INACTIVE, 1.0))
    gone = play(first.world, StepEnded("b", task.id, task.cursor, StepEnd.DONE, done), at_s=1.0)
    enough = play(gone.world, HostLooked(short(60, at_s=10.0)), at_s=10.0)
    assert begun(enough, "a") == ""


@pytest.mark.parametrize("kept", [{"pin": True}, {"life": AWAKE}])
def test_nobody_is_stopped_for_ram_who_is_protected_or_awake(kept):
    made = (
        world(*sleepers(**kept), rules=(pressure(),))
        if "life" not in kept
        else world(*(replace(r, **kept) for r in sleepers()), rules=(pressure(),))
    )
    turn = play(made, HostLooked(short()))
    assert (begun(turn, "a"), begun(turn, "b")) == ("", "")


def test_a_sleeper_that_is_only_observed_does_not_keep_the_next_from_being_stopped():
    made = world(*sleepers(), rules=(pressure(),))
    watched = replace(made.models["b"], spec=replace(made.models["b"].spec, mode=Mode.OBSERVE))
    made = world(made.models["a"], watched, rules=(pressure(),))
    turn = play(made, HostLooked(short()))
    assert (begun(turn, "a"), begun(turn, "b")) == ("stop 0", "")
    assert [n.model for n in turn.notes if n.kind == "would"] == ["b"]


def test_where_nothing_can_help_that_is_said_once_with_what_would():
    made = world(*(replace(r, spec=replace(r.spec, may_stop=False)) for r in sleepers()), rules=(pressure(),))
    turn = play(made, HostLooked(short()))
    (told,) = [n.text for n in turn.notes if n.kind == "helpless"]
    assert "may_stop = true" in told
    again = play(turn.world, HostLooked(short(4, at_s=1.0)), at_s=1.0)
    assert "helpless" not in kinds(again)


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


def order(turn):
    (run,) = [c for c in turn.commands if isinstance(c, RunStep)]
    return run.order


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


UNSEEN = {
    "life": Life(State.UNKNOWN, Weights.DOUBTFUL),
    "seen": Missing(MissingReason.NOT_YET),
    "spec": UNIT,
    "incarnation": None,
}


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
