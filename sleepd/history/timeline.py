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

NOTHING = ("", "")
"""The state and cause of what is not on record."""
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
    """Return stays, none of which overlaps another, as runs that begin at whole steps; the last ends with the span.

    A step shows what lasted longest within it, but for `LASTING`.
    """
    shown: list[tuple[str, str]] = [NOTHING] * ceil(length_s / step_s)
    shared: dict[int, dict[tuple[str, str], float]] = {}
    for begin_s, end_s, state, cause in stays:
        begin_s, end_s = max(begin_s, 0.0), min(end_s, length_s)
        if begin_s >= end_s:
            continue
        what, first, last = (state, cause), int(begin_s // step_s), int(end_s // step_s)
        if last > first + 1:
            shown[first + 1 : last] = [what] * (last - first - 1)
        for index in {first, last}:
            within_s = min(end_s, (index + 1) * step_s) - max(begin_s, index * step_s)
            if within_s > 0:
                step = shared.setdefault(index, {})
                step[what] = step.get(what, 0.0) + within_s
    for index, step in shared.items():
        step[NOTHING] = min(step_s, length_s - index * step_s) - sum(step.values())
        shown[index] = max(step, key=lambda what: (what[0] in LASTING, step[what]))
    runs: list[Run] = []
    for index, what in enumerate(shown):
        if not index or what != shown[index - 1]:
            runs.append((index * step_s, *what))
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
