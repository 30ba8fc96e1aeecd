"""Reservations while what they stand on changes: other GPUs in the reading, MIG, reloads that move or drop models."""

from dataclasses import replace

from core_worlds import ASLEEP, later, record
from test_core_reservations import ALICE, JOB_PID, answers, ask, granted, play, reading, wished, with_free

from sleepd.core.commands import AnswerKind
from sleepd.core.events import GpusLooked, SettingsChanged
from sleepd.core.ledger import promised_bytes
from sleepd.core.model import CauseKind, Known
from sleepd.core.record import Hold
from sleepd.core.records import ReservationSaved
from sleepd.core.seen import GpuSeen
from sleepd.core.units import GIB
from sleepd.core.wishes import ReservationEnded


def seen(after_s, *gpus):
    at_s = later(after_s).mono_s
    return GpusLooked(Known(tuple(gpus), at_s, at_s), listed=True)


def kept(turn):
    made = turn.world
    return promised_bytes(made.models, {}, made.reservations, made.gpus.value, but="")


def test_a_reservation_by_index_follows_to_the_gpu_that_has_it_by_now():
    """The daemon began again with `backend = "none"`: the GPU goes by another name, and who holds what is not told."""
    made = granted(record(life=ASLEEP), gib=60, free=78).world
    took = play(made, reading({1: 2, JOB_PID: 60}, at=later(0.1)), now=later(0.1))
    assert kept(took) == {"GPU-0": 0}
    declared = GpuSeen("declared-0", 0, 80 * GIB, 80 * GIB)
    moved = play(took.world, seen(0.2, declared), now=later(0.2))
    assert kept(moved) == {"declared-0": 60 * GIB}, "what its job took there is not told: all of it is kept"
    (saved,) = [r.reservation for r in moved.records if isinstance(r, ReservationSaved)]
    assert saved.uuids == ("declared-0",)


def test_a_gpu_that_is_gone_for_a_while_is_the_reservation_s_again_when_it_is_back():
    made = granted(record(life=ASLEEP), gib=60, free=78).world
    gone = play(made, seen(0.1, GpuSeen("GPU-1", 1, 80 * GIB, 80 * GIB, {})), now=later(0.1))
    assert gone.world.reservations["r"].uuids == ("GPU-0",)
    assert kept(gone) == {}
    assert kept(play(gone.world, reading({1: 2}, at=later(0.2)), now=later(0.2))) == {"GPU-0": 60 * GIB}


def test_a_gpu_that_was_divided_lends_nothing_more_and_what_stands_there_ends_as_it_would():
    made = granted(record(life=ASLEEP), gib=30, free=78).world
    parts = [GpuSeen(f"MIG-{n}", 1000 + i, 40 * GIB, 40 * GIB, mig_of=0) for i, n in enumerate("ab")]
    whole = GpuSeen("GPU-0", 0, 80 * GIB, 80 * GIB, {})
    divided = play(made, seen(0.1, whole, *parts), ask(waiter=2, id="s", gib=10), now=later(0.1))
    assert answers(divided) == [(2, AnswerKind.REFUSED, "invalid")]
    assert "r" in divided.world.reservations
    part = play(divided.world, ask(waiter=3, id="t", gib=10, gpus=("MIG-a",)), seen(0.2, whole, *parts), now=later(0.2))
    read = play(part.world, seen(0.3, whole, *parts), now=later(0.3))
    later_read = play(read.world, seen(3.0, whole, *parts), now=later(3.0))
    assert later_read.world.reservations["t"].granted, later_read.world.reservations["t"].waits_for
    over = play(later_read.world, ReservationEnded(4, "r", ALICE), now=later(3.1))
    assert (answers(over), list(over.world.reservations)) == ([(4, AnswerKind.DONE, "")], ["t"])


def test_a_reload_that_moves_or_drops_who_was_put_aside_leaves_nothing_behind():
    made = granted(record(life=ASLEEP), gib=60, free=78).world
    aside = replace(made, reservations={"r": replace(made.reservations["r"], aside=("a",))})
    spec = aside.settings.models["a"]
    elsewhere = replace(aside.settings, models={"a": replace(spec, gpus=("1",))})
    other = GpuSeen("GPU-1", 1, 80 * GIB, 78 * GIB, {1: 2 * GIB})
    both = (GpuSeen("GPU-0", 0, 80 * GIB, 78 * GIB, {}), other)
    moved = play(aside, SettingsChanged(elsewhere), seen(0.1, *both), now=later(0.1))
    over = play(moved.world, ReservationEnded(2, "r", ALICE), now=later(0.2))
    woken = play(over.world, seen(0.3, *both), now=later(0.3))
    assert woken.world.models["a"].owed_wake is not None or "a" in woken.world.tasks
    gone = play(aside, SettingsChanged(replace(aside.settings, models={})), now=later(0.1))
    assert answers(play(gone.world, ReservationEnded(2, "r", ALICE), now=later(0.2))) == [(2, AnswerKind.DONE, "")]


def test_a_reload_that_brings_a_model_onto_a_reserved_gpu_leaves_the_job_its_bytes():
    made = granted(record(life=ASLEEP), gib=60, free=78).world
    spec = made.settings.models["a"]
    changed = replace(made.settings, models={"a": replace(spec, gpus=("GPU-0",))})
    reloaded = play(made, SettingsChanged(changed), now=later(0.1)).world
    assert reloaded.reservations == made.reservations
    assert answers(wished(reloaded, 2, {1: 2}, 0.2)) == [(2, AnswerKind.REFUSED, "reserved")]


def test_nobody_sleeps_for_a_wake_whose_room_goes_to_a_reservation_that_still_waits():
    """Free are 18 GiB, and 60 are wanted by a job that waits for `c`, which is held: what `b` would give is not enough
    for both, so that `a` would not be woken by it."""
    hold = Hold("h", 0, "bob", "", 0.0, None, None, None, 1)
    models = record(life=ASLEEP), record("b"), record("c", holds=(hold,))
    waits = play(with_free(18, *models), ask(gib=60))
    assert not waits.world.reservations["r"].granted
    assert not waits.world.tasks
    assert not wished(waits.world, 2, {1: 62}, 0.1, cause=CauseKind.REQUEST).world.tasks
