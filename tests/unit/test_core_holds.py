"""Holds and pins: who keeps a model awake, who may let go, what outlives the daemon. And wakes only rehearsed."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, NOW, gpus, later, nap, record, world

from sleepd.core.beginning import begin
from sleepd.core.commands import AnswerKind, OpenGate
from sleepd.core.deadlines import next_deadline
from sleepd.core.draft import durable
from sleepd.core.events import GateEmptied, SettingsChanged, Tick
from sleepd.core.holds import GRACE_S
from sleepd.core.life import State
from sleepd.core.machine import step
from sleepd.core.model import Now, Settings
from sleepd.core.record import HOLDS_LIMIT, is_pinned
from sleepd.core.records import Saved
from sleepd.core.rehearse import plan_of_wake
from sleepd.core.units import GIB
from sleepd.core.wishes import CallerGone, HoldAsked, HoldDetached, HoldEnded, PinAsked, SleepAsked, WakeAsked

ALICE, BOB = 1000, 1001


def hold(waiter=1, id="h", model="a", uid=ALICE, ttl_s=60.0, **more):
    return HoldAsked(waiter, id, model, uid, "alice", ttl_s, **more)


def play(made, *events, now=NOW):
    return step(made, events, now)


def answers(turn):
    return [(c.waiter, c.kind, c.problem) for c in turn.commands if hasattr(c, "waiter")]


def held(turn, model="a"):
    return [h.id for h in turn.world.models[model].holds]


def test_a_hold_stands_at_once_is_recorded_and_told():
    turn = play(world(record()), hold(reason="a demo"))
    assert answers(turn) == [(1, AnswerKind.DONE, "")]
    assert held(turn) == ["h"]
    assert [r.holds[0].id for r in turn.records] == ["h"]
    assert turn.notes[0].text == "alice holds a awake for 1m: a demo"


def test_a_held_model_is_put_to_sleep_by_no_rule_and_by_nobody_without_force():
    made = world(record(), rules=(nap(),))
    turn = play(made, hold())
    assert turn.world.tasks == {}
    ask = SleepAsked(2, "a", "bob", 1, 60.0)
    assert answers(play(turn.world, ask)) == [(2, AnswerKind.REFUSED, "held")]
    assert play(turn.world, replace(ask, force=True)).world.tasks["a"].level == 1
    assert play(made, Tick()).world.tasks["a"].level == 1, "without the hold the rule acts"


def test_a_hold_lets_go_when_its_time_is_up_and_idle_time_starts_there():
    turn = play(world(record(), rules=(nap(300.0),)), hold(ttl_s=60.0))
    assert next_deadline(turn.world, NOW) <= NOW.mono_s + 60.0
    assert held(play(turn.world, Tick(), now=later(59.9))) == ["h"]
    over = play(turn.world, Tick(), now=later(60.0))
    assert held(over) == []
    assert over.world.models["a"].last_active_s == NOW.mono_s + 60.0
    assert over.notes[0].kind == "hold_ended"


def test_the_same_id_renews_and_another_model_moves_it():
    turn = play(world(record(), record("b")), hold(ttl_s=60.0))
    turn = play(turn.world, hold(2, ttl_s=60.0), now=later(30.0))
    assert held(play(turn.world, Tick(), now=later(80.0))) == ["h"]
    moved = play(turn.world, hold(3, model="b"), now=later(31.0))
    assert (held(moved), held(moved, "b")) == ([], ["h"])


def test_only_its_owner_or_an_admin_lets_go():
    turn = play(world(record()), hold())
    assert answers(play(turn.world, HoldEnded(2, "h", BOB))) == [(2, AnswerKind.REFUSED, "not_permitted")]
    assert answers(play(turn.world, hold(2, uid=BOB))) == [(2, AnswerKind.REFUSED, "not_permitted")]
    assert held(play(turn.world, HoldEnded(2, "h", BOB, admin=True))) == []
    gone = play(turn.world, HoldEnded(2, "h", ALICE))
    assert (held(gone), answers(gone)) == ([], [(2, AnswerKind.DONE, "")])
    assert answers(play(gone.world, HoldEnded(3, "h", ALICE))) == [(3, AnswerKind.DONE, "")]


def test_a_model_has_at_most_256_holds():
    made = world(record())
    for n in range(HOLDS_LIMIT):
        made = play(made, hold(n, id=f"h{n}")).world
    assert answers(play(made, hold(900, id="one more"))) == [(900, AnswerKind.REFUSED, "busy")]
    assert answers(play(made, hold(901, id="h7"))) == [(901, AnswerKind.DONE, "")], "renewing is not one more"


def test_an_attached_hold_lasts_a_grace_longer_than_its_stream():
    turn = play(world(record()), hold(7, ttl_s=None))
    assert held(play(turn.world, Tick(), now=later(9_999.0))) == ["h"]
    broken = play(turn.world, HoldDetached("h", 7), now=later(100.0))
    assert held(play(broken.world, Tick(), now=later(100.0 + GRACE_S - 0.1))) == ["h"]
    assert held(play(broken.world, Tick(), now=later(100.0 + GRACE_S))) == []
    back = play(broken.world, hold(8, ttl_s=None), now=later(110.0))
    assert held(play(back.world, Tick(), now=later(500.0))) == ["h"]
    late = play(back.world, HoldDetached("h", 7), now=later(111.0))
    assert held(play(late.world, Tick(), now=later(500.0))) == ["h"], "the end of the stream before is not this one's"


@pytest.mark.parametrize(
    ("ttl_s", "down_s", "left_s"),
    [(60.0, 20.0, 40.0), (60.0, 90.0, 0.0), (None, 3600.0, GRACE_S), (60.0, -500.0, 60.0)],
)
def test_holds_and_pins_outlive_the_daemon(ttl_s, down_s, left_s):
    turn = play(world(record()), hold(ttl_s=ttl_s), PinAsked(2, "a", "alice", True))
    kept = durable(turn.world.models["a"], NOW)
    settings = Settings({"a": turn.world.models["a"].spec})
    again = Now(50.0, NOW.wall_s + down_s)
    reborn = begin(settings, Saved(models={"a": kept}), again).world
    assert is_pinned(reborn.models["a"])
    assert reborn.models["a"].holds[0].until_s == pytest.approx(again.mono_s + left_s)


def test_a_pin_said_at_run_time_counts_until_the_files_say_otherwise():
    turn = play(world(record(), rules=(nap(),)), PinAsked(1, "a", "alice", True))
    assert is_pinned(turn.world.models["a"])
    assert turn.world.tasks == {}
    assert answers(play(turn.world, SleepAsked(2, "a", "bob", 1, 60.0))) == [(2, AnswerKind.REFUSED, "pinned")]
    undone = play(turn.world, PinAsked(3, "a", "alice", False))
    assert undone.world.models["a"].pin is None
    pinned = world(record(spec={"pinned": True}))
    assert is_pinned(pinned.models["a"])
    assert not is_pinned(play(pinned, PinAsked(4, "a", "alice", False)).world.models["a"])


# --- rehearsed wakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "would", "problem"),
    [
        (world(record()), "nothing", ""),
        (world(record(life=ASLEEP)), "wake", ""),
        (world(record(life=ASLEEP), free=GIB), "refuse", "no_room"),
        (world(record(life=ASLEEP), record("b", in_flight=1), free=20 * GIB), "wait", "no_room"),
        (world(record(life=ASLEEP, spec={}, footprint=record().footprint), gpus=gpus(40 * GIB)), "wake", ""),
    ],
    ids=["awake", "fits", "never fits", "in use", "old reading"],
)
def test_a_rehearsal_says_what_would_come_of_it(made, would, problem):
    plan = plan_of_wake(made, "a", later(5.0))
    assert (plan.would, plan.problem) == (would, problem)


@pytest.mark.parametrize(("came", "problem"), [(hold(waiter=3), "held"), (PinAsked(3, "a", "alice", True), "pinned")])
def test_a_sleep_that_waits_for_requests_to_end_is_refused_once_somebody_holds_or_pins_the_model(came, problem):
    made = play(world(record(in_flight=1)), SleepAsked(2, "a", "bob", 1, 60.0, drain_s=30.0)).world
    turn = play(made, came)
    assert answers(turn) == [(3, AnswerKind.DONE, ""), (2, AnswerKind.REFUSED, problem)]
    assert play(turn.world, GateEmptied("a")).world.tasks == {}


def test_a_forced_sleep_that_waits_for_requests_to_end_skips_a_hold_that_came_meanwhile():
    made = play(world(record(in_flight=1)), SleepAsked(2, "a", "bob", 1, 60.0, drain_s=30.0, force=True)).world
    made = play(made, hold(waiter=3)).world
    assert play(made, GateEmptied("a")).world.tasks["a"].level == 1


@pytest.mark.parametrize("came", [hold(waiter=3), PinAsked(3, "a", "alice", True)], ids=["hold", "pin"])
@pytest.mark.parametrize("forced", [False, True])
def test_a_hold_or_pin_takes_back_a_drain_that_sent_nothing_yet_unless_it_is_forced(came, forced):
    draining = play(world(record()), SleepAsked(2, "a", "bob", 1, 60.0, force=forced)).world
    assert draining.models["a"].life.state is State.DRAINING
    turn = play(draining, came)
    assert (turn.world.models["a"].life.state is State.AWAKE) is not forced
    assert ([type(c) for c in turn.commands].count(OpenGate) == 1) is not forced
    assert bool(turn.world.tasks) is forced


def reloaded(made, *specs):
    return play(made, SettingsChanged(Settings({s.name: s for s in specs})))


def test_a_reload_that_gives_a_model_another_address_keeps_who_holds_and_who_pinned_it():
    made = play(play(world(record()), hold()).world, PinAsked(2, "a", "alice", True)).world
    turn = reloaded(made, replace(made.models["a"].spec, url="http://elsewhere"))
    assert held(turn) == ["h"]
    assert is_pinned(turn.world.models["a"])
    assert [r.holds[0].id for r in turn.records] == ["h"]
    unpinned = reloaded(made, replace(made.models["a"].spec, url="http://elsewhere", pinned=True))
    assert unpinned.world.models["a"].pin is None, "what the files say anew counts"


def test_a_reload_that_forgets_a_held_model_says_whose_holds_ended():
    made = play(world(record(), record("b")), hold()).world
    turn = reloaded(made, made.models["b"].spec)
    assert [n.text for n in turn.notes if n.kind == "hold_ended"] == ["hold h of a ended: a is no longer configured"]


def test_a_sleeper_whose_caller_left_is_not_said_to_wait_for_anything_any_more():
    made = play(world(record(), record("b", ASLEEP), free=GIB), hold()).world
    made = play(made, WakeAsked(2, "b", "bob", 60.0)).world
    assert made.models["b"].reason.startswith("waits for room: a: it is held awake")
    assert play(made, CallerGone(2, "b")).world.models["b"].reason == "asleep: whoever wanted it left"
