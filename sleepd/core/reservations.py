"""Reservations: whose job may have how much of which GPUs, until when, and what comes back when it ends.

How the room is made for those that wait is in core/lending.py; what is kept free of the granted ones in core/ledger.py.
"""

from collections.abc import Iterator, Mapping

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.holds import GRACE_S, lasting
from sleepd.core.life import ASLEEP
from sleepd.core.model import Cause, CauseKind, Now
from sleepd.core.policy import would_sleep
from sleepd.core.reservation import RESERVATIONS_LIMIT, Reservation
from sleepd.core.units import MonotonicS, WallS, format_size
from sleepd.core.wishes import ReservationAsked, ReservationDetached, ReservationEnded
from sleepd.core.world import World

LEFT = "who asked for it left"


def reserved_for(reservation: Reservation) -> str:
    """Whose reservation it is and what for, as part of a sentence."""
    why = f": {reservation.reason}" if reservation.reason else ""
    return f"{reservation.who} (reservation {reservation.id}{why})"


def size_of(reservation: Reservation) -> str:
    """How much it is and where, as part of a sentence."""
    return f"{format_size(reservation.bytes_per_gpu)} on GPU {', '.join(reservation.gpus)}"


def waited_for(reservation: Reservation) -> str:
    """What its grant waits for, as part of a sentence."""
    return reservation.waits_for or "a reading of GPU memory"


def seniority(reservation: Reservation) -> tuple[WallS, str]:
    """What reservations are sorted by: who asked first comes first."""
    return (reservation.since_wall_s, reservation.id)


def ask_reservation(draft: Draft, ask: ReservationAsked) -> None:
    """Queue the wish; its room is made from this turn on. The same id renews what stands, or waits, already."""
    found = draft.reservations.get(ask.id)
    if found is not None and found.uid != ask.uid and not ask.admin:
        detail, hint = f"reservation {ask.id} is {found.who}'s", "choose another id, or ask its owner or an admin"
        draft.refuse(ask.waiter, "not_permitted", detail, hint)
    elif found is not None and (found.gpus, found.bytes_per_gpu) != (ask.gpus, ask.bytes_per_gpu):
        detail = f"reservation {ask.id} keeps its size, {size_of(found)}"
        draft.refuse(ask.waiter, "invalid", detail, "end it, then ask anew")
    elif found is not None and found.granted:
        renewed = replace(found, who=ask.who, reason=ask.reason, ttl_s=ask.ttl_s)
        put_reservation(draft, _lasting(draft, renewed, ask.waiter if ask.ttl_s is None else None))
        draft.command(Answer(ask.waiter, AnswerKind.DONE))
    elif found is None and len(draft.reservations) >= RESERVATIONS_LIMIT:
        hint = "end one: sleepctl reservations lists them"
        draft.refuse(ask.waiter, "busy", f"there are {RESERVATIONS_LIMIT} reservations already", hint)
    else:
        _queue(draft, ask, found)


def _queue(draft: Draft, ask: ReservationAsked, found: Reservation | None) -> None:
    if found is not None and found.waiter is not None:
        draft.refuse(found.waiter, "busy", f"reservation {ask.id} was asked for anew by another call")
    put_reservation(
        draft,
        Reservation(
            id=ask.id,
            who=ask.who,
            uuids=found.uuids if found else (),
            bytes_per_gpu=ask.bytes_per_gpu,
            uid=ask.uid,
            reason=ask.reason,
            gpus=ask.gpus,
            pids=ask.pids,
            granted=False,
            asked_s=draft.mono_s,
            since_wall_s=found.since_wall_s if found else draft.now.wall_s,
            ttl_s=ask.ttl_s,
            stream=ask.waiter if ask.ttl_s is None else None,
            waiter=ask.waiter if ask.wait else None,
            deadline_s=draft.mono_s + ask.timeout_s,
            aside=found.aside if found else (),
        ),
    )
    if not ask.wait:
        draft.command(Answer(ask.waiter, AnswerKind.ACCEPTED))


def _lasting(draft: Draft, reservation: Reservation, stream: int | None) -> Reservation:
    """The reservation with its end counted from now: its time, or its stream; where a restart took that from it,
    `GRACE_S` for its owner to come back."""
    ttl_s = GRACE_S if reservation.ttl_s is None and stream is None else reservation.ttl_s
    until_s = None if ttl_s is None else draft.mono_s + ttl_s
    until_wall_s = None if ttl_s is None else draft.now.wall_s + ttl_s
    return replace(reservation, stream=stream, until_s=until_s, until_wall_s=until_wall_s)


def grant(draft: Draft, reservation: Reservation) -> None:
    """Its bytes were seen free: they are its job's from now on, and its time begins."""
    number = 1 + max((r.granted_as for r in draft.reservations.values()), default=0)
    granted = replace(reservation, granted=True, granted_as=number, waits_for="", problem="")
    granted = _lasting(draft, granted, reservation.stream)
    put_reservation(draft, replace(granted, waiter=None))
    ttl_s = reservation.ttl_s
    data = {"reservation": reservation.id, "who": reservation.who, "ttl_s": ttl_s, "aside": list(reservation.aside)}
    text = f"{size_of(reservation)} is kept for {reserved_for(reservation)} {lasting(ttl_s)}"
    draft.note("reserved", "", text, data)
    if reservation.waiter is not None:
        waited_s = draft.mono_s - reservation.asked_s
        draft.command(Answer(reservation.waiter, AnswerKind.DONE, waited_s=waited_s))


def end_reservation(draft: Draft, ask: ReservationEnded) -> None:
    """Give the room back; of a reservation that is not there any more it was given back already."""
    found = draft.reservations.get(ask.id)
    if found is not None and found.uid != ask.uid and not ask.admin:
        draft.refuse(ask.waiter, "not_permitted", f"reservation {ask.id} is {found.who}'s", "ask its owner or an admin")
        return
    if found is not None:
        drop_reservation(draft, found, "given back")
    draft.command(Answer(ask.waiter, AnswerKind.DONE))


def detach_reservation(draft: Draft, event: ReservationDetached) -> None:
    """Its stream ended: it lasts `GRACE_S` longer unless it was asked for again since. One that still waited for its
    room is wanted no more, whether or not its caller's own leave comes in time, before a turn that grants it."""
    found = draft.reservations.get(event.id)
    if found is None or found.stream != event.stream:
        return
    if not found.granted:
        drop_reservation(draft, replace(found, waiter=None), LEFT)
    else:
        until_s, until_wall_s = draft.mono_s + GRACE_S, draft.now.wall_s + GRACE_S
        put_reservation(draft, replace(found, stream=None, until_s=until_s, until_wall_s=until_wall_s))


def forget_reserver(draft: Draft, waiter: int) -> None:
    """A caller left before its reservation was granted: nobody needs the room any more."""
    for reservation in list(draft.reservations.values()):
        if reservation.waiter == waiter:
            drop_reservation(draft, replace(reservation, waiter=None), LEFT)


def end_due_reservations(draft: Draft) -> None:
    """End every reservation whose time is up, and every wait for one whose caller's patience is over."""
    for reservation in list(draft.reservations.values()):
        if reservation.granted and reservation.until_s is not None and reservation.until_s <= draft.mono_s:
            drop_reservation(draft, reservation, "its time was up")
        elif not reservation.granted and reservation.deadline_s <= draft.mono_s:
            detail = f"there was no room in time: it waited for {waited_for(reservation)}"
            refuse_reservation(draft, reservation, reservation.problem or "timeout", detail)


def refuse_reservation(
    draft: Draft, reservation: Reservation, problem: str, detail: str, wanted: str = "", found: str = "", hint: str = ""
) -> None:
    """Tell its caller that there is no room, and let go of what was made of it."""
    if reservation.waiter is not None:
        waited_s = draft.mono_s - reservation.asked_s
        kind = AnswerKind.TIMED_OUT if problem == "timeout" else AnswerKind.REFUSED
        answer = Answer(reservation.waiter, kind, None, waited_s, None, problem, detail, wanted, found, hint)
        draft.command(answer)
    drop_reservation(draft, replace(reservation, waiter=None), detail)


def drop_reservation(draft: Draft, reservation: Reservation, why: str) -> None:
    """Forget it; who was put aside for it is to be woken again, unless a rule wants it asleep by now."""
    if reservation.waiter is not None:
        draft.refuse(reservation.waiter, "timeout", f"reservation {reservation.id} ended: {why}")
    draft.reservations = {i: r for i, r in draft.reservations.items() if i != reservation.id}
    if reservation.granted:
        draft.given_back_s = draft.mono_s
    draft.note("reservation_ended", "", f"reservation {reservation.id} ended: {why}", {"reservation": reservation.id})
    for name in reservation.aside:
        return_from_aside(draft, name, reservation.id)
    draft.touched.update(draft.models)


def return_from_aside(draft: Draft, name: str, reservation_id: str) -> None:
    """Owe a sleeper its wake: the reservation that it was put aside for is over."""
    record = draft.models.get(name)
    if record is None or record.life.state not in ASLEEP:
        return
    if would_sleep(draft.world(), record, draft.now):
        return
    draft.change(name, owed_wake=Cause(CauseKind.RECOVERY, f"reservation {reservation_id}"))


def put_reservation(draft: Draft, reservation: Reservation) -> None:
    draft.reservations = {**draft.reservations, reservation.id: reservation}


def reservation_moments(world: World) -> Iterator[MonotonicS]:
    """When reservations end by themselves, or waits for one."""
    for reservation in world.reservations.values():
        if not reservation.granted:
            yield reservation.deadline_s
        elif reservation.until_s is not None:
            yield reservation.until_s


def remember_reservations(kept: Mapping[str, Reservation], now: Now) -> dict[str, Reservation]:
    """Reservations over a restart. One whose stream broke with the daemon, or whose caller still waited, lasts until
    its owner can be back; a clock that was set back must not make one last longer than was asked for."""
    found = {}
    for reservation in kept.values():
        anew = replace(reservation, asked_s=now.mono_s, stream=None, waiter=None, deadline_s=now.mono_s + GRACE_S)
        if reservation.granted:
            most_s = GRACE_S if reservation.ttl_s is None else reservation.ttl_s
            left_s = GRACE_S if reservation.until_wall_s is None else reservation.until_wall_s - now.wall_s
            left_s = min(max(0.0, left_s), most_s)
            anew = replace(anew, until_s=now.mono_s + left_s, until_wall_s=now.wall_s + left_s)
        found[reservation.id] = anew
    return found
