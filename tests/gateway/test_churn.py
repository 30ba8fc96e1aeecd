"""Clients that come and go in every way while gates open and shut, and servers of every kind: nothing is left over."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from sleepd.gateway import front as front_module
from sleepd.gateway.errors import chunk
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import CHAT, EVENTS, OK, Rig, Seen, get, post

SEEDS = int(os.environ.get("SLEEPD_FUZZ_SEEDS", "12"))
CLIENTS = 60
CHUNKED = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def requests(dice: random.Random) -> bytes:
    """Return what one client sends, one to three requests; some of them are more than may be held."""
    model = dice.choice((b"m", b"n", b"m", b"n", b"nobody"))
    filler = b'"x": "' + b"a" * dice.choice((0, 100, 70_000, 150_000, 400_000)) + b'"'
    members = [b'"model": "' + model + b'"', filler]
    dice.shuffle(members)
    body = b"{" + b", ".join(members) + dice.choice((b"}", b', "stream": true}'))
    kind = dice.randrange(6)
    if kind == 0:
        return CHUNKED + chunk(body[:20]) + chunk(body[20:]) + b"0\r\n\r\n"
    if kind == 1:
        return get(dice.choice((b"/gate/m?wait_s=1", b"/v1/models", b"/v1/responses/resp_1")))
    if kind == 2:
        return post(body, fields=b"Expect: 100-continue\r\n")
    return post(body, dice.choice((b"/v1/responses", b"/v1/messages", b"/v1/chat/completions")))


async def play(request: Seen, writer: asyncio.StreamWriter, dice: random.Random) -> None:
    """Answer as servers do: at once, slowly, in a stream, half, or not at all."""
    kind = dice.randrange(7)
    if kind == 0:
        writer.close()
    elif kind == 1:
        writer.write(EVENTS[: dice.randrange(len(EVENTS))])
        await writer.drain()
        writer.transport.abort()
    elif kind == 2:
        writer.write(EVENTS + chunk(b'data: {"id":"resp_1"}\n\n'))
        await asyncio.sleep(0.01)
        writer.transport.abort()
    elif kind == 3:
        writer.write(EVENTS)
        for _ in range(5):
            writer.write(chunk(b"x" * 50_000))
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")
    elif kind == 4:
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno!")
    else:
        await asyncio.sleep(dice.choice((0, 0.005, 0.02)))
        writer.write(OK)


async def behave(rig: Rig, dice: random.Random) -> None:
    """Come, send all or a part of it, and leave in one of the ways there are."""
    await asyncio.sleep(dice.random() * 0.3)
    client = await rig.client(tcp=dice.random() < 0.3)
    data = b"".join(requests(dice) for _ in range(dice.randrange(1, 4)))
    if dice.random() < 0.3:
        data = data[: dice.randrange(1, len(data))]
    client.send(data)
    await asyncio.sleep(dice.choice((0, 0.01, 0.1)))
    kind = dice.randrange(5)
    try:
        if kind == 0:
            client.writer.transport.abort()
        elif kind == 1:
            client.writer.write_eof()
            await client.reader.read(-1)
        else:
            async with asyncio.timeout(dice.choice((0.05, 0.3, 1))):
                await client.reader.read(-1)
    except (TimeoutError, OSError, RuntimeError):  # RuntimeError: the connection ended before
        pass
    client.writer.transport.abort()


async def toss(rig: Rig, dice: random.Random) -> None:
    """Open and shut gates, answer wishes, take settings."""
    while True:
        await asyncio.sleep(0.02)
        name = dice.choice("mn")
        kind = dice.randrange(4)
        if kind == 0:
            rig.daemon.gates.of(name).open = False
        elif kind == 1:
            rig.daemon.refuse("no_room", "a test")
        elif kind == 2:
            rig.gateway.take(rig.settings)
        else:
            rig.daemon.gates.open(name)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_is_left_of_whatever_came(root: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "HELD_BODY_LIMIT", 300_000)
    monkeypatch.setattr(front_module, "BUFFERED_LIMIT", 1_000_000)
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    dice = random.Random(seed)
    async with Rig(root, GatewaySettings(queue=12, heartbeat_s=0.03)) as rig:
        for name in "mn":
            await rig.server(name, lambda request, writer: play(request, writer, dice), max_wait_s=0.2)
        tossing = asyncio.ensure_future(toss(rig, dice))
        await asyncio.gather(*(behave(rig, dice) for _ in range(CLIENTS)))
        tossing.cancel()
        front = rig.gateway._front
        for name in "mn":
            gate = rig.daemon.gates.of(name)
            await rig.until(lambda gate=gate: gate.in_flight == 0, f"nothing to be in flight, seed {seed}")
            await rig.until(lambda name=name: rig.gateway.queued(name) == 0, f"nothing to be held, seed {seed}")
            rig.daemon.gates.open(name)
            rig.servers[name].play = lambda request, writer: writer.write(OK)
        await rig.until(lambda: not front.connections, f"no client to be known, seed {seed}")
        assert front.buffered_bytes == 0
        client = await rig.client()
        for name in (b'"m"', b'"n"'):
            client.send(post(CHAT.replace(b'"m"', name)))
            assert (await client.answer())[0] == 200
    ours = [
        context for context in found if "client_connected_cb" not in context["message"]
    ]  # else a server of the test
    assert not ours, (seed, ours)
