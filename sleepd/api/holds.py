"""Taking and letting go of holds; with a stream that keeps one for as long as it is open."""

import asyncio

from aiohttp import web

from sleepd import wire
from sleepd.api.call import Call
from sleepd.api.daemon import Daemon
from sleepd.api.fields import Flag, Number, Text
from sleepd.api.leases import BEAT_S, LOOK_S, check_end, id_of, line, raise_refusal
from sleepd.api.problems import Problem, respond
from sleepd.api.wishes import TIMEOUT, WAIT
from sleepd.core.commands import AnswerKind
from sleepd.core.holds import find_hold
from sleepd.core.wishes import HoldAsked, HoldEnded, WakeAsked
from sleepd.wire.shapes import Hold, HoldBeat, HoldEnd

HOLD_FIELDS = (
    Text("model", None, "which model is kept awake", most=63),
    Number("ttl_s", None, "how long it lasts from now on; or `attach`", least=0.001, most=31_536_000.0),
    Flag("attach", False, "instead of `ttl_s`: it lasts as long as the answer's stream is open, and 30 s more"),
    Text("reason", "", "for people who wonder why the model is awake"),
    Flag("wake", True, "wake the model where it is asleep"),
    WAIT,
    TIMEOUT,
)


async def put_hold(call: Call) -> web.StreamResponse:
    """Let the hold stand, then wake its model; a wake that is refused lets go of a hold that was new."""
    fields, hold_id = call.fields, id_of(call, "hold")
    model = call.known(fields["model"])
    check_end(fields, "hold")
    new = find_hold(call.daemon.world, hold_id) is None
    stream = 0

    def make(waiter: int) -> HoldAsked:
        nonlocal stream
        stream = waiter
        uid, who, ttl_s, reason = call.caller.uid, call.caller.name, fields["ttl_s"], fields["reason"]
        return HoldAsked(waiter, hold_id, model, uid, who, ttl_s, reason, call.is_admin)

    try:
        raise_refusal(model, await call.daemon.ask(make))
        accepted = await _wake(call, model, hold_id if new else None)
        if fields["attach"]:
            return await _stream(call, hold_id, stream)
        return respond(202 if accepted else 200, _body(call.daemon, hold_id))
    finally:
        if fields["attach"]:
            call.daemon.detach_hold(hold_id, stream)


async def delete_hold(call: Call) -> web.StreamResponse:
    hold_id = id_of(call, "hold")
    there = find_hold(call.daemon.world, hold_id) is not None
    answer = await call.daemon.ask(lambda waiter: HoldEnded(waiter, hold_id, call.caller.uid, call.is_admin))
    raise_refusal("", answer)
    return respond(200, {"id": hold_id, "released": there})


async def _wake(call: Call, model: str, new_id: str | None) -> bool:
    """Return whether the wake is still to come (`wait: false`). Raises Problem where it is refused."""
    if not call.fields["wake"]:
        return False
    who, timeout_s, wait = call.caller.name, call.fields["timeout_s"], call.fields["wait"]
    answer = await call.daemon.ask(lambda waiter: WakeAsked(waiter, model, who, timeout_s, wait=wait))
    if answer.kind in (AnswerKind.REFUSED, AnswerKind.TIMED_OUT) and new_id is not None:
        await call.daemon.ask(lambda waiter: HoldEnded(waiter, new_id, call.caller.uid, call.is_admin))
    raise_refusal(model, answer)
    return answer.kind is AnswerKind.ACCEPTED


async def _stream(call: Call, hold_id: str, stream: int) -> web.StreamResponse:
    """Write the hold, then beats, until the client leaves, somebody lets go of it, or another stream takes it over."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    first = line(_body(call.daemon, hold_id))
    await response.prepare(call.request)
    await response.write(first)
    beat_in_s = BEAT_S
    while True:
        await asyncio.sleep(LOOK_S)
        found = find_hold(call.daemon.world, hold_id)
        if found is None or found[1].stream != stream:
            ended: HoldEnd = {"ended": "let go of" if found is None else "taken over"}
            await response.write(line(ended))
            return response
        beat_in_s -= LOOK_S
        if beat_in_s <= 0:
            beat: HoldBeat = {"beat": wire.format_time(call.daemon.now().wall_s)}
            await response.write(line(beat))
            beat_in_s = BEAT_S


def _body(daemon: Daemon, hold_id: str) -> Hold:
    found = find_hold(daemon.world, hold_id)
    if found is None:
        raise Problem("unknown_model", "the model was removed from the configuration meanwhile")
    return wire.hold_body(found[0].spec.name, found[1])
