"""Answers that break off, say too much or are none, and clients that read slowly."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sleepd.gateway.errors import chunk
from tests.gateway.rig import CHAT, EVENTS, OK, Client, Rig, Seen, answer, post


async def test_an_answer_that_breaks_off_breaks_off_here_too(root: Path) -> None:
    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + chunk(b"data: 1\n\n"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        client.send(post(CHAT))
        await client.head()
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert rig.daemon.gates.of("m").in_flight == 0


async def test_a_slow_client_stops_the_reading_of_its_server(root: Path) -> None:
    wrote = 0

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal wrote
        writer.write(EVENTS)
        for _ in range(640):
            piece = chunk(b"x" * 65000)
            writer.write(piece)
            await writer.drain()
            wrote += len(piece)
        writer.write(b"0\r\n\r\n")

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post(CHAT))
        before = -1
        while before != wrote:
            before = wrote
            await asyncio.sleep(0.2)
        assert wrote < 8 << 20
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        while await client.reader.read(1 << 16) and wrote < 640 * 65000:
            pass
        assert wrote >= 640 * 65000


async def test_a_request_is_never_sent_twice(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        client.send(post(CHAT))
        await client.answer()
        server.play = lambda request, writer: writer.close()
        client.send(post(CHAT))
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (502, "bad_upstream")
        assert len(server.seen) == 2


async def test_a_server_that_says_too_much_reaches_nobody_else(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", answer(OK + OK.replace(b"{}", b"!!")))
        first, second = await rig.client(), await rig.client()
        first.send(post(CHAT))
        assert (await first.answer())[0] == 502
        server.play = answer(OK)
        second.send(post(CHAT))
        assert (await second.answer())[2] == b"{}"


async def test_what_is_no_answer_is_502(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        for nonsense in (
            b"hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbad name: x\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        ):
            server.play = answer(nonsense)
            client: Client = await rig.client()
            client.send(post(CHAT))
            assert (await client.answer())[0] == 502, nonsense
            assert rig.daemon.gates.of("m").in_flight == 0
