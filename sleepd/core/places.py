"""Places in the line of callers who are told to come back: whoever does so in time has lost nothing of its age.

All doors are alike in this: the gateway, its gate for proxies, the socket API, and clients of a replay. Nobody waits
meanwhile, so a place that is kept costs nobody a turn; it counts from the next wish on. Only who was told to come back
at once goes on waiting for a moment.
"""

from sleepd.core.draft import Draft
from sleepd.core.forecast import come_back_s
from sleepd.core.model import Cause, CauseKind
from sleepd.core.record import AskKind, Place, Waiter, placed_s
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.wishes import AT_ONCE_S

LEAST_KEPT_S: Seconds = 60.0
"""For how long beyond the moment that it was told a caller may come back and has its place; max_wait where longer."""
SOON_BACK_S: Seconds = 5.0
"""Callers who are told to come back at once count as waiting for so long. A gate that opened meanwhile would let
requests in that take as long as those before: who may wait for less than they take would never be served."""
RETURNING = -1
"""The one wish of a model's callers who were told to come back at once; callers' begin at 1."""
RETURN = Cause(CauseKind.REQUEST, "told to come back")


def is_returning(waiter: Waiter) -> bool:
    """Whether it stands for callers who were told to come back at once: nobody waits for its answer, and what they
    asked for is known already."""
    return waiter.id == RETURNING


def place_of(draft: Draft, name: str) -> MonotonicS | None:
    """Return since when callers wait for the model, those included who were told to come back; None where none does."""
    waiters = (w for w in draft.models[name].waiters if w.ask is AskKind.WAKE and w.attended)
    return min((placed_s(w) for w in waiters), default=None)


def keep_place(draft: Draft, name: str, since_s: MonotonicS | None) -> None:
    """Keep the place that was taken at `since_s` until max_wait, a minute at least, after its callers should be back,
    as things stand."""
    if since_s is None:
        return
    record, again_s = draft.models[name], come_back_s(draft.world(), name, draft.now)
    kept_s = (again_s or 0.0) + max(LEAST_KEPT_S, record.spec.max_wait_s)
    waiters = tuple(w for w in record.waiters if not is_returning(w))
    if again_s is not None and again_s <= AT_ONCE_S:
        wish = Waiter(RETURNING, AskKind.WAKE, RETURN, since_s, draft.mono_s + SOON_BACK_S, silent=True)
        waiters = (*waiters, wish)
    draft.change(name, place=Place(since_s, draft.mono_s + kept_s), waiters=waiters)


def kept_place_s(draft: Draft, name: str) -> MonotonicS | None:
    """Return when the place was taken that whoever asks now comes back to; None where there is none."""
    place = draft.models[name].place
    return place.since_s if place is not None and draft.mono_s <= place.until_s else None
