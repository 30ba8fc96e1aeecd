"""Server-sent events (HTML living standard, section 9.2): what happened, then what happens, with beats between."""

import asyncio
import json
import re
from collections.abc import Sequence

from aiohttp import web

from sleepd import wire
from sleepd.api.daemon import Daemon
from sleepd.api.fields import Flag, Number, Text
from sleepd.api.problems import Problem
from sleepd.wire.shapes import Event, Gap

HEARTBEAT_S = 15.0
MOST_ON_RECORD = 10_000
_EVENT_ID = re.compile(r"[\w.:-]{1,64}-\d{1,18}", re.ASCII)

EVENT_QUERY = (
    Text("since", "", "begin after this event; `Last-Event-ID` goes before it; neither: with the oldest on record"),
    Flag("follow", True, "false: end after those on record"),
    Number("last", MOST_ON_RECORD, "of those on record the newest, so many", least=1, most=MOST_ON_RECORD, whole=True),
)


async def stream_events(request: web.Request, daemon: Daemon) -> web.StreamResponse:
    """Write events until the client leaves, or with `follow=false` those on record. Raises Problem before the first.

    They begin after `Last-Event-ID` or `since`, without either with the oldest on record; with `last=N` of those on
    record with the newest N.
    """
    since_id = request.headers.get("Last-Event-ID") or request.query.get("since") or None
    follow = request.query.get("follow", "true")
    if since_id is not None and not _EVENT_ID.fullmatch(since_id):
        raise Problem("invalid", "since is no event id", wanted="<epoch>-<n>", found=since_id[:80])
    if follow not in ("true", "false"):
        raise Problem("invalid", "follow has a wrong value", wanted="true or false", found=follow[:80])
    last = _read_last(request.query.get("last"))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    while True:
        read = daemon.read_events(since_id)
        await response.write(_encode(read.gap, since_id, [wire.event_body(event) for event in read.events[-last:]]))
        last = MOST_ON_RECORD
        since_id = read.last_id
        if follow == "false":
            return response
        while not await _arrived(daemon, since_id, HEARTBEAT_S):
            await response.write(b": beat\n\n")


def _read_last(written: str | None) -> int:
    if written is None:
        return MOST_ON_RECORD
    if not re.fullmatch(r"\d{1,5}", written, re.ASCII) or not 1 <= int(written) <= MOST_ON_RECORD:
        wanted = f"a whole number from 1 to {MOST_ON_RECORD}"
        raise Problem("invalid", "last has a wrong value", wanted=wanted, found=written[:80])
    return int(written)


async def _arrived(daemon: Daemon, last_id: str, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await daemon.wait_events(last_id)
    except TimeoutError:
        return False
    return True


def _encode(gap: bool, since_id: str | None, events: Sequence[Event]) -> bytes:
    blocks = []
    if gap:
        lost: Gap = {"after": since_id, "first": events[0]["id"] if events else None}
        blocks.append(f"event: gap\ndata: {json.dumps(lost)}\n\n")
    # default=str: evidence in `data` is for people; a type JSON does not know must not end the stream.
    blocks += [f"id: {e['id']}\ndata: {json.dumps(e, ensure_ascii=False, default=str)}\n\n" for e in events]
    return "".join(blocks).encode()
