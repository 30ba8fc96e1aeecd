"""Holds and pins: who keeps a model awake, until when, and what of it outlives the daemon."""

from collections.abc import Iterator

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.ends import take_back_drain
from sleepd.core.frozen import replace
from sleepd.core.life import LEVEL
from sleepd.core.record import HOLDS_LIMIT, Hold, ModelRecord, is_pinned
from sleepd.core.units import MonotonicS, Seconds, format_duration
from sleepd.core.wishes import HoldAsked, HoldDetached, HoldEnded, PinAsked
from sleepd.core.world import World

GRACE_S = 30.0
"""How long a hold outlives the stream that it was attached to: a line that breaks must not let go of a model."""


def lasting(ttl_s: Seconds | None) -> str:
    """How long what was asked for lasts, as part of a sentence."""
    return "while its stream is open" if ttl_s is None else f"for {format_duration(ttl_s)}"


def find_hold(world: World | Draft, hold_id: str) -> tuple[ModelRecord, Hold] | None:
    """The hold of this id and the model it keeps awake."""
    found = ((r, h) for r in world.models.values() for h in r.holds if h.id == hold_id)
    return next(found, None)


def ask_hold(draft: Draft, ask: HoldAsked) -> None:
    """Let a hold stand, new or renewed; refused where the id is somebody else's or the model has too many."""
    found = find_hold(draft, ask.id)
    if found is not None and found[1].uid != ask.uid and not ask.admin:
        detail = f"hold {ask.id} is {found[1].who}'s"
        draft.refuse(ask.waiter, "not_permitted", detail, "choose another id, or ask its owner or an admin")
        return
    others = [h for h in draft.models[ask.model].holds if h.id != ask.id]
    if len(others) >= HOLDS_LIMIT:
        detail = f"{HOLDS_LIMIT} holds keep {ask.model} awake already"
        draft.refuse(ask.waiter, "busy", detail, "let go of one: sleepctl holds lists them")
        return
    if found is not None and found[0].spec.name != ask.model:
        _drop(draft, found[0].spec.name, ask.id, f"it holds {ask.model} now")
    attached = ask.ttl_s is None
    hold = Hold(
        id=ask.id,
        uid=ask.uid,
        who=ask.who,
        reason=ask.reason,
        since_wall_s=found[1].since_wall_s if found else draft.now.wall_s,
        ttl_s=ask.ttl_s,
        until_s=None if ask.ttl_s is None else draft.mono_s + ask.ttl_s,
        until_wall_s=None if ask.ttl_s is None else draft.now.wall_s + ask.ttl_s,
        stream=ask.waiter if attached else None,
    )
    kept = [h for h in draft.models[ask.model].holds if h.id != ask.id]
    draft.change(ask.model, holds=(*kept, hold))
    _keep_awake(draft, ask.model, "held before it fell asleep")
    if found is None:
        why = f": {ask.reason}" if ask.reason else ""
        data = {"hold": ask.id, "ttl_s": ask.ttl_s, "who": ask.who}
        draft.note("hold", ask.model, f"{ask.who} holds {ask.model} awake {lasting(ask.ttl_s)}{why}", data)
    draft.command(Answer(ask.waiter, AnswerKind.DONE, level=LEVEL[draft.models[ask.model].life.state]))


def end_hold(draft: Draft, ask: HoldEnded) -> None:
    """Let go of a hold; one that is not there any more is let go of already."""
    found = find_hold(draft, ask.id)
    if found is not None and found[1].uid != ask.uid and not ask.admin:
        detail = f"hold {ask.id} is {found[1].who}'s"
        draft.refuse(ask.waiter, "not_permitted", detail, "ask its owner or an admin")
        return
    if found is not None:
        _drop(draft, found[0].spec.name, ask.id, "let go of")
    draft.command(Answer(ask.waiter, AnswerKind.DONE))


def detach_hold(draft: Draft, event: HoldDetached) -> None:
    """Its stream ended: the hold lasts `GRACE_S` longer unless it was renewed since."""
    found = find_hold(draft, event.id)
    if found is None or found[1].stream != event.stream:
        return
    record, hold = found
    ending = replace(hold, stream=None, until_s=draft.mono_s + GRACE_S, until_wall_s=draft.now.wall_s + GRACE_S)
    draft.change(record.spec.name, holds=tuple(ending if h is hold else h for h in record.holds))


def end_due_holds(draft: Draft) -> None:
    """Let go of every hold whose time is up."""
    for name, record in list(draft.models.items()):
        for hold in record.holds:
            if hold.until_s is not None and hold.until_s <= draft.mono_s:
                _drop(draft, name, hold.id, "its time was up")


def end_holds(draft: Draft, name: str, why: str) -> None:
    """Let go of every hold on the model, told one by one: whoever took it learns of it there."""
    for hold in draft.models[name].holds:
        _drop(draft, name, hold.id, why)


def hold_moments(record: ModelRecord) -> Iterator[MonotonicS]:
    """When holds of the model let go by themselves."""
    return (h.until_s for h in record.holds if h.until_s is not None)


def _drop(draft: Draft, name: str, hold_id: str, why: str) -> None:
    record = draft.models[name]
    kept = tuple(h for h in record.holds if h.id != hold_id)
    # A hold is use: idle time starts where the last one ends.
    draft.change(name, holds=kept, last_active_s=draft.mono_s)
    draft.note("hold_ended", name, f"hold {hold_id} of {name} ended: {why}", {"hold": hold_id, "left": len(kept)})


def ask_pin(draft: Draft, ask: PinAsked) -> None:
    """Pin or unpin the model from now on, over restarts, whatever its configuration says."""
    record = draft.models[ask.model]
    if is_pinned(record) is not ask.pinned:
        # What is configured needs no exception.
        draft.change(ask.model, pin=None if ask.pinned is record.spec.pinned else ask.pinned)
        if ask.pinned:
            _keep_awake(draft, ask.model, "pinned before it fell asleep")
        done = "pinned" if ask.pinned else "unpinned"
        draft.note(done, ask.model, f"{ask.model} was {done} by {ask.who}")
    draft.command(Answer(ask.waiter, AnswerKind.DONE, level=LEVEL[record.life.state]))


def _keep_awake(draft: Draft, name: str, why: str) -> None:
    """A drain ends where somebody keeps the model awake from now on; what is forced goes on."""
    task = draft.tasks.get(name)
    if task is not None and not task.forced:
        take_back_drain(draft, name, why)
