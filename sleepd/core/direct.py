"""Requests that reach a sleeper past the gate: vLLM holds them without a word, and only their connections show."""

from sleepd.core.draft import Draft
from sleepd.core.life import ASLEEP
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.places import kept_place_s
from sleepd.core.record import AskKind, ModelRecord, Waiter
from sleepd.core.seen import KEEP_ALIVE_S, DirectSeen
from sleepd.core.units import Seconds, format_duration

QUIET_S = 1.0
"""How much longer than the server's own keep-alive nothing must have moved for a connection to hold a request."""
AGAIN_S = 30.0
"""A wish that came to nothing (no room, say) is not repeated sooner while the connection goes on waiting."""
WAITER_ID = 0
"""The one wish of all direct connections of a model; callers' begin at 1."""


def looks_at_connections(record: ModelRecord) -> bool:
    """Whether the next look is to tell who is connected: a sleeper that direct connections may wake."""
    return record.spec.wake_direct and record.life.state in ASLEEP


def held_after_s(record: ModelRecord) -> Seconds:
    """A connection quiet for longer holds a request: the server closes idle ones sooner."""
    return (record.facts.keep_alive_s if record.facts else KEEP_ALIVE_S) + QUIET_S


def due_in_s(record: ModelRecord) -> Seconds | None:
    """Seconds until a connection that was seen will have been quiet for long enough; None where there is none."""
    if not looks_at_connections(record) or not isinstance(record.seen, Known) or record.seen.value.direct is None:
        return None
    direct = record.seen.value.direct
    left_s = held_after_s(record) - direct.quiet_s
    return left_s + 0.05 if direct.count and left_s > 0 else None


def watch_connections(draft: Draft, name: str, direct: DirectSeen | None) -> None:
    """Wish a sleeper awake while a direct connection waits on it; the wish leaves with the connection."""
    record = draft.models[name]
    if direct is None or not looks_at_connections(record):
        return
    if direct.missing and direct.missing != record.direct_missing:
        draft.note("direct_missing", name, f"{name} is not woken by direct connections: {direct.missing}")
    if direct.missing != record.direct_missing:
        record = draft.change(name, direct_missing=direct.missing)
    waits = direct.count > 0 and direct.quiet_s >= held_after_s(record)
    wished = any(w.id == WAITER_ID for w in record.waiters)
    if wished and not waits:
        draft.change(name, waiters=tuple(w for w in record.waiters if w.id != WAITER_ID))
    elif waits and not wished and record.direct_not_before_s <= draft.mono_s:
        told = f"a direct connection has been waiting for {format_duration(direct.quiet_s)}"
        draft.note("direct", name, f"{name} is wanted awake: {told}", {"connections": direct.count})
        cause = Cause(CauseKind.REQUEST, "a direct connection")
        deadline_s = draft.mono_s + record.spec.max_wait_s
        place_s = kept_place_s(draft, name)
        waiter = Waiter(WAITER_ID, AskKind.WAKE, cause, draft.mono_s, deadline_s, silent=True, place_s=place_s)
        not_before_s = draft.mono_s + AGAIN_S
        draft.change(name, waiters=(*record.waiters, waiter), direct_not_before_s=not_before_s)
