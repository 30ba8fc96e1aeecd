"""Clients that have not read their answers yet, as a gateway moves or stops: waited for, and not for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sleepd.gateway.errors import chunk
from tests.gateway.rig import CHAT, EVENTS, Client, Rig, Seen, post
from tests.gateway.runs import move, two_runs


async def unread(rig: Rig, *, fields: bytes = b"") -> Client:
    """Return a client that has the head of an answer and reads no further: its server has said all, and the end of that
    waits in the gateway."""
    goes_on = asyncio.Event()

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        await goes_on.wait()
        while not connection.transport.get_write_buffer_size():
            writer.write(chunk(b"x" * 16384))
            await asyncio.sleep(0.001)
        writer.write(b"0\r\n\r\n")

    await rig.server("m", play)
    client = await rig.client()
    client.send(post(CHAT, fields=fields))
    await client.head()
    (connection,) = rig.gateway._front.connections
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    goes_on.set()
    await rig.until(lambda: connection.now is None, "its server to have said all")
    return client


@pytest.mark.parametrize(("fields", "left"), [(b"", 1), (b"Connection: close\r\n", 0)])
async def test_an_answer_that_its_client_has_not_read_yet_is_not_cut(root: Path, fields: bytes, left: int) -> None:
    async with two_runs(root) as (old, new):
        client = await unread(old, fields=fields)
        moving = asyncio.ensure_future(move(old, new))
        await asyncio.sleep(0.1)
        assert not moving.done()
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20.0):
            await client.reader.readuntil(b"0\r\n\r\n")
        assert await moving == (left, 0)


async def test_who_never_reads_an_answer_is_waited_for_no_longer_than_for_what_runs(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await unread(old)
        assert await move(old, new, limit_s=0.1) == (0, 0)


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
async def test_a_stop_leaves_its_time_to_who_has_not_read_an_answer_yet(root: Path, fields: bytes) -> None:
    async with Rig(root) as rig:
        client = await unread(rig, fields=fields)
        closing = asyncio.ensure_future(rig.gateway.close())
        await asyncio.sleep(0.1)
        assert not closing.done()
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await closing
        assert (await client.rest()).endswith(b"0\r\n\r\n")


async def test_who_reads_nothing_of_its_last_answer_does_not_keep_its_connection_for_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepd.gateway.pace.UNREAD_S", 0)
    monkeypatch.setattr("sleepd.gateway.app.SWEEP_S", 0.05)
    async with Rig(root) as rig:
        await unread(rig, fields=b"Connection: close\r\n")
        await rig.until(lambda: not rig.gateway._front.connections, "the connection to be given up")
