"""A guest on the gateway's listener: it takes the connections whose request is its own, and no other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.gateway.rig import CHAT, Rig, get, post

PAGE = get(b"/ui")


class Guest:
    """Takes what begins with GET /ui, and answers with what came."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def wants(self, begun: bytes) -> bool | None:
        return begun[:7] == b"GET /ui" if len(begun) > 6 else None

    def take(self, transport: asyncio.Transport, begun: bytes) -> None:
        self.taken.append(begun)
        transport.set_protocol(asyncio.Protocol())
        transport.write(b"the guest's")
        transport.close()


@pytest.fixture
async def rig(root: Path) -> Rig:
    rig = Rig(root)
    rig.annex = Guest()
    return rig


async def test_the_guest_has_its_own_requests(rig: Rig) -> None:
    async with rig:
        await rig.server("m")
        for pieces in ([PAGE], [PAGE[:2], PAGE[2:9], PAGE[9:]]):
            client = await rig.client(tcp=True)
            client.send(post(CHAT))
            assert (await client.answer())[0] == 200
            for piece in pieces:
                client.send(piece)
                await asyncio.sleep(0.02)
            assert await client.rest() == b"the guest's"
        assert rig.annex.taken == [PAGE, PAGE[:9]]  # type: ignore[union-attr]
        await rig.until(lambda: not rig.gateway._front.connections, "the connections to be the guest's")


async def test_it_has_nothing_of_anybody_elses(rig: Rig) -> None:
    async with rig:
        server = await rig.server("m")
        client = await rig.client(tcp=True)
        client.send(post(CHAT) + PAGE)  # pipelined: there is no such route here
        assert (await client.answer())[0] == 200
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (404, "unknown_url")
        whole = post(CHAT, fields=b"x-note: " + PAGE[:12] + b"\r\n")
        cut = whole.index(PAGE[:12])
        for first in (whole[:cut], b"\r\n" + whole[:cut]):
            client.send(first)
            await asyncio.sleep(0.02)
            client.send(whole[cut:-4])
            await asyncio.sleep(0.02)
            client.send(whole[-4:])
            assert (await client.answer())[0] == 200
        client.send(post(PAGE)[: -len(PAGE)])  # a body that looks like the guest's request is one all the same
        await asyncio.sleep(0.02)
        client.send(PAGE)
        assert (await client.answer())[0] == 400
        assert rig.annex.taken == []  # type: ignore[union-attr]
        assert len(server.seen) == 3
