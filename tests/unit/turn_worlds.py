"""Turns on one GPU, each with a reading of it that is as new."""

from dataclasses import replace

from core_worlds import ASLEEP, AWAKE, NOW, gpus, later, record, world

from sleepd.core.events import GpusLooked, Tick
from sleepd.core.forecast import eta_s
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Now
from sleepd.core.record import AskKind, Waiter
from sleepd.core.units import GIB

TIGHT = 20 * GIB
"""Free beside one that is awake: room for nobody else."""
REQUEST = Cause(CauseKind.REQUEST, "web")
PATIENCE_S = 60.0
"""Half of the max_wait of two minutes."""


def looked(now: Now, free: int = TIGHT) -> GpusLooked:
    return GpusLooked(replace(gpus(free), asked_at_s=now.mono_s, at_s=now.mono_s))


def turn(made, seconds: float = 0.0, *events):
    """The turn at this moment."""
    now = later(seconds)
    return step(made, [looked(now), *events, Tick()], now)


def wish(age_s: float = 0.0, *, number: int = 1, lasts_s: float = 3600.0) -> Waiter:
    asked_s = NOW.mono_s - age_s
    return Waiter(number, AskKind.WAKE, REQUEST, asked_s, asked_s + lasts_s)


def waiting(name: str = "qwen", age_s: float = 0.0, **more):
    return record(name, ASLEEP, **{"waiters": (wish(age_s),), **more})


def used(name: str = "chat", **more):
    return record(name, AWAKE, **{"in_flight": 1, "last_active_s": NOW.mono_s, **more})


def given_up(**more):
    """qwen has waited as long as it must, and chat is used."""
    before = world(waiting(age_s=PATIENCE_S), used(**more), free=TIGHT)
    return turn(before)


def eta_of(made, name: str, seconds: float = 0.0) -> float:
    known = replace(made.models[name], footprint=replace(made.models[name].footprint, durations={"wake1": (2.0,)}))
    found = eta_s(replace(made, models={**made.models, name: known}), name, later(seconds))
    assert found is not None
    return found
