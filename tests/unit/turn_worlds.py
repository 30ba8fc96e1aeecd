"""Turns on one GPU, each with a reading of it that is as new."""

from dataclasses import replace

from core_worlds import gpus, later

from sleepd.core.events import GpusLooked, Tick
from sleepd.core.machine import step
from sleepd.core.model import Now
from sleepd.core.units import GIB

TIGHT = 20 * GIB
"""Free beside one that is awake: room for nobody else."""


def looked(now: Now, free: int = TIGHT) -> GpusLooked:
    return GpusLooked(replace(gpus(free), asked_at_s=now.mono_s, at_s=now.mono_s))


def turn(made, seconds: float = 0.0, *events):
    """The turn at this moment."""
    now = later(seconds)
    return step(made, [looked(now), *events, Tick()], now)
