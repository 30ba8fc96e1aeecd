"""Reservations: who steps aside, what is kept free, what comes back, what outlives the daemon."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, NOW, later, nap, record, world

from sleepd.core.beginning import begin
from sleepd.core.commands import AnswerKind, LookNow
from sleepd.core.deadlines import next_deadline
from sleepd.core.events import GpusLooked, Tick
from sleepd.core.holds import GRACE_S
from sleepd.core.ledger import promised_bytes
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step, wants_processes
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason, Now, Settings
from sleepd.core.plan import Plan, Verb, step_of
from sleepd.core.record import Hold
from sleepd.core.records import ReservationDropped, ReservationSaved, Saved
from sleepd.core.reservation import RESERVATIONS_LIMIT
from sleepd.core.rules import AwakeFor, IdleFor
from sleepd.core.seen import GpuSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.wishes import CallerGone, ReservationAsked, ReservationDetached, ReservationEnded, WakeAsked

ALICE, BOB, JOB_PID = 1000, 1001, 77


def ask(waiter=1, id="r", gib=30, gpus=("0",), ttl_s=None, timeout_s=600.0, uid=ALICE, **more):
    return ReservationAsked(waiter, id, gpus, gib * GIB, uid, "alice", ttl_s, timeout_s, **more)


def play(made, *events, now=NOW):
    return step(made, events, now)


def reading(used, *, at=NOW, total=80):
    """A listed reading of GPU 0; `used`: GiB by pid."""
    free = (total - sum(used.values())) * GIB
    gpu = GpuSeen("GPU-0", 0, total * GIB, free, {pid: gib * GIB for pid, gib in used.items()})
    return GpusLooked(Known((gpu,), at.mono_s, at.mono_s), listed=True)


def answers(turn):
    return [(c.waiter, c.kind, c.problem) for c in turn.commands if hasattr(c, "waiter")]


def with_free(gib, *records, **more):
    """A world in which one server with pid 1 holds what is not free."""
    made = world(*records, **more)
    return replace(made, gpus=reading({1: 80 - gib}).reading)


def wished(made, waiter, used, after_s, **more):
    """A wake of `a`, asked at the moment of a reading."""
    at = later(after_s)
    return play(made, reading(used, at=at), WakeAsked(waiter, "a", "bob", 60.0, **more), now=at)


def granted(*records, gib=30, free=40, rules=(), **more):
    turn = play(with_free(free, *(records or (record(),)), rules=rules), ask(gib=gib, **more))
    assert answers(turn) == [(1, AnswerKind.DONE, "")]
    return turn


def test_bytes_that_are_free_are_granted_at_once_recorded_and_told():
    turn = granted(ttl_s=60.0, reason="training")
    found = turn.world.reservations["r"]
    assert (found.granted, found.until_s, found.unmanaged) == (True, NOW.mono_s + 60.0, {"GPU-0": 0})
    assert [r.reservation.id for r in turn.records if isinstance(r, ReservationSaved)] == ["r"]
    text = "30GiB on GPU 0 is kept for alice (reservation r: training) for 1m"
    assert text in [n.text for n in turn.notes]
    assert next_deadline(turn.world, NOW) <= NOW.mono_s + 60.0
    assert wants_processes(turn.world), "what the job takes is told from what servers take"


@pytest.mark.parametrize(("kind", "waits"), [(TaskKind.SLEEP, True), (TaskKind.START, True), (TaskKind.WAKE, False)])
def test_bytes_that_are_free_wait_for_whoever_minds_that_a_job_takes_them(kind, waits):
    """vLLM takes a neighbour's allocation for a sleep that freed nothing, and measures itself wrongly at its start."""
    state = {TaskKind.SLEEP: State.FALLING_ASLEEP, TaskKind.START: State.STARTING}.get(kind, State.WAKING)
    plan = Plan((step_of({TaskKind.SLEEP: Verb.SLEEP_L1, TaskKind.START: Verb.AWAIT_HEALTH}.get(kind, Verb.WAKE)),))
    task = Task(1, "a", kind, 1, Cause(CauseKind.RULE, "nap"), plan, NOW.mono_s, claims={"GPU-0"}, running=True)
    made = with_free(75, record(life=Life(state, Weights.OFFLOADED)), tasks={"a": task})
    turn = play(made, ask(gib=10))
    assert turn.world.reservations["r"].granted is not waits
    if waits:
        assert turn.world.reservations["r"].waits_for == "a, which is on its way"
        over = replace(turn.world, tasks={}, models={"a": record(life=ASLEEP)})
        assert play(over, reading({1: 2}, at=later(1.0)), now=later(1.0)).world.reservations["r"].granted


def test_a_model_steps_aside_until_the_bytes_are_seen_free():
    turn = play(with_free(40, record()), ask(gib=60))
    assert turn.world.tasks["a"].cause == Cause(CauseKind.RESERVATION, "r")
    (victim,) = [n for n in turn.notes if n.kind == "victim"]
    assert victim.data.keys() == {"reservation", "victim", "level", "felt_s"}
    assert victim.text.startswith("a makes room for alice (reservation r) (nobody else could; ")
    waiting = turn.world.reservations["r"]
    assert (waiting.granted, waiting.aside, waiting.waits_for) == (False, ("a",), "a to fall asleep")
    slept = replace(turn.world, tasks={}, models={"a": record(life=ASLEEP)})
    still = play(slept, Tick(), now=later(1.0))
    assert not still.world.reservations["r"].granted, "no reading shows it yet"
    seen = play(slept, reading({1: 2}, at=later(2.0)), now=later(2.0))
    assert answers(seen) == [(1, AnswerKind.DONE, "")]
    assert seen.world.reservations["r"].granted


def test_a_wake_that_would_break_it_is_refused_with_its_reason_and_a_request_waits():
    made = granted(record(life=ASLEEP), gib=60, free=78, reason="training").world
    refused = wished(made, 2, {1: 2}, 0.1)
    ((waiter, kind, problem),) = answers(refused)
    assert (waiter, kind, problem) == (2, AnswerKind.REFUSED, "reserved")
    (answer,) = [c for c in refused.commands if hasattr(c, "waiter")]
    assert (
        "60GiB on GPU 0 for alice (reservation r: training) since 2023-11-14 22:13:20Z, while its job" in answer.detail
    )
    request = wished(made, 3, {1: 2}, 0.1, cause=CauseKind.REQUEST)
    assert answers(request) == []
    assert len(request.world.models["a"].waiters) == 1
    over = play(request.world, ReservationEnded(4, "r", ALICE), now=later(0.2))
    read = play(over.world, reading({1: 2}, at=later(0.3)), now=later(0.3))
    assert read.world.tasks["a"].cause.kind is CauseKind.REQUEST


def test_nobody_is_refused_by_what_the_job_held_before_its_reservation_ended():
    made = granted(record(life=ASLEEP), gib=60, free=78).world
    waiting = wished(made, 3, {1: 2, JOB_PID: 60}, 0.1, cause=CauseKind.REQUEST).world
    over = play(waiting, ReservationEnded(4, "r", ALICE), now=later(0.2))
    assert answers(over) == [(4, AnswerKind.DONE, "")]
    assert [c for c in over.commands if isinstance(c, LookNow) and c.gpus]
    gone = play(over.world, reading({1: 2}, at=later(0.3)), now=later(0.3))
    assert gone.world.tasks["a"].cause.kind is CauseKind.REQUEST
    goes_on = play(over.world, reading({1: 2, JOB_PID: 60}, at=later(0.3)), now=later(0.3))
    assert answers(goes_on) == [(3, AnswerKind.REFUSED, "no_room")], "its job holds what is nobody's any more"


@pytest.mark.parametrize(("reserved_gib", "took_gib", "waits"), [(60, 0, 1), (60, 20, 1), (60, 70, 1), (20, 70, 0)])
def test_a_request_waits_for_what_a_job_took_of_its_reservation_and_not_for_more(reserved_gib, took_gib, waits):
    """It comes back when the reservation ends; what the job took beyond is nobody's to wait for."""
    made = granted(record(life=ASLEEP), gib=reserved_gib, free=78).world
    refused = wished(made, 2, {1: 2, JOB_PID: took_gib}, 0.1)
    assert answers(refused) == [(2, AnswerKind.REFUSED, "reserved" if waits else "no_room")]
    request = wished(made, 3, {1: 2, JOB_PID: took_gib}, 0.1, cause=CauseKind.REQUEST)
    assert len(request.world.models["a"].waiters) == waits


def test_a_wake_that_fits_beside_it_goes_ahead():
    made = granted(record(life=ASLEEP), gib=40, free=78).world
    turn = wished(made, 2, {1: 2}, 0.1)
    assert turn.world.tasks["a"].kind == "wake"


def test_a_job_that_has_its_bytes_is_not_asked_for_them_twice():
    made = granted(record(life=ASLEEP), gib=40, free=78).world
    fits = wished(made, 2, {1: 2, JOB_PID: 40}, 1.0)
    assert fits.world.tasks["a"].kind == "wake", "38 GiB are free, 28 wanted, and nothing is left of the reservation"
    assert answers(wished(made, 2, {1: 2, JOB_PID: 60}, 1.0)) == [(2, AnswerKind.REFUSED, "reserved")]


def test_what_one_job_takes_is_not_taken_off_what_is_kept_for_another():
    """The first job is gone and its reservation stands for its 30 s: what the second takes is not the first one's."""
    made = granted(record(life=ASLEEP), gib=30, free=78).world
    both = play(made, reading({1: 2}, at=later(0.1)), ask(waiter=2, id="s", gib=30), now=later(0.1)).world
    assert [r.granted_as for r in both.reservations.values()] == [1, 2]
    taken = play(both, reading({1: 2, JOB_PID: 30}, at=later(0.2)), now=later(0.2)).world
    assert promised_bytes(taken.models, {}, taken.reservations, taken.gpus.value, but="") == {"GPU-0": 30 * GIB}
    assert answers(wished(taken, 3, {1: 2, JOB_PID: 30}, 0.3)) == [(3, AnswerKind.REFUSED, "reserved")]
    whole = play(taken, reading({1: 2, JOB_PID: 30, JOB_PID + 1: 30}, at=later(0.4)), now=later(0.4)).world
    assert promised_bytes(whole.models, {}, whole.reservations, whole.gpus.value, but="") == {"GPU-0": 0}


def test_what_the_job_holds_already_counts_as_its_own():
    made = replace(world(record(life=ASLEEP)), gpus=reading({1: 2, JOB_PID: 35}).reading)
    turn = play(made, ask(gib=70, pids=(JOB_PID,)))
    assert answers(turn) == [(1, AnswerKind.DONE, "")]
    assert turn.world.reservations["r"].unmanaged == {"GPU-0": 0}


def test_servers_that_the_job_s_process_started_are_not_its_own():
    turn = play(with_free(40, record()), ask(gib=60, pids=(JOB_PID, 1)))
    assert turn.world.tasks["a"].cause.kind is CauseKind.RESERVATION


@pytest.mark.parametrize("silent", [True, False])
def test_while_a_server_cannot_be_told_from_the_job_that_started_it_nothing_there_counts_as_the_jobs(silent):
    """40 GiB are free, and 40 more than the 60 that are wanted are held by a server, or by the job."""
    life = AWAKE if silent else Life(State.LOST, Weights.LOADED)
    made = with_free(40, record(life=life, seen=Missing(MissingReason.TIMED_OUT)))
    turn = play(made, ask(gib=60, pids=(JOB_PID, 1)))
    assert turn.world.reservations.get("r", turn.world).granted is not silent


def test_held_and_pinned_models_do_not_step_aside():
    pinned = play(with_free(40, record(spec={"pinned": True})), ask(gib=60))
    assert answers(pinned) == [(1, AnswerKind.REFUSED, "no_room")]
    (answer,) = [c for c in pinned.commands if hasattr(c, "waiter")]
    assert "a: it is pinned" in answer.detail
    assert pinned.world.reservations == {}
    hold = Hold("h", BOB, "bob", "", NOW.wall_s, 60.0, NOW.mono_s + 60.0, NOW.wall_s + 60.0)
    held = play(with_free(40, record(holds=(hold,))), ask(gib=60, timeout_s=30.0))
    assert held.world.tasks == {}
    assert "held awake" in held.world.reservations["r"].waits_for
    over = play(held.world, Tick(), now=later(30.0))
    assert answers(over) == [(1, AnswerKind.REFUSED, "no_room")]
    assert over.world.reservations == {}


@pytest.mark.parametrize(
    ("wish", "problem"),
    [(ask(gib=80), "no_room"), (ask(gpus=("3",)), "invalid"), (ask(gib=79), ""), (ask(gpus=("GPU-0", "0")), "")],
    ids=["more than there is", "no such GPU", "all but the margin", "twice the same"],
)
def test_what_never_fits_is_refused_at_once_with_numbers(wish, problem):
    turn = play(replace(world(), gpus=reading({}).reading), wish)
    kind = AnswerKind.REFUSED if problem else AnswerKind.DONE
    assert answers(turn) == [(1, kind, problem)]


def test_who_was_put_aside_is_woken_again_when_it_ends():
    aside = record(life=ASLEEP)
    made = granted(aside, gib=60, free=78).world
    made = replace(made, reservations={"r": replace(made.reservations["r"], aside=("a",))})
    over = play(made, ReservationEnded(2, "r", ALICE), now=later(0.1))
    assert (answers(over), over.world.reservations) == ([(2, AnswerKind.DONE, "")], {})
    assert over.world.models["a"].owed_wake == Cause(CauseKind.RECOVERY, "reservation r")
    read = play(over.world, reading({1: 2}, at=later(0.2)), now=later(0.2))
    assert read.world.tasks["a"].kind == "wake"
    assert ReservationDropped("r") in over.records


@pytest.mark.parametrize("always", [False, True], ids=["idle by then", "a rule that holds at once"])
def test_time_aside_is_no_idleness_but_a_rule_that_wants_it_asleep_anyway_has_its_way(always):
    rule = nap(300.0, conditions=(AwakeFor(0.0),) if always else (IdleFor(300.0),))
    made = granted(record(life=ASLEEP), gib=60, free=78, rules=(rule,)).world
    made = replace(made, reservations={"r": replace(made.reservations["r"], aside=("a",))})
    over = play(made, ReservationEnded(2, "r", ALICE), now=later(3_000.0))
    assert (over.world.models["a"].owed_wake is None) is always


def test_a_model_that_falls_asleep_after_its_reservation_ended_is_owed_its_wake():
    begun = play(with_free(40, record()), ask(gib=60))
    left = play(begun.world, CallerGone(1, ""), now=later(0.1))
    assert left.world.reservations == {}
    assert left.world.tasks["a"].cause.kind is CauseKind.RESERVATION, "what was begun is finished"


def test_the_oldest_goes_first_and_none_waits_for_a_younger_one():
    made = with_free(78, record(life=ASLEEP))
    first = play(made, ask(1, "r1", gib=60, ttl_s=60.0))
    younger = ask(2, "r2", gib=60, timeout_s=100.0)
    second = play(first.world, reading({1: 2}, at=later(0.1)), younger, now=later(0.1))
    waits = second.world.reservations["r2"]
    assert (waits.granted, waits.problem) == (False, "reserved")
    assert "alice (reservation r1)" in waits.waits_for
    freed = play(second.world, reading({1: 2}, at=later(60.0)), now=later(60.0))
    assert answers(freed) == [(2, AnswerKind.DONE, "")]
    late = play(second.world, ReservationEnded(3, "r2", ALICE), now=later(1.0))
    assert sorted(answers(late)) == [(2, AnswerKind.REFUSED, "timeout"), (3, AnswerKind.DONE, "")]


def test_only_its_owner_or_an_admin_ends_or_renews_it_and_it_keeps_its_size():
    made = granted().world
    assert answers(play(made, ReservationEnded(2, "r", BOB))) == [(2, AnswerKind.REFUSED, "not_permitted")]
    assert answers(play(made, ask(2, uid=BOB))) == [(2, AnswerKind.REFUSED, "not_permitted")]
    assert play(made, ReservationEnded(2, "r", BOB, admin=True)).world.reservations == {}
    assert answers(play(made, ask(2, gib=31))) == [(2, AnswerKind.REFUSED, "invalid")]
    renewed = play(made, ask(2, ttl_s=5.0), now=later(10.0))
    assert (answers(renewed), renewed.world.reservations["r"].until_s) == (
        [(2, AnswerKind.DONE, "")],
        NOW.mono_s + 15.0,
    )
    assert answers(play(made, ReservationEnded(2, "gone", BOB))) == [(2, AnswerKind.DONE, "")]


def test_there_is_a_limit_to_reservations():
    made = granted(gib=0).world
    many = {f"r{i}": replace(made.reservations["r"], id=f"r{i}") for i in range(RESERVATIONS_LIMIT)}
    assert answers(play(replace(made, reservations=many), ask(9))) == [(9, AnswerKind.REFUSED, "busy")]


def test_without_waiting_it_is_accepted_and_granted_when_there_is_room():
    made = with_free(40, record())
    turn = play(made, ask(gib=60, ttl_s=60.0, wait=False))
    assert answers(turn) == [(1, AnswerKind.ACCEPTED, "")]
    slept = replace(turn.world, tasks={}, models={"a": record(life=ASLEEP)})
    seen = play(slept, reading({1: 2}, at=later(2.0)), now=later(2.0))
    assert answers(seen) == []
    assert seen.world.reservations["r"].until_s == NOW.mono_s + 62.0


def test_it_lasts_a_grace_longer_than_its_stream_and_the_same_id_takes_it_up_again():
    made = granted().world
    assert "r" in play(made, Tick(), now=later(9_999.0)).world.reservations
    broken = play(made, ReservationDetached("r", 1), now=later(10.0))
    assert "r" in play(broken.world, Tick(), now=later(10.0 + GRACE_S - 0.1)).world.reservations
    assert play(broken.world, Tick(), now=later(10.0 + GRACE_S)).world.reservations == {}
    back = play(broken.world, ask(8), now=later(20.0))
    late = play(back.world, ReservationDetached("r", 1), now=later(21.0))
    assert "r" in play(late.world, Tick(), now=later(500.0)).world.reservations


@pytest.mark.parametrize(
    ("ttl_s", "down_s", "left_s"),
    [(60.0, 20.0, 40.0), (60.0, 90.0, 0.0), (None, 3600.0, GRACE_S), (60.0, -500.0, 60.0)],
)
def test_it_outlives_the_daemon_with_its_baseline(ttl_s, down_s, left_s):
    made = granted(record(life=ASLEEP), gib=60, free=78, ttl_s=ttl_s).world
    saved = Saved(reservations={"r": replace(made.reservations["r"], until_s=None)})
    again = Now(50.0, NOW.wall_s + down_s)
    reborn = begin(Settings({"a": made.models["a"].spec}), saved, again).world.reservations["r"]
    assert reborn.until_s == pytest.approx(again.mono_s + left_s)
    assert (reborn.unmanaged, reborn.managed, reborn.granted) == ({"GPU-0": 0}, (1,), True)


@pytest.mark.parametrize("back", [True, False])
def test_one_that_still_waited_for_its_stream_when_the_daemon_ended_does_not_last_for_ever(back):
    waiting = play(with_free(40, record()), ask(gib=60)).world
    made = begin(Settings({}), Saved(reservations=waiting.reservations), NOW).world
    seen = play(made, reading({}, at=later(5.0)), now=later(5.0))
    found = seen.world.reservations["r"]
    assert (found.granted, found.stream, found.until_s) == (True, None, NOW.mono_s + 5.0 + GRACE_S)
    if back:
        again = play(seen.world, ask(waiter=9, gib=60), now=later(20.0)).world
        assert (again.reservations["r"].stream, again.reservations["r"].until_s) == (9, None)
    over = play(seen.world, Tick(), now=later(5.0 + GRACE_S))
    assert not over.world.reservations


def test_a_stream_that_ends_just_before_the_grant_leaves_nothing_behind():
    waiting = play(with_free(40, record()), ask(waiter=4, gib=60)).world
    slept = replace(waiting, tasks={}, models={"a": record(life=ASLEEP)})
    turn = play(slept, ReservationDetached("r", 4), reading({1: 2}, at=later(2.0)), now=later(2.0))
    assert not play(turn.world, CallerGone(4, ""), now=later(2.1)).world.reservations
    other = play(slept, ReservationDetached("r", 3), now=later(2.0))
    assert other.world.reservations, "a stream that another took over from"


def test_a_model_in_use_is_waited_for_and_a_request_does_not_take_back_a_sleep_for_it():
    busy = play(with_free(40, record(in_flight=1)), ask(gib=60))
    assert busy.world.tasks == {}
    assert busy.world.reservations["r"].waits_for == "room: a: it is in use"
    draining = play(with_free(40, record()), ask(gib=60)).world
    assert draining.models["a"].life == Life(State.DRAINING, Weights.LOADED)
    wished = play(draining, WakeAsked(2, "a", "bob", 60.0, cause=CauseKind.REQUEST))
    assert wished.world.models["a"].life.state is State.DRAINING
