"""A turn given up: what becomes of its gate, its requests and who waits for its room."""

import pytest
from core_worlds import NEED, NOW, gpus, later, record, seen, world
from turn_worlds import PATIENCE_S, TIGHT, eta_of, given_up, looked, turn, used, waiting, wish

from sleepd.core.commands import Answer, AnswerKind, LookNow, OpenGate
from sleepd.core.draft import Draft
from sleepd.core.events import GateEmptied, GpusLooked, ModelLooked, Tick
from sleepd.core.explain import reason
from sleepd.core.frozen import replace
from sleepd.core.life import Fact, State
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.record import Hold
from sleepd.core.reservation import Reservation
from sleepd.core.room import wakes_waiting
from sleepd.core.task import TaskKind
from sleepd.core.units import GIB
from sleepd.core.wishes import AttendanceChanged, CallerGone, HoldAsked, PinAsked, WakeAsked
from sleepd.core.world import public_state


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
