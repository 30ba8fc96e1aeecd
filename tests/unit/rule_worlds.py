"""Worlds of the contract's rules: local time in seconds from now, looks, and what a turn begins with a model."""

from dataclasses import replace

from core_worlds import ASLEEP, KNOWN_ANSWER, NOW, later, pressure, record, seen, world

from sleepd.core.calendar import Calendar
from sleepd.core.events import (
    ModelLooked,
    Tick,
)
from sleepd.core.explain import explain
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.rules import (
    SLEEP_1,
    WAKE,
    CronDue,
    During,
    IdleFor,
    Rule,
    Threshold,
)
from sleepd.core.seen import GpuSeen, HostSeen
from sleepd.core.units import GIB

MISSING = Missing(MissingReason.TIMED_OUT)
BOTH = frozenset({"a", "b"})
IDLE_S = 600.0
"""How long core_worlds.record() was idle."""
HOURS = During(frozenset(range(7)), 0, 60, "UTC")
CRON = CronDue("55 7 * * mon-fri", "UTC", 600.0)
L2 = Life(State.ASLEEP_L2, Weights.BLANK)


def rule(name, then, *conditions, **more):
    return Rule(name, BOTH, conditions, then, **more)


def calendar(*, spans=(), moments=(), around=NOW):
    """What local time says, in seconds from now."""
    return Calendar(
        around.wall_s - 86_400.0,
        around.wall_s + 8 * 86_400.0,
        {HOURS: tuple((around.wall_s + a, around.wall_s + b) for a, b in spans)},
        {CRON: tuple(around.wall_s + at for at in moments)},
        ((around.wall_s - 86_400.0, 3600.0),),
    )


def play(made, *events, at_s=0.0):
    return step(made, events or (Tick(),), later(at_s))


def begun(turn, model="a"):
    """What was begun with the model: "sleep 1", "wake", or nothing."""
    task = turn.world.tasks.get(model)
    return f"{task.kind} {task.level}" if task else ""


def kinds(turn):
    return [n.kind for n in turn.notes]


def looked(model="a", at_s=0.0, **more):
    moment = NOW.mono_s + at_s
    return ModelLooked(model, Known(replace(seen(**more).value), moment, moment))


def fresh(made, at_s=0.0):
    """The same world with readings of that moment: nothing became stale meanwhile."""
    gpus = replace(made.gpus, asked_at_s=NOW.mono_s + at_s, at_s=NOW.mono_s + at_s)
    return replace(made, gpus=gpus)


def report(made, name, at_s=0.0, model="a"):
    return next(r for r in explain(made, model, later(at_s)).rules if r.rule == name)


NAP, NEVER = IdleFor(IDLE_S), IdleFor(IDLE_S + 1.0)
GIBS = Threshold(bytes_=10 * GIB), Threshold(bytes_=12 * GIB)
TENTH = Threshold(share=0.10), Threshold(share=0.15)


def on_host(available=90, pressed=None):
    return {"host": Known(HostSeen(100 * GIB, available * GIB, pressed), NOW.mono_s, NOW.mono_s)}


def on_gpu(free):
    return {"gpus": Known((GpuSeen("GPU-0", 0, 80 * GIB, free * GIB),), NOW.mono_s, NOW.mono_s)}


def morning(**more):
    made = world(record(life=ASLEEP, since_s=NOW.mono_s - 3600.0, **more), rules=(rule("m", WAKE, CRON),))
    return replace(made, calendar=calendar(moments=(100.0, 86_500.0)))


def deep(**more):
    return record(spec={"max_level": 2}, fingerprint=KNOWN_ANSWER, **more)


NIGHT = rule("night", SLEEP_1, IdleFor(IDLE_S))
RAM = pressure(applies_to=BOTH)
