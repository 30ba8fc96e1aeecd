"""Places in the line of callers who were told to come back: kept while they are away, at every door."""

import pytest
from core_worlds import ASLEEP, AWAKE, NOW, later, record, world
from turn_worlds import TIGHT, turn

from sleepd.core.commands import Answer, AnswerKind, OpenGate
from sleepd.core.deadlines import next_deadline
from sleepd.core.direct import watch_connections
from sleepd.core.draft import Draft
from sleepd.core.forecast import come_back_s
from sleepd.core.frozen import replace
from sleepd.core.model import CauseKind
from sleepd.core.places import RETURNING
from sleepd.core.record import Awaited
from sleepd.core.rehearse import plan_of_wake
from sleepd.core.seen import DirectSeen
from sleepd.core.wishes import AttendanceChanged, CallerGone, HoldAsked, PinAsked, WakeAsked

MAX_WAIT_S = 120.0
BUSY_S = 400.0
"""The turn of chat goes on for so long at least."""
LEARNED = replace(record("x").footprint, durations={"wake1": (3.0,)})
TOLD = AttendanceChanged(1, "qwen", attended=False)
GONE = CallerGone(1, "qwen")


def asked(number, *, lasts_s=3600.0):
    return WakeAsked(number, "qwen", "web", lasts_s, cause=CauseKind.REQUEST)


def waits(**more):
    """qwen is asked for, and chat is always in use, in a turn of 400 s."""
    chat = record("chat", AWAKE, in_flight=1, last_active_s=NOW.mono_s + 900, turn_until_s=NOW.mono_s + BUSY_S)
    made = world(record("qwen", ASLEEP, footprint=LEARNED), chat, free=TIGHT)
    return turn(made, 0.0, asked(1, **more)).world


def line_s(made):
    """Since when the model has its place, by the clock of these tests."""
    return [w.place_s - NOW.mono_s if w.place_s is not None else None for w in made.models["qwen"].waiters]


def test_who_comes_back_when_it_was_told_has_its_place_though_its_wish_is_over():
    left = turn(waits(), MAX_WAIT_S, TOLD).world
    told_s = come_back_s(left, "qwen", later(MAX_WAIT_S))
    assert told_s == BUSY_S - MAX_WAIT_S - MAX_WAIT_S / 2, "with half of max_wait left when the turn before it ends"
    back_s = MAX_WAIT_S + told_s + 30.0
    over = turn(left, MAX_WAIT_S + 60.0, GONE).world
    assert over.models["qwen"].waiters == ()
    back = turn(over, back_s, asked(2)).world
    assert line_s(back) == [0.0]
    assert turn(back, BUSY_S - 1.0).shut == ()
    assert turn(back, BUSY_S).shut == ("chat",), "though it asked a moment ago"


@pytest.mark.parametrize(("late_s", "place"), [(MAX_WAIT_S - 1.0, 0.0), (MAX_WAIT_S + 1.0, None)])
def test_a_place_is_kept_for_max_wait_longer_than_was_told(late_s, place):
    left = turn(waits(), MAX_WAIT_S, TOLD, GONE).world
    back_s = BUSY_S - MAX_WAIT_S / 2 + late_s
    assert line_s(turn(left, back_s, asked(2)).world) == [place]


@pytest.mark.parametrize(("late_s", "place"), [(59.0, 0.0), (61.0, None)])
def test_a_place_is_kept_for_a_minute_at_least(late_s, place):
    made = waits()
    qwen = made.models["qwen"]
    brief = replace(qwen, spec=replace(qwen.spec, max_wait_s=20.0))
    left = turn(replace(made, models={**made.models, "qwen": brief}), 20.0, TOLD, GONE).world
    assert line_s(turn(left, BUSY_S - 10.0 + late_s, asked(2)).world) == [place]


def test_a_place_is_not_kept_for_longer_when_the_wish_is_given_up():
    left = turn(waits(), MAX_WAIT_S, TOLD).world
    over = turn(left, MAX_WAIT_S + 60.0, TOLD, GONE).world
    assert over.models["qwen"].place == left.models["qwen"].place is not None


def test_clients_that_leave_leave_no_place():
    left = turn(waits(), 50.0, GONE).world
    assert line_s(turn(left, 51.0, asked(2)).world) == [None]


def test_a_place_is_kept_over_as_often_as_its_client_is_told_to_come_back():
    left = turn(waits(), MAX_WAIT_S, TOLD, GONE).world
    back = turn(left, 150.0, asked(2)).world
    again = turn(back, 270.0, AttendanceChanged(2, "qwen", attended=False), CallerGone(2, "qwen")).world
    assert line_s(turn(again, 340.0, asked(3)).world) == [0.0]


def test_a_caller_whose_own_time_is_over_keeps_its_place():
    """As `sleepctl wake` does at the socket API."""
    late = turn(waits(lasts_s=30.0), 30.0)
    assert [(c.waiter, c.kind) for c in late.commands if isinstance(c, Answer)] == [(1, AnswerKind.REFUSED)]
    assert line_s(turn(late.world, 31.0, asked(2)).world) == [0.0]


def test_a_connection_past_the_gate_comes_back_to_the_place_too():
    draft = Draft(turn(waits(), MAX_WAIT_S, TOLD, GONE).world, later(150.0))
    watch_connections(draft, "qwen", DirectSeen(1, 100.0))
    assert line_s(draft) == [0.0]


def test_a_rehearsal_goes_by_the_place_as_a_wake_would():
    left = turn(turn(waits(), MAX_WAIT_S, TOLD, GONE).world, BUSY_S).world
    assert plan_of_wake(left, "qwen", later(BUSY_S)).stay[0].in_s is None, "the turn of chat is over for it"
    new = replace(left, models={**left.models, "qwen": replace(left.models["qwen"], place=None)})
    assert plan_of_wake(new, "qwen", later(BUSY_S)).stay[0].in_s == MAX_WAIT_S / 2


def test_who_is_refused_as_a_drain_took_too_long_keeps_its_place():
    before = waits()
    shut = turn(before, BUSY_S).world
    assert shut.models["chat"].yields is not None
    late = turn(shut, BUSY_S + 300.0)
    assert [c.problem for c in late.commands if isinstance(c, Answer)] == ["busy"]
    back_s = BUSY_S + 300.0 + come_back_s(late.world, "qwen", later(BUSY_S + 300.0))
    assert line_s(turn(late.world, back_s, asked(2)).world) == [0.0]


def told_at_once():
    """The gate of chat is shut for qwen, whose last client was just told to come back at once."""
    shut = turn(waits(), BUSY_S).world
    assert shut.models["chat"].yields is not None
    assert come_back_s(shut, "qwen", later(BUSY_S)) == 0.0
    return turn(shut, BUSY_S, TOLD)


def test_a_gate_stays_shut_for_whoever_was_told_to_come_back_at_once():
    """What it would let in takes as long as what it waited for: one that may wait for less would never be served."""
    told = told_at_once()
    assert not [c for c in told.commands if isinstance(c, OpenGate)]
    left = turn(told.world, BUSY_S + 1.0, GONE).world
    assert left.models["chat"].yields is not None, "whether its wish is over or not"
    back = turn(left, BUSY_S + 4.0, asked(2)).world
    assert turn(back, BUSY_S + 60.0).world.models["chat"].yields == told.world.models["chat"].yields, "by the old limit"


@pytest.mark.parametrize(("due_s", "left"), [(BUSY_S, 0), (60.0, 1)])
def test_who_is_told_when_another_is_just_expected_back_is_told_anew(due_s, left):
    """At once again, or later: in the turn, too, in which the other is expected no more."""
    made = waits(lasts_s=30.0)
    qwen = replace(made.models["qwen"], awaited=Awaited(("chat",), NOW.mono_s + due_s))
    expected = replace(qwen.waiters[0], id=RETURNING, deadline_s=NOW.mono_s + 30.0, silent=True)
    qwen = replace(qwen, waiters=(*qwen.waiters, expected))
    late = turn(replace(made, models={**made.models, "qwen": qwen}), 30.0)
    assert [c.waiter for c in late.commands if isinstance(c, Answer)] == [1]
    assert len(late.world.models["qwen"].waiters) == left


def test_it_opens_when_nobody_came_back_within_five_seconds():
    told = told_at_once().world
    assert next_deadline(told, later(BUSY_S)) == NOW.mono_s + BUSY_S + 5.0
    assert turn(told, BUSY_S + 5.0).world.models["qwen"].place == told.models["qwen"].place, "its place is kept on"
    assert turn(told, BUSY_S + 4.9).world.models["chat"].yields is not None
    assert OpenGate("chat") in turn(told, BUSY_S + 5.0).commands


@pytest.mark.parametrize("ask", [HoldAsked(9, "h", "chat", 0, "ann", 60.0), PinAsked(9, "chat", "ann", True)])
def test_it_opens_for_a_hold_or_a_pin_as_well(ask):
    assert OpenGate("chat") in turn(told_at_once().world, BUSY_S + 1.0, ask).commands


def test_who_has_to_come_back_later_is_not_waited_for():
    late = turn(turn(waits(), BUSY_S).world, BUSY_S + 300.0).world
    assert come_back_s(late, "qwen", later(BUSY_S + 300.0)) > 1.0
    assert late.models["qwen"].waiters == ()


@pytest.mark.parametrize(("used_s", "is_kept"), [(121.0, True), (122.0, False)], ids=["for nobody", "for somebody"])
def test_the_place_is_gone_once_the_model_woke_and_served(used_s, is_kept):
    left = turn(waits(), MAX_WAIT_S, TOLD, GONE).world
    assert left.models["qwen"].place is not None
    woke = {"life": AWAKE, "awake_since_s": NOW.mono_s + 121.0, "last_active_s": NOW.mono_s + used_s}
    models = {**left.models, "qwen": replace(left.models["qwen"], **woke)}
    assert (turn(replace(left, models=models), 122.0).world.models["qwen"].place is not None) is is_kept


def test_who_waits_for_a_turn_that_is_due_comes_back_at_once_and_others_when_the_model_is_awake():
    made = waits()
    assert come_back_s(made, "qwen", later(BUSY_S - 10.0)) == 0.0
    alone = world(record("qwen", ASLEEP, footprint=LEARNED))
    assert come_back_s(alone, "qwen", later(0.0)) == 3.0
    assert come_back_s(world(record("qwen", ASLEEP)), "qwen", later(0.0)) is None
