"""Whether a level 1 backup fits into host RAM and under the limits above its unit, and what is said where it does
not."""

from dataclasses import replace

import pytest
from core_worlds import AWAKE, FACTS, KNOWN_ANSWER, NOW, host, nap, proven, record, seen, world

from sleepd.core.commands import Answer, AnswerKind, LookNow, RunStep
from sleepd.core.events import Evidence, ModelLooked, StepEnd, StepEnded, Tick
from sleepd.core.footprint import Footprint
from sleepd.core.host_room import (
    HostShort,
    admit_backup,
    backup_need,
    backup_refusal,
    host_promised,
    limit_promised,
    limits_unread,
)
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.memory import Admitted, Blind
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason, Mode
from sleepd.core.plan import Verb, plan_sleep
from sleepd.core.rehearse import plan_of_wake
from sleepd.core.seen import GpuSeen, ModelSeen, UnitMemory
from sleepd.core.task import HOST_LOCK, Intent, Task, TaskKind
from sleepd.core.turn import Turn
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked
from sleepd.core.world import World

FREED = Footprint(freed={"GPU-0": (28 * GIB,)})


def unit(used: int, limit: int | None, kept: int = 3 * GIB) -> UnitMemory:
    return UnitMemory(used, kept, True, limit, used, "memory.max of system.slice" if limit else "")


@pytest.mark.parametrize(
    ("more", "need"),
    [
        ({}, 20 * GIB),  # twice the checkpoint's 10
        ({"spec": {"host_ram_bytes": 12 * GIB}}, 12 * GIB),
        ({"footprint": replace(FREED, backups=(11 * GIB, 13 * GIB, 12 * GIB))}, 13 * GIB),
        ({"footprint": replace(FREED, host_pinned=True)}, 0),
        ({"footprint": replace(FREED, pinned_bytes=6 * GIB)}, 14 * GIB),
        ({"footprint": replace(FREED, pinned_bytes=60 * GIB)}, 0),
        ({"prior": Footprint(backups=(13 * GIB,), under="x")}, 13 * GIB),
        ({"facts": replace(FACTS, checkpoint_bytes=None)}, 28 * GIB),
        (
            {"facts": replace(FACTS, checkpoint_bytes=None, gpu_memory_utilization=0.5), "footprint": Footprint()},
            40 * GIB,
        ),
        ({"facts": replace(FACTS, checkpoint_bytes=None), "footprint": Footprint()}, None),
    ],
)
def test_what_the_next_backup_takes(more, need):
    made = world(record("a", AWAKE, **more))
    assert backup_need(made.models["a"], made.gpus.value) == need


TWO_GPUS = tuple(GpuSeen(f"GPU-{i}", i, (80 - 40 * i) * GIB, 10 * GIB) for i in range(2))
BARE = replace(FACTS, checkpoint_bytes=None, tensor_parallel=2)


@pytest.mark.parametrize(
    ("more", "need"),
    [
        ({"spec": {"vram_bytes": 30 * GIB}}, 60 * GIB),
        ({"facts": replace(BARE, gpu_memory_utilization=0.5)}, 60 * GIB),
        ({"footprint": Footprint(freed={"GPU-0": (28 * GIB, 30 * GIB), "GPU-1": (29 * GIB,)})}, 59 * GIB),
        # One of its GPUs is not told of: a bound that leaves it out is none.
        ({"facts": replace(BARE, gpu_memory_utilization=0.5), "gpus": TWO_GPUS[:1]}, None),
    ],
)
def test_where_no_checkpoint_tells_all_gpus_of_a_model_bound_its_backup(more, need):
    """Rounding and KV cache, which needs no backup, are taken to make up for one another."""
    gpus = more.pop("gpus", TWO_GPUS)
    made = record("a", AWAKE, **{"facts": BARE, "footprint": Footprint(), **more})
    assert backup_need(replace(made, spec=replace(made.spec, gpus=("0", "1"))), gpus) == need


@pytest.mark.parametrize(("available", "fits"), [(28 * GIB, True), (28 * GIB - 1, False)])
def test_it_fits_above_the_reserve_or_not(available, fits):
    made = replace(world(record("a")), host=host(available))
    verdict = admit_backup(made, made.models["a"])
    assert (verdict == Admitted()) is fits
    if not fits:
        assert isinstance(verdict, HostShort)
        assert (verdict.wanted, verdict.found) == ("20GiB of host RAM for its backup", "20GiB left")
        assert "max_level = 2" in verdict.hint
        assert backup_refusal(made, made.models["a"]) == "its backup would not fit into host RAM above the reserve"


@pytest.mark.parametrize(
    ("memory", "fits"),
    [
        (unit(5 * GIB, None), True),
        (unit(5 * GIB, 25 * GIB), True),
        (unit(5 * GIB + 1, 25 * GIB), False),
        (unit(30 * GIB, 25 * GIB), False),
        (None, True),
    ],
)
def test_the_tightest_limit_above_the_unit_binds_too(memory, fits):
    made = world(record("a", seen=seen(unit_memory=memory)))
    refusal = backup_refusal(made, made.models["a"])
    assert refusal == ("" if fits else "its backup would not fit under memory.max of system.slice")
    if not fits:
        verdict = admit_backup(made, made.models["a"])
        assert isinstance(verdict, HostShort)
        assert "MemoryMax=" in verdict.hint


def test_what_is_not_known_admits_nothing():
    blind = replace(world(record("a")), host=Missing(MissingReason.UNREADABLE))
    assert admit_backup(blind, blind.models["a"]) == Blind("host RAM is not known")
    sizeless = world(record("a", facts=replace(FACTS, checkpoint_bytes=None), footprint=Footprint()))
    assert "set host_ram in [models.a]" in backup_refusal(sizeless, sizeless.models["a"])


def pending(kept_then: int | None, kept_now: int | None) -> object:
    """A neighbour whose level 1 sleep waits for requests that reach it directly; its backup may come at any moment."""
    memory = None if kept_now is None else unit(kept_now, None, kept_now)
    b = record("b", Life(State.SLEEP_PENDING, Weights.OFFLOADED), seen=seen(unit_memory=memory))
    plan, intent = plan_sleep(1, fingerprint_wanted=False), Intent("pst:1", None, kept_bytes=kept_then)
    task = Task(1, "b", TaskKind.SLEEP, 1, Cause(CauseKind.RULE, "nap"), plan, 0.0, claims=frozenset({"GPU-1"}))
    return replace(world(record("a"), b), tasks={"b": replace(task, intent=intent)}, host=host(40 * GIB))


def test_a_sleep_that_drains_has_no_host_ram_promised():
    """It is measured again before it is sent."""
    made = pending(3 * GIB, 3 * GIB)
    b = replace(made.models["b"], life=Life(State.DRAINING, Weights.LOADED))
    assert host_promised(replace(made, models=made.models | {"b": b}), "a") == 0


@pytest.mark.parametrize(("limit", "fits"), [(45, True), (44, False)])
def test_a_limit_leaves_room_for_what_others_below_it_may_still_pin(limit, fits):
    """5 GiB are held below it, 20 needed, and 20 promised to a neighbour."""
    made = pending(None, None)
    a = replace(made.models["a"], seen=seen(unit_memory=unit(5 * GIB, limit * GIB)))
    world_ = replace(made, models=made.models | {"a": a}, host=host(90 * GIB))
    assert (admit_backup(world_, a) == Admitted()) is fits


@pytest.mark.parametrize(
    ("kept", "promised"),
    [
        ((3 * GIB, 3 * GIB), 20),
        ((3 * GIB, 8 * GIB), 15),
        ((3 * GIB, 50 * GIB), 0),
        ((None, 8 * GIB), 20),
        ((3, None), 20),
    ],
)
def test_a_sleep_that_may_still_pin_keeps_its_ram_and_what_it_pinned_is_not_counted_twice(kept, promised):
    made = pending(*kept)
    assert host_promised(made, "a") == promised * GIB
    assert host_promised(made, "b") == 0
    assert isinstance(admit_backup(made, made.models["a"]), HostShort) is (promised > 12)


def beside_a_backup(used: int, read_s: float, **more: object) -> object:
    """A slice of 48 GiB with two servers; the neighbour's backup was made five seconds ago."""
    b = record("b", Life(State.ASLEEP_L1, Weights.OFFLOADED), settled_s=NOW.mono_s - 5.0)
    look = seen(unit_memory=unit(used, 48 * GIB))
    return world(record("a", seen=look, unit_read_s=read_s, **more), b)


@pytest.mark.parametrize(("age_s", "unread"), [(6.0, True), (4.0, False)])
def test_limits_count_as_read_when_they_were_not_when_the_server_was_last_looked_at(age_s, unread):
    """Looks inside a step skip the unit: they are newer than what is known of its limits."""
    made = beside_a_backup(17 * GIB, NOW.mono_s - age_s)
    assert made.models["a"].seen.asked_at_s > NOW.mono_s - 1.0
    assert limits_unread(made.models, made.models["a"]) is unread
    settled = replace(made.models["a"], settled_s=NOW.mono_s)
    assert limits_unread(made.models | {"a": settled}, settled) is unread, "its own steps read them"


def test_a_sleep_asked_for_on_limits_from_before_a_backup_waits_for_a_look_and_is_judged_by_it():
    for used, said in ((15 * GIB, []), (42 * GIB, ["level_unsafe"])):
        made = beside_a_backup(17 * GIB, NOW.mono_s - 6.0)
        turn = step(made, [SleepAsked(7, "a", "root", 1, 60.0)], NOW)
        assert LookNow(model="a") in turn.commands
        assert not [c for c in turn.commands if isinstance(c, Answer | RunStep)]
        later = replace(NOW, mono_s=NOW.mono_s + 1.0)
        looked = ModelSeen(FACTS, running=0, waiting=0, pids=(1,), unit_memory=unit(used, 48 * GIB))
        answered = step(turn.world, [ModelLooked("a", Known(looked, NOW.mono_s, later.mono_s), 0)], later)
        assert [c.problem for c in answered.commands if isinstance(c, Answer)] == said
        assert ("a" in answered.world.tasks) is (not said)


def test_growth_that_was_seen_after_the_limit_was_read_is_still_promised():
    made = pending(3 * GIB, 8 * GIB)
    b = replace(made.models["b"], unit_read_s=NOW.mono_s - 1.0)
    models = {"a": replace(made.models["a"], unit_read_s=NOW.mono_s - 2.0), "b": b}
    assert limit_promised(replace(made, models=models), models["a"]) == 20 * GIB
    models["a"] = replace(models["a"], unit_read_s=NOW.mono_s)
    assert limit_promised(replace(made, models=models), models["a"]) == 15 * GIB


def asked(force: bool, **more: object) -> Answer:
    made = replace(world(record("a", **more)), host=host(20 * GIB))
    turn = step(made, [SleepAsked(7, "a", "root", 1, 60.0, force=force)], NOW)
    assert not [c for c in turn.commands if isinstance(c, RunStep)]
    return next(c for c in turn.commands if isinstance(c, Answer))


@pytest.mark.parametrize("force", [False, True])
def test_nothing_overrides_a_backup_that_does_not_fit(force):
    answer = asked(force)
    assert (answer.kind, answer.problem) == (AnswerKind.REFUSED, "level_unsafe")
    assert answer.detail == (
        "a stays awake: its backup would not fit into host RAM above the reserve"
        " (20GiB of host RAM for its backup, 12GiB left)"
    )
    assert (answer.wanted, answer.found) == ("20GiB of host RAM for its backup", "12GiB left")
    assert answer.hint


def test_a_sleep_that_waited_for_its_turn_is_measured_again_when_it_comes():
    busy = Task(9, "b", TaskKind.SLEEP, 1, Cause(CauseKind.RULE, "nap"), plan_sleep(1, fingerprint_wanted=False), 0.0)
    busy = replace(busy, claims=frozenset({HOST_LOCK}), running=True)
    b = record("b", Life(State.DRAINING, Weights.LOADED))
    made = replace(world(record("a"), b), tasks={"b": busy})
    queued = step(made, [SleepAsked(7, "a", "root", 1, 60.0)], NOW).world
    assert queued.models["a"].waiters
    turn = step(replace(queued, tasks={}, host=host(20 * GIB)), [Tick()], NOW)
    assert [c.problem for c in turn.commands if isinstance(c, Answer)] == ["level_unsafe"]
    assert turn.world.tasks == {}


def drained(made: World) -> Turn:
    """It drained for as long as its caller allowed; now nothing runs in it any more."""
    task = made.tasks["a"]
    assert task.plan.steps[task.cursor].verb is Verb.CONFIRM_IDLE
    return step(made, [StepEnded("a", task.id, task.cursor, StepEnd.DONE, Evidence(seen=seen()))], NOW)


@pytest.mark.parametrize(
    ("available", "limit", "fits"), [(90, None, True), (20, None, False), (90, 22, False)], ids=str
)
def test_a_sleep_that_drained_for_long_is_measured_again_before_it_is_sent(available, limit, fits):
    """Host RAM that was free when its gate was shut may be somebody else's by now: the kernel would end the engine."""
    begun = step(world(record("a", fingerprint=KNOWN_ANSWER)), [SleepAsked(7, "a", "root", 1, 600.0)], NOW).world
    look = seen(unit_memory=unit(5 * GIB, limit and limit * GIB))
    models = {"a": replace(begun.models["a"], seen=look)}
    turn = drained(replace(begun, models=models, host=host(available * GIB)))
    sent = [c.order.step.verb for c in turn.commands if isinstance(c, RunStep)]
    assert sent == ([Verb.SLEEP_L1] if fits else [])
    found = turn.world.models["a"]
    assert found.life.state is (State.FALLING_ASLEEP if fits else State.AWAKE)
    if not fits:
        answer = next(c for c in turn.commands if isinstance(c, Answer))
        assert answer.problem == "level_unsafe"
        assert "its backup would not fit" in answer.detail
        assert "its backup would not fit" in found.reason
        assert (turn.world.tasks, found.failure) == ({}, None)


def test_who_asked_for_level_2_meanwhile_is_not_refused_for_a_backup():
    made = proven(world(record("a", fingerprint=KNOWN_ANSWER, spec={"max_level": 2}), rules=(nap(5.0),)))
    napping = step(made, [Tick()], NOW).world
    assert napping.tasks["a"].level == 1
    deeper = step(napping, [SleepAsked(7, "a", "root", 2, 600.0)], NOW).world
    turn = drained(replace(deeper, host=host(20 * GIB)))
    assert not [c for c in turn.commands if isinstance(c, Answer)]
    assert (turn.world.tasks["a"].level, turn.world.tasks["a"].cause.kind) == (2, CauseKind.OPERATOR)


def test_level_2_pins_nothing_and_is_sent_all_the_same():
    begun = step(world(record("a", fingerprint=KNOWN_ANSWER)), [SleepAsked(7, "a", "root", 1, 600.0)], NOW).world
    deep = replace(begun.tasks["a"], level=2, plan=plan_sleep(2, fingerprint_wanted=False))
    turn = drained(replace(begun, tasks={"a": deep}, host=host(20 * GIB)))
    assert [c.order.step.verb for c in turn.commands if isinstance(c, RunStep)] == [Verb.SLEEP_L2]


# --- prime --------------------------------------------------------------------------------------------------------


def primed(**more: object) -> object:
    fields: dict[str, object] = {"spec": {"prime": True}, "footprint": Footprint(), **more}
    return world(record("a", AWAKE, **fields), rules=(nap(36_000.0),))


def begun(made: object) -> list[str]:
    return [str(t.cause.kind) for t in step(made, [Tick()], NOW).world.tasks.values()]


def test_a_model_to_be_primed_sleeps_in_its_first_idle_moment_and_is_owed_its_wake():
    made = primed()
    assert begun(made) == ["prime"]
    task = step(made, [Tick()], NOW).world.tasks["a"]
    assert (task.level, task.kind) == (1, TaskKind.SLEEP)


@pytest.mark.parametrize(
    "more",
    [
        {"footprint": Footprint(host_pinned=True)},
        {"prime_failed": True},
        {"last_active_s": NOW.mono_s - 1.0},
        {"in_flight": 1},
        {"spec": {"prime": True, "max_level": 0}},
        {"spec": {"prime": True, "mode": Mode.OBSERVE}},
        {"spec": {}},
        {"facts": replace(FACTS, checkpoint_bytes=60 * GIB)},
    ],
)
def test_it_is_not_primed_twice_nor_in_use_nor_where_its_backup_does_not_fit(more):
    assert begun(primed(**more)) == []


# --- rehearsals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("available", "would"), [(48 * GIB, "wake"), (48 * GIB - 1, "refuse")])
def test_a_rehearsed_wake_counts_the_backups_of_all_its_victims(available, would):
    """Two neighbours must sleep, each with a backup of 20 GiB, beside a reserve of 8."""
    small = Footprint(freed={"GPU-0": (14 * GIB,)})
    sleeper = record("a", Life(State.ASLEEP_L1, Weights.OFFLOADED))
    made = world(sleeper, record("b", footprint=small), record("c", footprint=small), free=2 * GIB)
    plan = plan_of_wake(replace(made, host=host(available)), "a", NOW)
    assert plan.would == would
    assert [v.offer.model for v in plan.victims] == (["b", "c"] if would == "wake" else [])
