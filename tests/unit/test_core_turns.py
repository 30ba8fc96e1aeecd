"""Turns: when a used model has to give up its place to one that waits, and what becomes of its gate meanwhile."""

import pytest
from core_worlds import ASLEEP, AWAKE, NEED, NOW, gpus, later, record, seen, world
from turn_worlds import TIGHT, looked, turn

from sleepd.core.commands import Answer, AnswerKind, LookNow, OpenGate
from sleepd.core.deadlines import next_deadline
from sleepd.core.draft import Draft
from sleepd.core.events import GateEmptied, GpusLooked, ModelLooked, Tick
from sleepd.core.explain import explain, next_action, reason
from sleepd.core.footprint import Footprint
from sleepd.core.forecast import eta_s
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason
from sleepd.core.plan import plan_prove
from sleepd.core.record import AskKind, Awaited, Hold, Stopped, Waiter
from sleepd.core.reservation import Reservation
from sleepd.core.room import WaitFor, room_for, wakes_waiting
from sleepd.core.sharing import lull_ends_s, turn_due_s, turn_over_s
from sleepd.core.task import Task, TaskKind
from sleepd.core.unit import UnitSeen
from sleepd.core.units import GIB
from sleepd.core.wishes import AttendanceChanged, CallerGone, HoldAsked, PinAsked, WakeAsked
from sleepd.core.world import public_state

REQUEST = Cause(CauseKind.REQUEST, "web")
PATIENCE_S = 60.0
"""Half of the max_wait of two minutes."""
SWITCH_S = 5.0


def wish(age_s: float = 0.0, *, number: int = 1, lasts_s: float = 3600.0) -> Waiter:
    asked_s = NOW.mono_s - age_s
    return Waiter(number, AskKind.WAKE, REQUEST, asked_s, asked_s + lasts_s)


def waiting(name: str = "qwen", age_s: float = 0.0, **more):
    return record(name, ASLEEP, **{"waiters": (wish(age_s),), **more})


def used(name: str = "chat", **more):
    return record(name, AWAKE, **{"in_flight": 1, "last_active_s": NOW.mono_s, **more})


def over_s(holder, wanted) -> float:
    return turn_over_s(holder, wanted, SWITCH_S) - NOW.mono_s


# --- when a turn is over -----------------------------------------------------------------------------------------


def test_a_used_model_is_kept_until_half_of_what_somebody_may_wait_has_passed():
    assert over_s(used(), waiting()) == PATIENCE_S
    assert over_s(used(), waiting(age_s=45.0)) == PATIENCE_S - 45.0
    assert over_s(used(), waiting(spec={"max_wait_s": 40.0})) == 20.0


def test_a_turn_lasts_min_awake_however_long_somebody_waited():
    young = used(awake_since_s=NOW.mono_s - 10.0)
    assert over_s(young, waiting(age_s=500.0)) == 50.0
    assert over_s(replace(young, spec=replace(young.spec, min_awake_s=300.0)), waiting(age_s=500.0)) == 290.0


def test_without_min_awake_whoever_waited_for_the_wake_gets_in_all_the_same():
    woke = used(awake_since_s=NOW.mono_s, spec={"min_awake_s": 0.0})
    assert over_s(woke, waiting(age_s=500.0)) == 1.0


@pytest.mark.parametrize(("priority", "share"), [(1, 0.0), (0, 0.5), (-1, 0.75)])
def test_patience_is_with_the_higher_priority(priority, share):
    assert over_s(used(), waiting(spec={"priority": priority})) == share * 120.0


def test_patience_leaves_the_switch_its_time():
    assert over_s(used(), waiting(spec={"max_wait_s": 8.0})) == 8.0 - SWITCH_S
    assert over_s(used(), waiting(spec={"max_wait_s": 2.0})) == 0.0


def test_a_caller_who_leaves_sooner_has_less_patience():
    assert over_s(used(), waiting(waiters=(wish(lasts_s=50.0), wish(number=2)))) == 25.0


def test_a_model_that_is_not_used_waits_for_nobodys_patience():
    assert over_s(record("chat", awake_since_s=NOW.mono_s - 10.0, last_active_s=NOW.mono_s - 10.0), waiting()) == 50.0


def test_a_pause_between_requests_is_no_end_of_use():
    pausing = used(in_flight=0, last_active_s=NOW.mono_s - 2.0)
    assert lull_ends_s(pausing) == NOW.mono_s + 4.0
    assert over_s(pausing, waiting()) == 4.0
    made = turn(world(waiting(), pausing, free=TIGHT)).world
    assert made.tasks == {}
    assert made.models["qwen"].awaited.at_s == NOW.mono_s + 4.0
    assert turn(made, 4.0).world.tasks["chat"].kind is TaskKind.SLEEP


def test_a_model_that_woke_is_left_to_whoever_waited_for_that():
    woke = record("chat", last_active_s=NOW.mono_s, awake_since_s=NOW.mono_s, spec={"min_awake_s": 0.0})
    made = turn(world(waiting(), woke, free=TIGHT)).world
    assert made.tasks == {}, "those who waited are not let in before the turn has ended"
    assert made.models["qwen"].awaited.at_s == NOW.mono_s + 1.0
    assert next_deadline(made, NOW) == NOW.mono_s + 1.0
    assert turn(made, 1.0).world.tasks["chat"].kind is TaskKind.SLEEP


def test_a_model_that_woke_long_ago_and_was_not_used_is_in_no_pause():
    woke_s = NOW.mono_s - 10.0
    assert lull_ends_s(record("chat", last_active_s=woke_s, awake_since_s=woke_s)) < NOW.mono_s


def test_rules_and_debts_of_ours_end_nobodys_turn():
    ours = (record("qwen", ASLEEP, owed_wake=REQUEST), record("qwen", ASLEEP, wanted_by="morning"))
    for wanted in ours:
        after = turn(world(wanted, used(), free=TIGHT), 3600.0).world
        assert after.models["chat"].yields is None
        assert after.models["qwen"].awaited is None


# --- who is next -------------------------------------------------------------------------------------------------


def test_the_oldest_wish_is_next():
    line = wakes_waiting(Draft(world(waiting("a", 5.0), waiting("b", 30.0), waiting("c", 1.0)), NOW))
    assert [r.spec.name for r in line] == ["b", "a", "c"]


def test_who_is_next_and_has_much_patience_keeps_those_behind_it_waiting_no_longer_than_they_may():
    """It bars them from its GPUs, and waited for half of its own four minutes: they had thirty seconds."""
    holder = used(spec={"priority": 5})
    first = waiting("first", 30.0, spec={"priority": 5, "max_wait_s": 240.0})
    for age_s, shut in ((10.0, ()), (20.0, ("chat",))):
        behind = waiting("behind", age_s, spec={"max_wait_s": 30.0})
        made = turn(world(holder, first, behind, free=TIGHT))
        assert made.shut == shut
        assert made.world.models["first"].awaited == Awaited(("chat",), NOW.mono_s - age_s + 15.0)
        assert made.world.models["behind"].awaited.after == ("first",)


def test_a_higher_priority_is_next_unless_the_other_waited_for_half_of_its_max_wait():
    high = waiting("high", 0.0, spec={"priority": 3})
    for age_s, first in ((50.0, "high"), (55.0, "low")):
        line = wakes_waiting(Draft(world(high, waiting("low", age_s)), NOW))
        assert line[0].spec.name == first
    assert turn_due_s(waiting("low", 60.0), 0) == NOW.mono_s


def test_a_short_max_wait_comes_first():
    line = wakes_waiting(Draft(world(waiting("a", 20.0), waiting("b", 5.0, spec={"max_wait_s": 30.0})), NOW))
    assert [r.spec.name for r in line] == ["b", "a"]


def stopped(age_s: float):
    """One that was stopped for want of room, and is waited for."""
    unit = Known(UnitSeen(invocation="1"), NOW.mono_s, NOW.mono_s)
    spec = {"unit": "vllm@first.service", "vram_bytes": NEED}
    why = Stopped(Cause(CauseKind.RECOVERY, "a failure"), "1")
    life = Life(State.STOPPED, Weights.LOADED)
    return record("first", life, waiters=(wish(age_s),), spec=spec, unit=unit, stopped=why)


def test_a_start_has_its_turn_before_wakes_that_were_wished_later():
    idle = record("chat")
    after = turn(world(stopped(20.0), waiting("later", 10.0), idle, free=TIGHT)).world
    assert set(after.tasks) == {"first"}
    after = turn(world(stopped(10.0), waiting("sooner", 20.0), idle, free=TIGHT)).world
    assert set(after.tasks) == {"sooner", "chat"}


def test_a_start_that_waited_long_for_a_turn_is_not_overtaken():
    in_use = (used("chat"), record("idle"))
    first = stopped(20.0)
    first = replace(first, spec=replace(first.spec, vram_bytes=70 * GIB), footprint=Footprint())
    after = turn(world(first, waiting("later", 10.0), *in_use, free=TIGHT - 15 * GIB)).world
    assert after.tasks == {}
    assert after.models["first"].reason == "waits for its turn, after that of chat"


def test_a_start_that_cannot_be_begun_keeps_nobody_waiting():
    first, idle = stopped(20.0), record("chat")
    for cannot in ({"unit": Missing(MissingReason.UNREADABLE)}, {"cooldown_until_s": NOW.mono_s + 60.0}):
        after = turn(world(replace(first, **cannot), waiting("later", 10.0), idle, free=TIGHT)).world
        assert set(after.tasks) == {"later", "chat"}


def test_the_neighbour_whose_turn_is_over_first_gives_it_up():
    cheap = used("cheap", awake_since_s=NOW.mono_s - 10.0, last_active_s=NOW.mono_s)
    dear = used("dear", spec={"max_level": 1}, footprint=replace(record("x").footprint, durations={"wake1": (9.0,)}))
    after = turn(world(waiting(age_s=PATIENCE_S), cheap, dear, free=0), 0.0).world
    # 50 s of min_awake are felt, and so are 9 s of a slow wake.
    assert after.models["dear"].yields is not None or room_of(after).turns.of == ("dear",)
    assert after.models["cheap"].yields is None


def room_of(made, name: str = "qwen"):
    found = room_for(Draft(made, NOW), name, task_id=None, force=False)
    assert isinstance(found, WaitFor), found
    return found


@pytest.mark.parametrize(("max_wait_s", "age_s", "begun"), [(120.0, 4.0, ["late"]), (120.0, 5.0, []), (2.0, 2.0, [])])
def test_who_waited_for_its_max_wait_is_overtaken_by_nobody(max_wait_s, age_s, begun):
    """The first in line needs more than there is; whoever comes after it would fit."""
    small = replace(record("x").footprint, freed={"GPU-0": (10 * GIB,)})
    first = waiting("first", age_s, spec={"max_wait_s": max_wait_s, "priority": 3})
    made = turn(world(first, waiting("late", 0.0, footprint=small), used(), free=TIGHT)).world
    assert list(made.tasks) == begun


# --- a turn given up ---------------------------------------------------------------------------------------------


def given_up(**more):
    """qwen has waited as long as it must, and chat is used."""
    before = world(waiting(age_s=PATIENCE_S), used(**more), free=TIGHT)
    return turn(before)


def test_its_gate_shuts_and_nothing_is_sent():
    found = given_up()
    assert found.shut == ("chat",)
    assert found.world.tasks == {}
    assert found.world.models["chat"].life.state is State.AWAKE
    assert public_state(found.world, "chat") == "draining"
    assert [n.kind for n in found.notes] == ["turn_over"]
    assert found.records == (), "nothing of it outlives the daemon: neither do the requests"


def test_before_it_is_over_nothing_happens():
    early = turn(world(waiting(age_s=PATIENCE_S - 1.0), used(), free=TIGHT))
    assert (early.shut, early.world.models["chat"].yields) == ((), None)
    assert turn(early.world, 0.9).shut == ()
    assert turn(early.world, 1.0).shut == ("chat",)


def test_idle_it_sleeps_for_whoever_is_next():
    shut = given_up().world
    emptied = step(shut, [GateEmptied("chat")], later(3.0))
    assert LookNow(model="chat") in emptied.commands, "whether it is idle is asked at once"
    now = later(3.1)
    idle = ModelLooked("chat", replace(seen(), asked_at_s=now.mono_s, at_s=now.mono_s), 0)
    found = step(emptied.world, [idle, looked(now)], now).world
    assert found.tasks["chat"].cause == Cause(CauseKind.VICTIM, "qwen")
    assert found.models["chat"].last_drain_s == pytest.approx(3.1)


def test_who_asks_for_it_meanwhile_waits_for_its_next_turn():
    asked = turn(given_up().world, 1.0, WakeAsked(7, "chat", "web", 3600.0, cause=CauseKind.REQUEST))
    assert [w.id for w in asked.world.models["chat"].waiters] == [7]
    assert asked.world.models["chat"].yields is not None
    assert not [c for c in asked.commands if isinstance(c, Answer | OpenGate)]


def test_a_request_does_not_take_back_a_sleep_that_its_turn_is_over_for():
    made = turn(given_up().world, 1.0, GateEmptied("chat")).world
    assert made.tasks["chat"].kind is TaskKind.SLEEP
    again = turn(made, 1.1, WakeAsked(7, "chat", "web", 3600.0, cause=CauseKind.REQUEST)).world
    assert again.tasks["chat"].kind is TaskKind.SLEEP
    # Whoever slept for a wish that came just now, idle as it was, serves on where it is wanted again itself.
    idle = turn(world(waiting(), record("chat"), free=TIGHT)).world
    assert idle.models["chat"].life.state is State.DRAINING
    kept = turn(idle, 0.1, WakeAsked(7, "chat", "web", 3600.0, cause=CauseKind.REQUEST)).world
    assert kept.models["chat"].life.state is State.AWAKE


def test_requests_that_do_not_end_in_time_open_its_gate_again_and_the_other_is_told():
    late = turn(given_up().world, 300.0)
    answers = [c for c in late.commands if isinstance(c, Answer)]
    assert [(a.waiter, a.kind, a.problem) for a in answers] == [(1, AnswerKind.REFUSED, "busy")]
    assert "chat did not finish its requests within 5m" in answers[0].detail
    assert OpenGate("chat") in late.commands
    assert late.world.models["chat"].yields is None
    assert [n.kind for n in late.notes] == ["turn_goes_on"]


def test_after_requests_that_did_not_end_it_is_left_alone_for_as_long():
    late = turn(given_up().world, 300.0).world
    again = turn(late, 301.0, WakeAsked(8, "qwen", "web", 3600.0, cause=CauseKind.REQUEST)).world
    assert again.models["qwen"].awaited.at_s == NOW.mono_s + 600.0
    assert again.models["chat"].yields is None
    assert turn(again, 599.0).shut == ()
    assert turn(again, 600.0).shut == ("chat",)
    assert eta_of(late, "qwen", 300.0) == pytest.approx(300.0 + eta_of(late, "qwen", 600.0))


def test_one_whose_requests_ended_at_last_sleeps_at_once():
    late = turn(given_up().world, 300.0).world
    late = turn(late, 301.0, WakeAsked(8, "qwen", "web", 3600.0, cause=CauseKind.REQUEST)).world
    now = later(310.0)
    idle = ModelLooked("chat", replace(seen(), asked_at_s=now.mono_s, at_s=now.mono_s), 0)
    assert step(late, [idle, looked(now)], now).world.tasks["chat"].kind is TaskKind.SLEEP


@pytest.mark.parametrize(
    "event",
    [
        CallerGone(1, "qwen"),
        HoldAsked(9, "h", "chat", 0, "ann", 60.0),
        PinAsked(9, "chat", "ann", True),
    ],
)
def test_its_gate_opens_again_where_nobody_waits_or_something_outranks_who_does(event):
    asked = turn(given_up().world, 1.0, WakeAsked(7, "chat", "web", 3600.0, cause=CauseKind.REQUEST)).world
    found = turn(asked, 2.0, event)
    assert found.world.models["chat"].yields is None
    assert OpenGate("chat") in found.commands
    told = [c for c in found.commands if isinstance(c, Answer) and c.waiter == 7]
    assert [a.kind for a in told] == [AnswerKind.DONE], "whoever waited for its gate is let in"


LEFT, BACK = AttendanceChanged(1, "qwen", attended=False), AttendanceChanged(1, "qwen", attended=True)


def test_a_wish_that_nobody_waits_behind_costs_nobody_anything_and_keeps_its_place():
    """Neither a turn, nor an idle neighbour's sleep, nor that a younger wish is barred."""
    made = turn(world(waiting(age_s=PATIENCE_S - 1.0), used(turn_until_s=NOW.mono_s + 200.0), free=TIGHT)).world
    left = turn(made, 1.0, LEFT)
    assert left.world.models["qwen"].waiters, "who comes back finds it"
    assert turn(left.world, 200.0).shut == ()
    assert turn(left.world, 200.0, BACK).shut == ("chat",), "with its age"
    idle = turn(world(waiting(), used(), free=TIGHT), 0.0, LEFT).world
    idle = replace(idle, models={**idle.models, "chat": record("chat")})
    assert turn(idle, 5.0).world.tasks == {}
    assert turn(idle, 5.0, BACK).world.tasks["chat"].kind is TaskKind.SLEEP
    assert [r.spec.name for r in wakes_waiting(Draft(left.world, later(6.0)))] == ["qwen"]
    younger = replace(waiting("b"), waiters=(wish(-5.0, number=2),))
    with_b = replace(left.world, models={**left.world.models, "b": younger})
    assert [r.spec.name for r in wakes_waiting(Draft(with_b, later(6.0)))] == ["b", "qwen"]


def test_a_wish_that_nobody_waits_behind_is_served_where_there_is_room():
    made = turn(world(waiting(), used(), free=TIGHT), 0.0, LEFT).world
    assert turn(made, 1.0, looked(later(1.0), 70 * GIB)).world.tasks["qwen"].kind is TaskKind.WAKE


def test_its_gate_opens_again_where_the_room_came_from_elsewhere():
    found = turn(given_up().world, 2.0, looked(later(2.0), 70 * GIB))
    assert found.world.tasks["qwen"].kind is TaskKind.WAKE
    assert OpenGate("chat") in found.commands


def test_its_gate_opens_again_where_the_room_is_reserved_meanwhile():
    large = replace(record("x").footprint, freed={"GPU-0": (40 * GIB,)})
    shut = turn(world(waiting(age_s=PATIENCE_S, footprint=large), used(), free=TIGHT))
    assert shut.shut == ("chat",)
    job = Reservation("job", "ann", ("GPU-0",), 15 * GIB, gpus=("0",), until_s=NOW.mono_s + 600.0)
    found = turn(replace(shut.world, reservations={"job": job}), 2.0)
    assert found.world.models["qwen"].waiters, "requests wait for the end of a reservation"
    assert OpenGate("chat") in found.commands
    assert found.world.models["qwen"].awaited is None
    assert "reserved" in reason(found.world, "qwen", later(2.0)), "no turn that ends would help"


def test_a_reading_that_is_awaited_opens_no_gate():
    stale = step(given_up().world, [Tick()], later(30.0))
    assert stale.world.models["chat"].yields is not None


def test_a_held_model_gives_up_no_turn():
    hold = Hold("h", 1, "ann", "", 0.0, None, None, None)
    found = turn(world(waiting(age_s=500.0), used(holds=(hold,)), free=TIGHT))
    assert (found.shut, found.world.models["qwen"].awaited) == ((), None)
    assert "held awake by ann" in reason(found.world, "qwen", NOW) or "in use" in reason(found.world, "qwen", NOW)


def test_a_proxy_that_asks_at_the_gate_again_and_again_keeps_no_turn_for_good():
    asked = Hold("gate-chat", 0, "nginx", "asked at the gate", 0.0, 35.0, NOW.mono_s + 35.0, NOW.wall_s + 35.0)
    found = turn(world(waiting(age_s=PATIENCE_S), used(in_flight=0, holds=(asked,)), free=TIGHT))
    assert found.shut == ("chat",)
    assert turn(found.world, 34.0).world.tasks == {}, "whoever was told that it is awake counts on that"
    assert turn(found.world, 35.0).world.tasks["chat"].kind is TaskKind.SLEEP


def test_nobodys_gate_is_shut_while_another_it_takes_as_well_has_its_turn():
    wide = replace(waiting(age_s=500.0), spec=replace(waiting().spec, gpus=("0", "1")))
    wide = replace(wide, footprint=replace(wide.footprint, freed={"GPU-0": (NEED,), "GPU-1": (NEED,)}))
    young = used("young", awake_since_s=NOW.mono_s - 10.0, footprint=replace(wide.footprint, freed={"GPU-1": (NEED,)}))
    young = replace(young, spec=replace(young.spec, gpus=("1",)))
    two = Known((*gpus(TIGHT).value, replace(gpus(TIGHT).value[0], uuid="GPU-1", index=1)), NOW.mono_s, NOW.mono_s)
    made = step(replace(world(wide, used(), young), gpus=two), [Tick()], NOW)
    assert made.shut == ()
    assert made.world.models["qwen"].awaited.after == ("chat", "young")
    now = later(50.0)
    both = step(made.world, [GpusLooked(replace(two, asked_at_s=now.mono_s, at_s=now.mono_s))], now)
    assert both.shut == ("chat", "young")


def test_an_overtaken_sleep_begins_no_new_turn():
    draft = Draft(world(used()), later(20.0))
    before_s = draft.models["chat"].awake_since_s
    draft.state("chat", Fact.SLEEP_CHOSEN)
    assert draft.state("chat", Fact.OVERTAKEN).awake_since_s == before_s


# --- what is told ------------------------------------------------------------------------------------------------


def eta_of(made, name: str, seconds: float = 0.0) -> float:
    known = replace(made.models[name], footprint=replace(made.models[name].footprint, durations={"wake1": (2.0,)}))
    found = eta_s(replace(made, models={**made.models, name: known}), name, later(seconds))
    assert found is not None
    return found


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
