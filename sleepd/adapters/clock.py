"""Clocks: the machine's, and one that runs faster, for the demo and for tests of the real daemon."""

import asyncio
import random
import time

from sleepd.core.model import Now
from sleepd.core.units import Seconds

_ENTROPY = random.Random()
"""Jitter is no secret: what the kernel gave once is enough for a daemon that asks for the time hundreds of times a
second."""


class SystemClock:
    """CLOCK_MONOTONIC for durations, the wall clock for calendars, entropy for jitter."""

    def now(self) -> Now:
        return Now(time.monotonic(), time.time(), _ENTROPY.getrandbits(32))

    async def sleep(self, seconds: Seconds) -> None:
        await asyncio.sleep(seconds)


class ScaledClock:
    """A clock that runs `speed` times as fast from the moment it was made; sleeping takes as much less."""

    def __init__(self, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"wanted a speed above 0, found {speed}")
        self.speed = speed
        self._mono_s, self._wall_s = time.monotonic(), time.time()

    def now(self) -> Now:
        passed_s = (time.monotonic() - self._mono_s) * self.speed
        return Now(self._mono_s + passed_s, self._wall_s + passed_s, _ENTROPY.getrandbits(32))

    async def sleep(self, seconds: Seconds) -> None:
        await asyncio.sleep(seconds / self.speed)
