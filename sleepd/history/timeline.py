"""States as they are drawn: runs of equal states on a grid of steps, so that an answer is as long as a line is wide."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

from sleepd.core.units import Bytes, Seconds, WallS

Stay: TypeAlias = tuple[float, float, str, str]
"""A model was in a state from a moment to another, and why: seconds since the span began, state, cause."""
Run: TypeAlias = tuple[int, str, str]
"""From a second on: state and cause, until the next run begins. The state "" stands for what is not on record."""

LASTING = frozenset({"failed", "lost"})
"""States that are shown however short they were."""


@dataclass(frozen=True, slots=True)
class GpuLine:
    """Bytes in use on a GPU, from a second of the span on until the next point."""

    gpu: str
    points: tuple[tuple[int, Bytes], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every model's runs and every GPU's line within a span."""

    from_wall_s: WallS
    to_wall_s: WallS
    step_s: int
    models: tuple[tuple[str, tuple[Run, ...]], ...]
    gpus: tuple[GpuLine, ...]


def draw(stays: Iterable[Stay], length_s: Seconds, step_s: int) -> tuple[Run, ...]:
    """Return stays as runs that begin at whole steps; the last one ends with the span.

    A step shows what lasted longest within it, but for `LASTING`.
    """
    steps: list[dict[tuple[str, str], float]] = [{} for _ in range(ceil(length_s / step_s))]
    for begin_s, end_s, state, cause in stays:
        begin_s, end_s = max(begin_s, 0.0), min(end_s, length_s)
        for index in range(int(begin_s // step_s), ceil(end_s / step_s)):
            within_s = min(end_s, (index + 1) * step_s) - max(begin_s, index * step_s)
            steps[index][state, cause] = steps[index].get((state, cause), 0.0) + within_s
    runs: list[Run] = []
    for index, step in enumerate(steps):
        first = index * step_s
        step["", ""] = min(step_s, length_s - first) - sum(step.values())
        state, cause = max(step, key=lambda each: (each[0] in LASTING, step[each]))
        if not runs or runs[-1][1:] != (state, cause):
            runs.append((first, state, cause))
    return tuple(runs)


def thin(points: Iterable[tuple[float, Bytes]], step_s: int) -> tuple[tuple[int, Bytes], ...]:
    """Return the points at which the most of a step changes. Points before the span are what it begins with."""
    most: dict[int, Bytes] = {}
    for second, value in points:
        first = max(0, int(second // step_s) * step_s)
        most[first] = max(most.get(first, 0), value) if second >= 0 else value
    found: list[tuple[int, Bytes]] = []
    for second, value in most.items():
        if not found or found[-1][1] != value:
            found.append((second, value))
    return tuple(found)
