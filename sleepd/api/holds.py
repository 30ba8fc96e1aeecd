"""Taking and letting go of holds; with a stream that keeps one for as long as it is open."""

import asyncio
import json
import re

from aiohttp import web

from sleepd import wire
from sleepd.api.call import Call
from sleepd.api.daemon import Daemon
from sleepd.api.fields import Flag, Number, Text
from sleepd.api.problems import Problem, respond
from sleepd.api.route import HOLD_ID
from sleepd.api.wishes import TIMEOUT, WAIT
from sleepd.core.events import Answer, AnswerKind
from sleepd.core.holds import find_hold
from sleepd.core.wishes import HoldAsked, HoldEnded, WakeAsked
from sleepd.wire.shapes import Hold, HoldBeat, HoldEnd

BEAT_S = 15.0
LOOK_S = 0.5
"""How soon a stream notices that somebody let go of its hold."""

HOLD_FIELDS = (
    Text("model", None, "which model is kept awake", most=63),
    Number("ttl_s", None, "how long it lasts from now on; or `attach`", least=0.001, most=31_536_000.0),
    Flag("attach", False, "instead of `ttl_s`: it lasts as long as the answer's stream is open, and 30 s more"),
    Text("reason", "", "for people who wonder why the model is awake"),
    Flag("wake", True, "wake the model where it is asleep"),
    WAIT,
    TIMEOUT,
)

ENDS_SOMEHOW = {
    "oneOf": [
        {"required": ["ttl_s"], "properties": {"ttl_s": {"type": "number"}, "attach": {"const": False}}},
        {"required": ["attach"], "properties": {"ttl_s": {"type": "null"}, "attach": {"const": True}}},
    ]
}
"""Either `ttl_s` or `attach`, as JSON Schema; put_hold checks it in words."""


async def put_hold(call: Call) -> web.StreamResponse:
    """Let the hold stand, then wake its model; a wake that is refused lets go of a hold that was new."""
    fields, hold_id = call.fields, _id_of(call)
    model = call.known(fields["model"])
    if (fields["ttl_s"] is None) is not fields["attach"]:
        found = "neither" if fields["ttl_s"] is None else "both"
        raise Problem("invalid", "a hold needs an end", wanted="either ttl_s or attach: true", found=found)
    new = find_hold(call.daemon.world, hold_id) is None
    stream = 0

    def make(waiter: int) -> HoldAsked:
        nonlocal stream
        stream = waiter
        uid, who, ttl_s, reason = call.peer.uid, call.peer.name, fields["ttl_s"], fields["reason"]
        return HoldAsked(waiter, hold_id, model, uid, who, ttl_s, reason, call.is_admin)

    try:
        _raise_refusal(model, await call.daemon.ask(make))
        accepted = await _wake(call, model, hold_id if new else None)
        if fields["attach"]:
            return await _stream(call, hold_id, stream)
        return respond(202 if accepted else 200, _body(call.daemon, hold_id))
    finally:
        if fields["attach"]:
            call.daemon.detach_hold(hold_id, stream)


async def delete_hold(call: Call) -> web.StreamResponse:
    hold_id = _id_of(call)
    there = find_hold(call.daemon.world, hold_id) is not None
    answer = await call.daemon.ask(lambda waiter: HoldEnded(waiter, hold_id, call.peer.uid, call.is_admin))
    _raise_refusal("", answer)
    return respond(200, {"id": hold_id, "released": there})


def _id_of(call: Call) -> str:
    """Return the id of the path. Raises Problem where nobody may be called so."""
    hold_id = call.request.match_info["id"]
    if not re.fullmatch(HOLD_ID, hold_id):
        wanted = "1 to 128 of A-Z a-z 0-9 . _ : @ -, a letter or digit first"
        raise Problem("invalid", "the id of the hold is not valid", wanted=wanted, found=hold_id[:80])
    return hold_id


async def _wake(call: Call, model: str, new_id: str | None) -> bool:
    """Return whether the wake is still to come (`wait: false`). Raises Problem where it is refused."""
    if not call.fields["wake"]:
        return False
    who, timeout_s, wait = call.peer.name, call.fields["timeout_s"], call.fields["wait"]
    answer = await call.daemon.ask(lambda waiter: WakeAsked(waiter, model, who, timeout_s, wait=wait))
    if answer.kind in (AnswerKind.REFUSED, AnswerKind.TIMED_OUT) and new_id is not None:
        await call.daemon.ask(lambda waiter: HoldEnded(waiter, new_id, call.peer.uid, call.is_admin))
    _raise_refusal(model, answer)
    return answer.kind is AnswerKind.ACCEPTED


def _raise_refusal(model: str, answer: Answer) -> None:
    if answer.kind in (AnswerKind.REFUSED, AnswerKind.TIMED_OUT):
        raise Problem.of(answer, model)


async def _stream(call: Call, hold_id: str, stream: int) -> web.StreamResponse:
    """Write the hold, then beats, until the client leaves, somebody lets go of it, or another stream takes it over."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    first = _line(_body(call.daemon, hold_id))
    await response.prepare(call.request)
    await response.write(first)
    beat_in_s = BEAT_S
    while True:
        await asyncio.sleep(LOOK_S)
        found = find_hold(call.daemon.world, hold_id)
        if found is None or found[1].stream != stream:
            ended: HoldEnd = {"ended": "let go of" if found is None else "taken over"}
            await response.write(_line(ended))
            return response
        beat_in_s -= LOOK_S
        if beat_in_s <= 0:
            beat: HoldBeat = {"beat": wire.format_time(call.daemon.now().wall_s)}
            await response.write(_line(beat))
            beat_in_s = BEAT_S


def _body(daemon: Daemon, hold_id: str) -> Hold:
    found = find_hold(daemon.world, hold_id)
    if found is None:
        raise Problem("unknown_model", "the model was removed from the configuration meanwhile")
    return wire.hold_body(found[0].spec.name, found[1])


def _line(body: wire.Json) -> bytes:
    return (json.dumps(body, ensure_ascii=False) + "\n").encode()
