"""Finds the point of a frontier that meets a target when it is played: few plays, each where the last one points to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sleepd.tuning.curves import Frontier, Point
from sleepd.tuning.target import Aim, Measure, Target, measure_point

Played = TypeVar("Played")


@dataclass(frozen=True, slots=True)
class Trial(Generic[Played]):
    """A point that was played, and what it came to."""

    at: int
    point: Point
    measure: Measure
    played: Played


def search(
    frontier: Frontier,
    target: Target,
    play: Callable[[Point], tuple[Measure, Played]],
    *,
    plays: int,
) -> tuple[Trial[Played], ...]:
    """Play at most `plays` (1 or more) points of the frontier; return the trials, the one that meets the target best
    first. Where the gaps foretell it well, two plays settle it: a point, and its neighbour that does not do.
    """
    forecasts = [target.value(measure_point(point, frontier.requests)) for point in frontier.points]
    # Along the frontier waits fall and GiB-hours rise: what meets the target is at one end of it.
    fewer_is_less = target.aim is Aim.GIB_HOURS
    low, high = -1, len(forecasts)
    trials: list[Trial[Played]] = []
    while len(trials) < plays and high - low > 1:
        found = [(forecasts[trial.at], target.value(trial.measure)) for trial in trials]
        at = _foretold(forecasts, _forecast_of(target.ceiling, found), fewer_is_less=fewer_is_less)
        if not low < at < high:
            at = (low + high) // 2 if trials else min(max(at, 0), len(forecasts) - 1)
        measure, played = play(frontier.points[at])
        trial = Trial(at, frontier.points[at], measure, played)
        trials.append(trial)
        if target.is_met(measure) is fewer_is_less:
            low = at
        else:
            high = at
    best = trials[0]
    for trial in trials[1:]:
        if target.is_better(trial.measure, best.measure):
            best = trial
    return (best, *(trial for trial in trials if trial is not best))


def _forecast_of(value: float, found: Sequence[tuple[float, float]]) -> float:
    """Return the forecast that comes to this value when it is played, by what the last two (forecast, value) were: one
    tells how much neighbours add in proportion, two what no timeout changes besides."""
    if not found:
        return value
    forecast, came_to = found[-1]
    if len(found) > 1:
        apart, apart_played = forecast - found[-2][0], came_to - found[-2][1]
        if apart * apart_played > 0:
            return forecast + (value - came_to) * apart / apart_played
    return value * forecast / came_to if forecast > 0 and came_to > 0 else value


def _foretold(forecasts: list[float], ceiling: float, *, fewer_is_less: bool) -> int:
    """The last point whose forecast is at most the ceiling, where forecasts rise; else the first. -1 or their number
    where there is none."""
    if fewer_is_less:
        return max((at for at, value in enumerate(forecasts) if value <= ceiling), default=-1)
    return min((at for at, value in enumerate(forecasts) if value <= ceiling), default=len(forecasts))
