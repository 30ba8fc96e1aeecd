"""When rules that go by what is foreseen change their minds by time alone.

What is foreseen is another number every few minutes; a rule asks no more than on which side of a bound it lies. So the
moments ahead at which the number changes are gone through, and the first is told at which a rule says something else.
"""

from bisect import bisect_right
from collections.abc import Iterator
from math import ceil, inf
from typing import TypeAlias

from sleepd.core.break_even import GRAIN_S, crossings
from sleepd.core.calendar import Calendar, offset_until
from sleepd.core.daybook import DAY_S
from sleepd.core.expected import look_out, next_change
from sleepd.core.foresight import GRID_S, Terms, clocks_apart_s, last_hundredth_s, terms_of
from sleepd.core.model import Now
from sleepd.core.record import ModelRecord
from sleepd.core.rules import AHEAD, PredictedIdle, Rule
from sleepd.core.units import HOUR_S, MonotonicS, Seconds
from sleepd.core.world import World

LOOKS_S: tuple[Seconds, ...] = (60.0, 240.0, 960.0, 3840.0)
"""How long a silence is when it is looked ahead again: a silence lasts for about as long again as it lasted so far, and
what lies ahead of its end was looked at in vain."""
LOOK_AHEAD_S: Seconds = 2 * HOUR_S
"""How far is looked ahead at most."""
GRAINS_S = (-GRAIN_S, 0.0, 2 * GRAIN_S)
"""What floats cannot tell from a moment is so with one of the hundredths of a second so near to it."""

Asked: TypeAlias = tuple[tuple[Rule, PredictedIdle], ...]
"""Conditions on what is foreseen, each with its rule."""


def next_turn_s(terms: Terms, calendar: Calendar, now: Now) -> MonotonicS:
    """When rules may say something else by what is foreseen, should nothing but time change: the first of them does, or
    it was not looked further ahead. The same whenever one asks before it, as long as the clocks agree: see
    `clocks_apart_s`."""
    asked, now_s = _asked(terms), now.mono_s
    costs_s = () if terms.deeper_s is None else (terms.deeper_s,)
    until_s = min(_look_again_s(terms, now_s), _same_clock_until_s(calendar, now))
    return _first_change_s(terms, asked, costs_s, now_s, until_s) or until_s


def change_of_mind_s(
    condition: PredictedIdle, rule: Rule, record: ModelRecord, world: World, now: Now
) -> MonotonicS | None:
    """When time alone changes whether the condition holds; None: not within two hours, or local time is not known."""
    terms = terms_of(record, world, now)
    if terms is None:
        return None
    until_s = min(now.mono_s + LOOK_AHEAD_S, _same_clock_until_s(world.calendar, now))
    return _first_change_s(terms, ((rule, condition),), (), now.mono_s, until_s)


def _asked(terms: Terms) -> Asked:
    return tuple((rule, c) for rule in terms.rules for c in rule.conditions if isinstance(c, PredictedIdle))


def _first_change_s(
    terms: Terms, asked: Asked, costs_s: tuple[Seconds, ...], now_s: MonotonicS, until_s: MonotonicS
) -> MonotonicS | None:
    """The first moment before `until_s` at which a condition holds that did not, or no longer does, or a sleep becomes
    worth its cost, or no longer is."""
    from_s = last_hundredth_s(now_s)  # what is foreseen now is what was then
    outlook = look_out(terms.habits, from_s + terms.local_ahead_s)

    def said(at_s: MonotonicS) -> list[bool]:
        found = terms.at(at_s, outlook)
        return [found.holds(c, rule) for rule, c in asked] + [found.pays(cost_s) for cost_s in costs_s]

    hundredths = {
        ceil((moment_s + grain_s) / GRID_S)
        for moment_s in _moments(terms, asked, costs_s, from_s, until_s)
        for grain_s in GRAINS_S
    }
    ahead_s = [at_s for at_s in (n * GRID_S for n in sorted(hundredths)) if now_s < at_s < until_s]
    says = said(from_s) if ahead_s else []
    return next((at_s for at_s in ahead_s if said(at_s) != says), None)


def _moments(
    terms: Terms, asked: Asked, costs_s: tuple[Seconds, ...], now_s: MonotonicS, until_s: MonotonicS
) -> Iterator[MonotonicS]:
    """When what is foreseen is another number, or may be risked or may no longer: past ones too."""
    local_s, until_local_s = now_s + terms.local_ahead_s, until_s + terms.local_ahead_s
    while (local_s := next_change(terms.habits, local_s)) < until_local_s:
        yield local_s - terms.local_ahead_s
    if terms.budget_until_s is not None:
        yield terms.budget_until_s
    account, price_s = terms.account, terms.price_s
    for bound_s in (price_s, *costs_s):
        yield from crossings(account, price_s, bound_s)
    for rule, condition in asked:
        if rule.action.kind in AHEAD:
            yield from crossings(account, price_s, price_s + condition.seconds + terms.wake_s)
        else:
            yield account.at_s + condition.seconds - account.silent_s


def _look_again_s(terms: Terms, now_s: MonotonicS) -> MonotonicS:
    """When it is to be looked ahead again: once the silence lasted a few times as long, and with every midnight, from
    which on another day counts as observed."""
    local_s, last_s = now_s + terms.local_ahead_s, terms.habits.last_s
    silent_s = local_s + GRAIN_S - last_s
    following = bisect_right(LOOKS_S, silent_s)
    if silent_s < 0:
        again_s = next_change(terms.habits, local_s)
    elif following < len(LOOKS_S):
        again_s = last_s + LOOKS_S[following]
    else:
        again_s = last_s + (silent_s // LOOK_AHEAD_S + 1) * LOOK_AHEAD_S
    midnight_s = local_s // DAY_S * DAY_S
    moments_s = (again_s, midnight_s, midnight_s + DAY_S)
    return min(s for s in (_told_at(m - terms.local_ahead_s, now_s) for m in moments_s) if s is not None)


def _same_clock_until_s(calendar: Calendar, now: Now) -> MonotonicS:
    """Until when local time is known, and its zone as far from UTC as it is now."""
    return _told_at(offset_until(calendar, now.wall_s) - clocks_apart_s(now), now.mono_s) or inf


def _told_at(moment_s: MonotonicS, now_s: MonotonicS) -> MonotonicS | None:
    """The first of the hundredths around the moment that is to come; None: it is past."""
    for grain_s in GRAINS_S:
        at_s = ceil((moment_s + grain_s) / GRID_S) * GRID_S
        if at_s > now_s:
            return at_s
    return None
