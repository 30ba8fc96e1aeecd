"""The daemon is killed before and after every commit, and after every call was sent and answered, of five transitions.

`make test` plays a selection in which every pair of transition, release, moment and record occurs; `make soak` all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, count, product
from typing import TypeAlias

import pytest

from tests.integration.crash import MOMENTS, TRANSITIONS, Transition, kill_in
from tests.integration.harness import Host

Row: TypeAlias = tuple[Transition, str, str, int]
Tell: TypeAlias = Callable[[str, object], None]


def possible() -> list[Row]:
    """Every moment that each release's transition surely has."""
    rows: list[Row] = []
    for transition, moment in product(TRANSITIONS, MOMENTS):
        numbers = transition.commits if "commit" in moment else transition.calls
        rows += [(transition, version, moment, n + 1) for version in transition.versions for n in range(numbers)]
    return rows


def pairs(row: Row) -> set[tuple[object, object]]:
    named = [(i, value.name if isinstance(value, Transition) else value) for i, value in enumerate(row)]
    return set(combinations(named, 2))


def pairwise() -> list[Row]:
    """A few rows in which every possible pair of two values occurs: greedy, the same ones each time."""
    rows = possible()
    missing = set().union(*(pairs(row) for row in rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def name(row: Row) -> str:
    transition, version, moment, number = row
    return f"{transition.name}, {version}, {moment} {number}"


@pytest.mark.parametrize("row", pairwise(), ids=name)
def test_killed(host: Host, row: Row, record_property: Tell) -> None:
    transition, version, moment, number = row
    reached = kill_in(transition, host, version, moment, number)
    assert reached, f"the transition ended before there was a {moment} {number}: its numbers in crash.py are too high"
    record_property("killed", 1)


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("version", TRANSITIONS[0].versions)
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_killed_at_every(
    hosts: Callable[[], Host], transition: Transition, version: str, moment: str, record_property: Tell
) -> None:
    """Of each kind of moment every single one, until the transition ends before the next."""
    if version not in transition.versions:
        return
    least = transition.commits if "commit" in moment else transition.calls
    for number in count(1):
        if not kill_in(transition, hosts(), version, moment, number):
            break
    assert number > least, f"{transition.name} has only {number - 1} of {moment}"
    record_property("killed", number - 1)
