"""What a timeout costs one model and whom it keeps waiting, read off the gaps between its requests.

A model whose timeout is T stays awake for min(gap, T) of each gap, and who ends a gap longer than T waits for its wake.
Both are exact for a model that has its GPUs for itself; what neighbours do to it only a replay tells.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sleepd.core.units import GIB, Seconds
from sleepd.replay.account import HOUR_S
from sleepd.replay.hosts import Costs
from sleepd.replay.trace import Arrival, Trace

NEVER: Seconds = math.inf
"""The timeout of a model that no idle rule puts to sleep."""
_M, _H, _D = 60.0, 3600.0, 86400.0
TIMEOUTS_S: tuple[Seconds, ...] = (
    *(30.0, 1 * _M, 2 * _M, 3 * _M, 4 * _M, 5 * _M, 6 * _M, 8 * _M, 10 * _M, 12 * _M, 15 * _M, 20 * _M, 25 * _M),
    *(30 * _M, 40 * _M, 50 * _M, 1 * _H, 1.25 * _H, 1.5 * _H, 2 * _H, 2.5 * _H, 3 * _H, 4 * _H, 5 * _H, 6 * _H),
    *(8 * _H, 10 * _H, 12 * _H, 16 * _H, 1 * _D, 2 * _D, NEVER),
)
"""Those that are tried: what a person would write, each at most twice the one before."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody used the model for `seconds`; whoever ended it, and all who came while its wake would have run, would have
    waited: `late` of them longer than is allowed."""

    seconds: Seconds
    late: int


@dataclass(frozen=True, slots=True)
class Habit:
    """One model's use over a trace. `busy_s`: it served; `first_late`: those who waited for its first wake."""

    requests: int
    busy_s: Seconds
    gaps: tuple[Gap, ...]
    first_late: int
    last_gap_s: Seconds
    """From its last request to the end of the trace: nobody waits behind it."""


class Choice(NamedTuple):
    """A timeout, the GiB-hours of GPU memory that it takes, and how many come too late under it."""

    timeout_s: Seconds
    gib_h: float
    late: int


def read_habit(arrivals: Sequence[Arrival], costs: Costs, wake_s: Seconds, allowed_s: Seconds, end_s: Seconds) -> Habit:
    """Return how one model is used. `wake_s`: of a wake; `allowed_s`: a wait that counts for nothing. Requests count as
    if each ran alone."""
    comes_s = [arrival.at_s for arrival in arrivals]
    gaps: list[Gap] = []
    busy_s, free_s = 0.0, -1.0
    for arrival in arrivals:
        begin_s = arrival.at_s
        if 0 <= free_s < begin_s:
            gaps.append(Gap(begin_s - free_s, _late(comes_s, begin_s, wake_s - allowed_s)))
        until_s = begin_s + costs.request_s(arrival.prompt_tokens, arrival.output_tokens, 0)
        busy_s += max(0.0, until_s - max(begin_s, free_s))
        free_s = max(free_s, until_s)
    first = _late(comes_s, comes_s[0], wake_s - allowed_s) if comes_s else 0
    return Habit(len(arrivals), busy_s, tuple(gaps), first, max(0.0, end_s - free_s) if comes_s else 0.0)


def _late(comes_s: Sequence[Seconds], from_s: Seconds, within_s: Seconds) -> int:
    """How many come in [from, from + within)."""
    return max(0, bisect_left(comes_s, from_s + within_s) - bisect_left(comes_s, from_s))


def choices_of(habit: Habit, costs: Costs, gpus: int, level: int, timeouts_s: Sequence[Seconds]) -> tuple[Choice, ...]:
    """Return what each timeout comes to, the cheapest first, without those that another beats or equals."""
    gib = costs.awake_bytes * gpus / GIB
    switch_s = costs.sleep_s(level) + costs.wake_s(level)
    found: list[Choice] = []
    for timeout_s in sorted(timeouts_s):
        ended = [gap for gap in habit.gaps if gap.seconds > timeout_s]
        held_s = habit.busy_s + sum(min(gap.seconds, timeout_s + switch_s) for gap in ended)
        held_s += sum(gap.seconds for gap in habit.gaps if gap.seconds <= timeout_s) + min(habit.last_gap_s, timeout_s)
        found.append(Choice(timeout_s, held_s * gib / HOUR_S, habit.first_late + sum(gap.late for gap in ended)))
    kept: list[Choice] = []
    for choice in sorted(found, key=lambda c: (c.gib_h, c.late, c.timeout_s)):
        if not kept or choice.late < kept[-1].late:
            kept.append(choice)
    return tuple(kept)


def _corners_of(choices: Sequence[Choice]) -> tuple[int, ...]:
    """The corners of the lower convex hull of lateness over cost: from one to the next every GiB-hour more saves fewer
    waits than before."""
    corners: list[int] = []
    for at, choice in enumerate(choices):
        while len(corners) > 1:
            before, last = choices[corners[-2]], choices[corners[-1]]
            if _gain(before, last) > _gain(before, choice):
                break
            corners.pop()
        corners.append(at)
    return tuple(corners)


def _gain(cheaper: Choice, dearer: Choice) -> float:
    """How many fewer come too late for each GiB-hour more."""
    return (cheaper.late - dearer.late) / max(dearer.gib_h - cheaper.gib_h, 1e-12)


@dataclass(frozen=True, slots=True)
class Point:
    """A timeout for every model, and what they come to together."""

    timeouts_s: Mapping[str, Seconds]
    gib_h: float
    late: int


@dataclass(frozen=True, slots=True)
class Frontier:
    """The best that timeouts can do without neighbours, from the cheapest on: each point lets one model stay awake
    longer than the point before, the one for which a GiB-hour saves most waits, and does so in as many steps as it has
    timeouts on the way there. `requests`: of all models."""

    points: tuple[Point, ...]
    requests: int


def frontier_of(choices: Mapping[str, Sequence[Choice]], requests: int) -> Frontier:
    """Return all points that are worth a thought, in the order of cost."""
    steps = [
        (-_gain(of[cheaper], of[dearer]), model, cheaper, dearer)
        for model, of in sorted(choices.items())
        for cheaper, dearer in pairwise(_corners_of(of))
    ]
    chosen = {model: of[0] for model, of in sorted(choices.items())}
    points = [_point(chosen)]
    for _, model, cheaper, dearer in sorted(steps):
        for choice in choices[model][cheaper + 1 : dearer + 1]:
            chosen[model] = choice
            points.append(_point(chosen))
    return Frontier(tuple(points), requests)


def _point(chosen: Mapping[str, Choice]) -> Point:
    return Point(
        {model: choice.timeout_s for model, choice in chosen.items()},
        sum(choice.gib_h for choice in chosen.values()),
        sum(choice.late for choice in chosen.values()),
    )


def arrivals_of(trace: Trace) -> dict[str, list[Arrival]]:
    """The requests of each model, in order."""
    found: dict[str, list[Arrival]] = {}
    for arrival in trace.arrivals:
        found.setdefault(arrival.model, []).append(arrival)
    return found
