"""Turns, where several models want the same room: how long one lasts, and who is next. Arithmetic on moments, no more.

A turn begins with a wake. It lasts `min_awake` at least, and as long as it pleases while nobody waits. Whoever waits
has patience with a model in use, a share of its `max_wait`; with one that nobody uses it has none. When a turn is over
is settled here (docs/turns.md); who has to give theirs up is a question of cost (core/victims.py), and what is done
about it is in core/handover.py.
"""

from collections.abc import Iterable

from sleepd.core.conditions import is_busy
from sleepd.core.durations import expected_wake
from sleepd.core.life import wakes_from
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.record import AskKind, ModelRecord, is_used_since_wake, placed_s, wakes_asked
from sleepd.core.units import MonotonicS, Seconds

LEAST_TURN_S = 1.0
"""Whatever min_awake says: whoever waited for the wake gets in."""
LULL_SHARE = 0.1
"""A pause of this share of min_awake between requests is a pause: only after it does a model in use count as idle."""
BARRED_AFTER_S = 5.0
"""A wish refused its GPUs for this long, or for half of its max_wait, bars younger ones from them, so that wide models
never starve."""
PATIENCE_WITH_LOWER, PATIENCE, PATIENCE_WITH_HIGHER = 0.0, 0.5, 0.75
"""The share of max_wait after which a model of lower, equal or higher priority gives up its turn though it is used."""
MOST_RANKS = 10
"""Priorities further apart than this weigh no more than these."""


def least_turn_s(spec: ModelSpec) -> Seconds:
    """How long a turn lasts at least."""
    return max(spec.min_awake_s, LEAST_TURN_S)


def wake_and_turn_s(record: ModelRecord) -> Seconds:
    """How long the wake of a sleeper and the turn after it should take at least."""
    return expected_wake(record, wakes_from(record.life.state)).seconds + least_turn_s(record.spec)


def lowest_priority(settings: Settings) -> int:
    """The lowest priority that any model has."""
    return min((spec.priority for spec in settings.models.values()), default=0)


def is_awaited(record: ModelRecord) -> bool:
    """Whether a caller waits for it, or a person wants it started: that goes on being wanted without a caller, and no
    gate is kept shut for it."""
    return record.start_wanted is not None or wakes_asked(record)


def turn_due_s(record: ModelRecord, lowest: int) -> MonotonicS:
    """By when it should have its turn, for the order among those who wait: the earliest is next. Infinite where nobody
    waits for it.

    Half of max_wait after it was asked for at the lowest priority; a quarter at the next, and so on. So whoever has
    waited for half of its max_wait is overtaken by nobody any more who asks from then on: what is left is for the
    turns of those who come before it, or its clients would be told to come back while others have their second turn.
    """
    weight = PATIENCE * 0.5 ** min(MOST_RANKS, max(0, record.spec.priority - lowest))
    return min((asked_s + weight * span_s for asked_s, span_s in _wishes(record)), default=float("inf"))


def barred_from_s(record: ModelRecord) -> MonotonicS:
    """From when on its GPUs are kept from whoever comes after it. Infinite where nobody waits for it."""
    return min(
        (asked_s + min(BARRED_AFTER_S, PATIENCE * span_s) for asked_s, span_s in _wishes(record)), default=float("inf")
    )


def pressing_s(record: ModelRecord) -> MonotonicS:
    """From when on it is overtaken by nobody who asks later, and those before it have no patience any more that would
    keep it waiting. Infinite where nobody waits for it."""
    return min((asked_s + PATIENCE * span_s for asked_s, span_s in _wishes(record)), default=float("inf"))


def turn_over_s(
    holder: ModelRecord, waiting: ModelRecord, switch_s: Seconds, behind_s: MonotonicS = float("inf")
) -> MonotonicS:
    """From when on `holder` has to give up its turn to `waiting`. Infinite where nobody waits for that.

    `behind_s`: from when on somebody who comes after `waiting` is pressing, whom its patience keeps waiting too.

    `switch_s`: what the sleep and the wake between them take. Patience leaves at least that much of max_wait. One that
    is not used waits for no patience to end.
    """
    rests_s = max(holder.not_before_s, holder.cooldown_until_s)
    idle_s = max(holder.awake_since_s + holder.spec.min_awake_s, rests_s, lull_ends_s(holder))
    used_s = max(holder.awake_since_s + least_turn_s(holder.spec), rests_s, holder.turn_until_s)
    share = _patience(waiting.spec.priority, holder.spec.priority)
    aged_s = min(
        (asked_s + max(0.0, min(share * span_s, span_s - switch_s)) for asked_s, span_s in _wishes(waiting)),
        default=float("inf"),
    )
    aged_s = min(aged_s, behind_s)
    return max(used_s, aged_s) if is_busy(holder) or holder.holds else min(idle_s, max(used_s, aged_s))


def least_wait_s(spec: ModelSpec, others: Iterable[ModelSpec], places: int) -> Seconds:
    """The least that a request waits which comes as its model's turn has just ended, where all of these models are
    wanted all the time and only `places` of them are awake at once. Only the turns are counted that certainly come
    before its own, each at its shortest: of models that are no less important and have no longer to wait. How long
    switches take is not known here; they come on top."""
    ahead = [o for o in others if o.priority >= spec.priority and o.max_wait_s <= spec.max_wait_s]
    rounds = max(0, len(ahead) + 1 - places) // places
    return sum(sorted(least_turn_s(o) for o in ahead)[:rounds])


def lull_ends_s(record: ModelRecord) -> MonotonicS:
    """Until when a model counts as used, though no request runs: where it was not used since it woke, until whoever
    waited for that is in; else to the end of a pause between requests. 0 where its turn is over."""
    if record.yields is not None:
        return 0.0
    if not is_used_since_wake(record):
        return record.awake_since_s + LEAST_TURN_S
    return record.last_active_s + LULL_SHARE * record.spec.min_awake_s


def _patience(waiting: int, holder: int) -> float:
    if waiting == holder:
        return PATIENCE
    return PATIENCE_WITH_LOWER if holder < waiting else PATIENCE_WITH_HIGHER


def _wishes(record: ModelRecord) -> list[tuple[MonotonicS, Seconds]]:
    """When each wish took its place that somebody waits for, and how long it may wait at most: max_wait, or what its
    caller has."""
    return [
        (placed_s(w), min(record.spec.max_wait_s, w.deadline_s - w.asked_s))
        for w in record.waiters
        if w.ask is AskKind.WAKE and w.attended
    ]
