"""A sleep that was granted and had to wait for its turn: what forbids it meanwhile forbids it still."""

from dataclasses import replace

import pytest
from core_worlds import FACTS, KNOWN_ANSWER, NOW, host, proven, record, seen, world

from sleepd.core.commands import Answer, AnswerKind, RunStep
from sleepd.core.events import HostLooked
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.plan import plan_sleep
from sleepd.core.seen import UnitMemory
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.wishes import HoldAsked, PinAsked, SleepAsked


def waiting(level: int = 1, **more):
    """Someone asked for `a` to sleep while another model's transition holds the GPU; that has just ended."""
    made = proven(world(record(fingerprint=KNOWN_ANSWER), record("b")))
    busy = Task(
        7, "b", TaskKind.SLEEP, 1, Cause(CauseKind.OPERATOR, "x"), plan_sleep(1, fingerprint_wanted=False), NOW.mono_s
    )
    busy = replace(busy, claims=frozenset({"GPU-0", "host"}), running=True)
    asked = step(replace(made, tasks={"b": busy}), [SleepAsked(1, "a", "test", level, 600.0, **more)], NOW)
    assert [c for c in asked.commands if isinstance(c, Answer)] == [], "it waits for its turn"
    return asked.world


def turn_comes(made, *events):
    done = step(replace(made, tasks={}), [*events, HostLooked(host(90 * GIB))], NOW)
    told = [(c.kind, c.problem) for c in done.commands if isinstance(c, Answer) and c.waiter == 1]
    return told, [c.order.model for c in done.commands if isinstance(c, RunStep)]


@pytest.mark.parametrize("level", [1, 2])
def test_it_goes_ahead_where_nothing_changed(level):
    assert turn_comes(waiting(level)) == ([], ["a"])


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (PinAsked(2, "a", "somebody", True), "pinned"),
        (HoldAsked(2, "a", "hold-1", 1000, "somebody", 60.0, "work"), "held"),
    ],
    ids=["pinned", "held"],
)
def test_who_protects_it_meanwhile_is_heard_and_force_is_not_stopped(event, problem):
    event = replace(event, model="a")
    assert turn_comes(waiting(), event) == ([(AnswerKind.REFUSED, problem)], [])
    assert turn_comes(waiting(force=True), event) == ([], ["a"])


def test_level_2_is_not_used_on_another_engine_than_it_was_granted_for():
    """Its server was restarted with adapters, faster than anybody noticed that it was gone."""
    made = waiting(2)
    other = replace(FACTS, version="0.30.0", release=(0, 30), lora=True)
    models = {**made.models, "a": replace(made.models["a"], facts=other)}
    assert turn_comes(replace(made, models=models)) == ([(AnswerKind.REFUSED, "level_unsafe")], [])


def test_limits_are_read_again_after_anothers_backup():
    """What the other pinned counts against the slice of both, and the last reading does not know of it."""
    made = waiting()
    unit = UnitMemory(10 * GIB, 10 * GIB, True, 48 * GIB, 10 * GIB, "memory.max of system.slice")
    a = replace(made.models["a"], seen=seen(unit_memory=unit))
    b = replace(made.models["b"], settled_s=NOW.mono_s)
    made = replace(made, models={"a": a, "b": b})
    assert turn_comes(made) == ([], [])
    assert isinstance(a.seen, Known)
    read = replace(a, seen=replace(a.seen, asked_at_s=NOW.mono_s), unit_read_s=NOW.mono_s)
    assert turn_comes(replace(made, models={"a": read, "b": b})) == ([], ["a"])
