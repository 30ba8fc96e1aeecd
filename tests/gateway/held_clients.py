"""Clients whose requests are held for a model that is asleep."""

from __future__ import annotations

from tests.gateway.rig import CHAT, Client, Rig, post


async def held(rig: Rig, count: int) -> None:
    await rig.until(lambda: rig.gateway.queued("m") == count, f"{count} to be held")


async def asking(rig: Rig, request: bytes) -> Client:
    """Return a client whose request is held for m."""
    before, client = rig.gateway.queued("m"), await rig.client()
    client.send(request)
    await held(rig, before + 1)
    return client


async def waiting(rig: Rig, body: bytes = CHAT, path: bytes = b"/v1/chat/completions") -> Client:
    return await asking(rig, post(body, path))
