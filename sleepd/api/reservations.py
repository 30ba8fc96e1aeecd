"""Reserving GPU bytes and giving them back; with a stream that keeps a reservation for as long as it is open."""

import asyncio

from aiohttp import web

from sleepd import wire
from sleepd.api.call import Call
from sleepd.api.fields import Flag, GpuNames, Number, Text
from sleepd.api.leases import BEAT_S, LOOK_S, check_end, id_of, line, raise_refusal
from sleepd.api.problems import Problem, respond
from sleepd.api.wishes import WAIT
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.wishes import ReservationAsked, ReservationEnded
from sleepd.wire.reservation_shapes import ReservationBeat, ReservationEnd

AT_ONCE_S = 0.1
"""A refusal that comes within this has its own status; what comes later is told in the stream."""

RESERVATION_FIELDS = (
    GpuNames("gpus", "indices or UUIDs, all of them or nothing"),
    Number("bytes_per_gpu", None, "how much on each", least=1, most=float(1 << 50), whole=True, required=True),
    Number("pid", None, "what its process tree holds already is the job's own", least=1, most=4_194_304.0, whole=True),
    Number("ttl_s", None, "how long it lasts from its grant on; or `attach`", least=0.001, most=31_536_000.0),
    Flag("attach", False, "instead of `ttl_s`: it lasts as long as the answer's stream is open, and 30 s more"),
    Text("reason", "", "for people who wonder who has the room"),
    WAIT,
    Number("timeout_s", 600.0, "then it is refused with what it waited for, and forgotten"),
)


async def put_reservation(call: Call) -> web.StreamResponse:
    """Answer once the bytes are free; models step aside for them. Cancelled before, the wish is withdrawn."""
    fields, reservation_id = call.fields, id_of(call, "reservation")
    check_end(fields, "reservation")
    pids = await call.daemon.process_tree(fields["pid"]) if fields["pid"] is not None else ()
    stream = 0

    def make(waiter: int) -> ReservationAsked:
        nonlocal stream
        stream = waiter
        return ReservationAsked(
            waiter,
            reservation_id,
            tuple(gpu if isinstance(gpu, str) else str(int(gpu)) for gpu in fields["gpus"]),
            fields["bytes_per_gpu"],
            call.caller.uid,
            call.caller.name,
            fields["ttl_s"],
            fields["timeout_s"],
            fields["reason"],
            fields["wait"] or fields["attach"],
            pids,
            call.is_admin,
        )

    asking = asyncio.ensure_future(call.daemon.ask(make))
    try:
        if fields["attach"] and not fields["wait"]:
            await asyncio.wait((asking,), timeout=AT_ONCE_S)
        if not fields["attach"] or fields["wait"] or asking.done():
            answer = await asking
            raise_refusal("the reservation", answer)
            if not fields["attach"]:
                return respond(202 if answer.kind is AnswerKind.ACCEPTED else 200, _body(call, reservation_id))
        return await _stream(call, reservation_id, stream, asking)
    finally:
        if not asking.done():
            asking.cancel()
        if fields["attach"]:
            call.daemon.detach_reservation(reservation_id, stream)


async def delete_reservation(call: Call) -> web.StreamResponse:
    reservation_id = id_of(call, "reservation")
    there = reservation_id in call.daemon.world.reservations
    uid, is_admin = call.caller.uid, call.is_admin
    answer = await call.daemon.ask(lambda waiter: ReservationEnded(waiter, reservation_id, uid, is_admin))
    raise_refusal("the reservation", answer)
    return respond(200, {"id": reservation_id, "released": there})


async def _stream(call: Call, reservation_id: str, stream: int, asking: "asyncio.Future[Answer]") -> web.StreamResponse:
    """Write the reservation whenever something of it changed, and beats, until the client leaves, it ends or is
    refused, or another stream takes it over."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    await response.prepare(call.request)
    told: wire.Json = {}
    beat_in_s = BEAT_S
    while True:
        if asking.done() and asking.result().kind in (AnswerKind.REFUSED, AnswerKind.TIMED_OUT):
            _, problem = wire.refusal_body("the reservation", asking.result())
            refused: ReservationEnd = {"ended": problem["detail"], "problem": problem}
            await response.write(line(refused))
            return response
        found = call.daemon.world.reservations.get(reservation_id)
        if asking.done() and (found is None or found.stream != stream):
            ended: ReservationEnd = {"ended": "given back" if found is None else "taken over", "problem": None}
            await response.write(line(ended))
            return response
        body = wire.reservation_body(call.daemon.world, found) if found is not None else told
        if _told_of(body) != _told_of(told):
            told, beat_in_s = body, BEAT_S
            await response.write(line(body))
        elif beat_in_s <= 0:
            beat: ReservationBeat = {"beat": wire.format_time(call.daemon.now().wall_s)}
            await response.write(line(beat))
            beat_in_s = BEAT_S
        if asking.done():
            await asyncio.sleep(LOOK_S)
        else:
            await asyncio.wait((asking,), timeout=LOOK_S)  # its answer ends the pause early: a grant is told at once
        beat_in_s -= LOOK_S


def _told_of(body: wire.Json) -> wire.Json:
    """What of a reservation is worth a line: not what its job takes, once it is granted."""
    return body if not body.get("granted") else {key: value for key, value in body.items() if key != "gpus"}


def _body(call: Call, reservation_id: str) -> wire.Json:
    found = call.daemon.world.reservations.get(reservation_id)
    if found is None:
        raise Problem("failed", "the reservation was ended meanwhile", hint="ask anew")
    return wire.reservation_body(call.daemon.world, found)
