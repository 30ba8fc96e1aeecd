"""The stream of events, over broken lines where that is wished."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sleepd.client import asks
from sleepd.client.aio.wire import Stream
from sleepd.client.answers import DaemonUnreachable
from sleepd.client.asks import RETRY_S, Request
from sleepd.client.sse import EventLines


async def read_events(
    open_stream: Callable[[Request], Awaitable[Stream]],
    since: str | None,
    *,
    follow: bool,
    resume_for_s: float,
    last: int | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Yield what AsyncClient.events says."""
    lines = EventLines(since)
    stream = await open_stream(asks.events(since, follow=follow, last=last))
    while True:
        try:
            while raw := await stream.read_line():
                event = lines.take(raw.rstrip(b"\n"))
                if event is not None:
                    yield event
        except DaemonUnreachable:
            if not follow or resume_for_s <= 0:
                raise
        finally:
            stream.close()
        if not follow or resume_for_s <= 0:
            return
        stream = await _open_again(open_stream, lines, asyncio.get_running_loop().time() + resume_for_s)


async def _open_again(
    open_stream: Callable[[Request], Awaitable[Stream]], lines: EventLines, deadline_s: float
) -> Stream:
    while True:
        await asyncio.sleep(RETRY_S)
        try:
            return await open_stream(asks.events(lines.last_id, follow=True))
        except DaemonUnreachable:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise
