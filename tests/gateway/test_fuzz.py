"""Bytes that nobody meant: whatever comes from either side, nothing forbidden is passed on, nothing is left over.

Seeds are fixed, so that a failure is found again; SLEEPD_FUZZ_SEEDS=N plays that many instead.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from sleepd.gateway.errors import chunk
from sleepd.gateway.routes import ROUTES
from tests.gateway.rig import CHAT, OK, Client, Rig, Seen, get, post

SEEDS = int(os.environ.get("SLEEPD_FUZZ_SEEDS", "200"))
ROUNDS = 10
CHUNKED = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = (
    post(CHAT),
    post(CHAT, fields=b"Expect: 100-continue\r\nX-A: b\r\n"),
    CHUNKED + chunk(CHAT[:9]) + chunk(CHAT[9:]) + b"0\r\nT: 1\r\n\r\n",
    get(b"/v1/models"),
    b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(CHAT) + CHAT,
)
ANSWERS = (
    OK,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"data: 1\n\n") + b"0\r\n\r\n",
    b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
)
SPICE = (b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\r\n\r\n", b"0", b"f", b";", b"%2e", b"\xff", b"chunked")
SPICE += (b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n")


def mangle(data: bytes, dice: random.Random) -> bytes:
    """Return the bytes with a few things wrong."""
    for _ in range(dice.choice((0, 1, 1, 2, 3))):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(5)
        if kind == 0:
            data = data[:at] + dice.choice(SPICE) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + dice.randrange(1, 9) :]
        elif kind == 2:
            data = data[:at] + bytes((dice.randrange(256),)) + data[at + 1 :]
        elif kind == 3:
            data = data[:at] + data[max(0, at - dice.randrange(40)) :]
        else:
            data = data[:at]
    return data or b"\r\n"


def is_whole(seen: Seen) -> bool:
    """What a server saw is a request that the gateway may send."""
    line, _, fields = seen.head.partition(b"\r\n")
    method, target, version = line.split(b" ")
    named = [field.split(b":")[0].lower() for field in fields.split(b"\r\n") if field]
    framed = named.count(b"content-length") + named.count(b"transfer-encoding")
    once = named.count(b"host") == 1 and framed == 1
    return method == b"POST" and target.partition(b"?")[0] in ROUTES and version == b"HTTP/1.1" and once


async def swallow(client: Client) -> None:
    """Read whatever comes, until nothing more does or the gateway ends the connection."""
    try:
        async with asyncio.timeout(0.02):
            while await client.reader.read(1 << 16):
                pass
    except (TimeoutError, ConnectionError):
        pass
    client.close()


async def calm(rig: Rig) -> None:
    """Nothing is left of what came: the gate is empty, and no client of ours is known any more."""
    await rig.until(lambda: not rig.daemon.gates.of("m").in_flight, "the gate to be empty")
    await rig.until(lambda: not rig.gateway.queued("m"), "the queue to be empty")


@pytest.mark.parametrize("base", range(0, SEEDS, ROUNDS))
async def test_whatever_a_client_sends(root: Path, base: int) -> None:
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    async with Rig(root) as rig:
        server = await rig.server("m")
        for seed in range(base, base + ROUNDS):
            dice = random.Random(seed)
            client = await rig.client()
            data = b"".join(mangle(dice.choice(REQUESTS), dice) for _ in range(dice.randrange(1, 4)))
            while data:
                cut = dice.choice((1, 7, 50, 5000))
                client.send(data[:cut])
                data = data[cut:]
                await asyncio.sleep(0)
            await swallow(client)
            assert all(is_whole(seen) for seen in server.seen), (seed, server.seen)
            server.seen.clear()
        await calm(rig)
        client = await rig.client()
        client.send(post(CHAT))
        assert (await client.answer())[0] == 200
    assert not found, (base, found)


@pytest.mark.parametrize("base", range(0, SEEDS, ROUNDS))
async def test_whatever_a_server_answers(root: Path, base: int) -> None:
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    async with Rig(root) as rig:
        server = await rig.server("m")
        for seed in range(base, base + ROUNDS):
            dice = random.Random(seed)
            parts = mangle(dice.choice(ANSWERS), dice)
            size = dice.choice((1, 9, 5000))

            async def play(request: Seen, writer: asyncio.StreamWriter, parts: bytes = parts, size: int = size) -> None:
                for at in range(0, len(parts), size):
                    writer.write(parts[at : at + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                writer.close()

            server.play = play
            client = await rig.client()
            client.send(dice.choice((post(CHAT, fields=b"Connection: close\r\n"), REQUESTS[4])))
            head = b""
            try:
                head = await client.head()
                await client.rest()
            except asyncio.IncompleteReadError as cut:
                head = cut.partial
            assert not head or head.startswith(b"HTTP/1.1 "), (seed, head)
            client.close()
        await calm(rig)
        server.play = lambda request, writer: writer.write(OK)
        client = await rig.client()
        client.send(post(CHAT))
        assert (await client.answer())[2] == b"{}", base
    assert not found, (base, found)
