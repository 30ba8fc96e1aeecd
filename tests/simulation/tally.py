"""What all played scenarios together came to, printed at the end of a run."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from sleepd.sim.scenario.play import Outcome

Tell: TypeAlias = Callable[[Outcome], None]
Told: TypeAlias = tuple[int, int, dict[str, int]]
"""Scenarios, transitions, how often each invariant was looked at: as plain data, which travels between processes."""


def summary(told: Iterable[Told]) -> list[str]:
    """Lines for people; none when no scenario was played."""
    scenarios, transitions, checked = 0, 0, Counter[str]()
    for some, ended, looked in told:
        scenarios, transitions = scenarios + some, transitions + ended
        checked.update(looked)
    if not scenarios:
        return []
    head = f"{scenarios:,} scenarios, {transitions:,} transitions, {checked.total():,} invariants checked:"
    return [head, *(f"{count:>12,}  {name}" for name, count in checked.most_common())]
