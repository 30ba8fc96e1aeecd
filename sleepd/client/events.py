"""The stream of events, over broken lines where that is wished."""

from __future__ import annotations

import time

from sleepd.client import asks
from sleepd.client.answers import DaemonUnreachable, broke_off
from sleepd.client.asks import RETRY_S
from sleepd.client.http1 import Answer, BrokenAnswer
from sleepd.client.sse import EventLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sleepd.client.sync import Client


def read_events(
    client: Client, since: str | None, *, follow: bool, resume_for_s: float, last: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what Client.events says."""
    lines = EventLines(since)
    answer = client.open_stream(asks.events(since, follow=follow, last=last))
    while True:
        try:
            for raw in answer.lines():
                event = lines.take(raw)
                if event is not None:
                    yield event
        except (OSError, BrokenAnswer) as error:
            if not follow or resume_for_s <= 0:
                raise broke_off(client.socket_path, error) from None
        finally:
            answer.close()
        if not follow or resume_for_s <= 0:
            return
        answer = _open_again(client, lines, time.monotonic() + resume_for_s)


def _open_again(client: Client, lines: EventLines, deadline_s: float) -> Answer:
    while True:
        time.sleep(RETRY_S)
        try:
            return client.open_stream(asks.events(lines.last_id, follow=True))
        except DaemonUnreachable:
            if time.monotonic() >= deadline_s:
                raise
