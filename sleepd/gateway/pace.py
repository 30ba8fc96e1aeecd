"""Clients that are too slow, idle or gone: what becomes of their connections."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING

from sleepd.gateway.errors import Refusal
from sleepd.gateway.settings import BODY_STALLED_S, HEAD_WITHIN_S, IDLE_CLIENT_S, LEAST_BYTES_S, UNREAD_S

if TYPE_CHECKING:
    from sleepd.gateway.client import ClientConnection


def sweep(client: ClientConnection) -> None:
    """Look once a second whether the client keeps a pace that can be told from none.

    Counted for this: `sweeps` since it last came further, `bytes_seen` of its body since then, and as `head_fed` the
    bytes of a head that is not whole yet.
    """
    client.sweeps += 1
    x = client.reading
    if client.deaf:
        if client.sweeps > UNREAD_S and (client.now is None or not client.is_writable):
            client.transport.abort()  # its last answer is not read, and nothing else keeps it
        return
    if client.now is not None and not client.transport.is_reading() and has_hung_up(client.transport):
        client.transport.abort()
    elif x is not None and client.transport.is_reading():
        if client.bytes_seen >= LEAST_BYTES_S:
            client.sweeps = client.bytes_seen = 0
        elif client.sweeps > BODY_STALLED_S:
            client.give_up(Refusal(408, "too_slow", f"wanted the body within {BODY_STALLED_S:g} s"))
    elif not client.is_writable:
        if client.sweeps > UNREAD_S:
            client.transport.abort()
    elif client.now is None and client.head_fed:
        if client.sweeps > HEAD_WITHIN_S:
            client.give_up(Refusal(408, "too_slow", f"wanted the head within {HEAD_WITHIN_S:g} s"))
    elif client.now is None and client.sweeps > IDLE_CLIENT_S:
        client.transport.close()


def has_hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end was closed; where reading is paused only the kernel knows."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
