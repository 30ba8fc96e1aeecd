"""Made-up traffic: requests of many models over days, each model with a habit of its own, all of it from one seed.

Habits: the hours of a day, the hours of a working week, bursts with silence between them, jobs at fixed hours with a
little jitter, and habits that shift by hours over the weeks. None was fitted to anything: they are there so that a
policy which only suits one trace is found out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sleepd.core.units import Seconds
from sleepd.replay.trace import Arrival, Trace

DAY_S: Seconds = 86400.0
HOUR_S: Seconds = 3600.0
HABITS = ("daily", "weekly", "bursty", "cron", "drifting")


@dataclass(frozen=True, slots=True)
class Habit:
    """How one model is asked for. `per_h`: requests an hour when it is busiest; `peak_h`: the hour of day in which that
    is; `noise`: the share of requests that come at any time."""

    kind: str
    per_h: float
    peak_h: float
    width_h: float
    noise: float
    drift_h: float = 0.0
    """By so many hours a day its peak shifts."""


def draw_habit(random: Random) -> Habit:
    kind = random.choice(HABITS)
    per_h = 10 ** random.uniform(0.3, 1.9)
    drift_h = random.uniform(0.2, 0.8) * random.choice((-1, 1)) if kind == "drifting" else 0.0
    return Habit(kind, per_h, random.uniform(0, 24), random.uniform(1.0, 5.0), random.choice((0.0, 0.02, 0.1)), drift_h)


def make_traffic(seed: int, models: int, days: int) -> Trace:
    """Return the trace of this seed; it begins on a Monday at midnight."""
    random = Random(seed)
    arrivals: list[Arrival] = []
    for number in range(models):
        name, own = f"model-{number:02}", Random(random.getrandbits(64))
        habit = draw_habit(own)
        arrivals += [
            Arrival(round(at_s, 3), name, _tokens(own, 900), _tokens(own, 150))
            for at_s in _moments(habit, own, days * DAY_S)
        ]
    return Trace(tuple(sorted(arrivals)))


def _moments(habit: Habit, random: Random, end_s: Seconds) -> Iterator[Seconds]:
    if habit.kind == "bursty":
        yield from _bursts(habit, random, end_s)
    elif habit.kind == "cron":
        yield from _jobs(habit, random, end_s)
    else:
        yield from _by_rate(habit, random, end_s)


def _by_rate(habit: Habit, random: Random, end_s: Seconds) -> Iterator[Seconds]:
    """A Poisson process whose rate is that of the hour: the highest rate, thinned."""
    at_s = 0.0
    while (at_s := at_s + random.expovariate(habit.per_h / HOUR_S)) < end_s:
        if random.random() < max(habit.noise, _share(habit, at_s)):
            yield at_s


def _share(habit: Habit, at_s: Seconds) -> float:
    """The rate at this moment as a share of the highest."""
    day, hour = divmod(at_s / HOUR_S, 24.0)
    if habit.kind == "weekly" and day % 7 >= 5:
        return 0.0
    apart_h = abs((hour - habit.peak_h - habit.drift_h * day + 12.0) % 24.0 - 12.0)
    return math.exp(-((apart_h / habit.width_h) ** 2))


def _bursts(habit: Habit, random: Random, end_s: Seconds) -> Iterator[Seconds]:
    """Some minutes of many requests, then hours of none; how long is heavy-tailed."""
    at_s = random.uniform(0, 4 * HOUR_S)
    while at_s < end_s:
        until_s = at_s + random.uniform(60.0, 900.0)
        while at_s < min(until_s, end_s):
            yield at_s
            at_s += random.expovariate(10 * habit.per_h / HOUR_S)
        at_s += min(2 * DAY_S, 900.0 * random.paretovariate(0.9))


def _jobs(habit: Habit, random: Random, end_s: Seconds) -> Iterator[Seconds]:
    """Every so many hours a handful of requests, a minute or two early or late, and now and then none."""
    every_s = random.choice((1, 2, 3, 6, 12, 24)) * HOUR_S
    begin_s = habit.peak_h * HOUR_S % every_s
    while begin_s < end_s:
        if random.random() < 0.95:
            at_s = max(0.0, begin_s + random.gauss(0.0, 60.0))
            for _ in range(random.randint(1, 8)):
                if at_s < end_s:
                    yield at_s
                at_s += random.expovariate(1 / 10.0)
        begin_s += every_s


def _tokens(random: Random, median: float) -> int:
    return min(30_000, max(1, round(random.lognormvariate(math.log(median), 0.8))))
