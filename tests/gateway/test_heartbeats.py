"""Streams that wait for a wake: they hear that they are waited for, and then their answer or an error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sleepd.gateway.errors import chunk
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.held_clients import waiting
from tests.gateway.rig import CHAT, EVENTS, STREAM, Rig, answer, post

MESSAGE = b'{"max_tokens": 5, "stream": true, "model": "m", "messages": []}'
SOON = GatewaySettings(heartbeat_s=0.05)


async def test_a_stream_that_waits_hears_comments_and_then_the_answer(root: Path) -> None:
    async with Rig(root, SOON) as rig:
        told = chunk(b"data: 1\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        await rig.server("m", answer(EVENTS + told), awake=False)
        client = await waiting(rig, STREAM)
        head = await client.head()
        assert b"content-type: text/event-stream" in head
        assert b"x-sleepd-model: m\r\n" in head
        beat = chunk(b": waiting for the model to wake\n\n")
        assert await client.read(2 * len(beat)) == 2 * beat
        rig.daemon.wake("m")
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):
            seen += await client.read(1)
        assert seen.replace(beat, b"") == chunk(b"data: 1\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        client.send(post(CHAT))
        await client.head()


async def test_anthropic_streams_hear_pings_and_errors_of_their_own(root: Path) -> None:
    async with Rig(root, SOON) as rig:
        await rig.server("m", awake=False)
        client = await waiting(rig, MESSAGE, b"/v1/messages")
        await client.head()
        beat = chunk(b'event: ping\ndata: {"type": "ping"}\n\n')
        assert await client.read(len(beat)) == beat
        rig.daemon.refuse("no_room", "no room")
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += await client.read(1)
        assert b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"' in rest


@pytest.mark.parametrize("known", [True, False])
async def test_an_error_after_a_heartbeat_is_one_event_and_no_done(root: Path, known: bool) -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 31\r\n\r\n"
    async with Rig(root, SOON) as rig:
        await rig.server("m", answer(refusal + b'{"error":\n{"message":"no way"}}'), awake=False)
        client = await waiting(rig, STREAM)
        await client.head()
        if known:
            rig.daemon.wake("m")
        else:
            rig.daemon.refuse("engine_failed", "no way")
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += await client.read(1)
        events = [line for line in rest.split(b"\n") if line.startswith(b"data: ")]
        assert len(events) == 1
        assert "no way" in json.loads(events[0][6:])["error"]["message"]
        assert b"[DONE]" not in rest


async def test_no_heartbeat_goes_to_who_wants_no_stream(root: Path) -> None:
    async with Rig(root, GatewaySettings(heartbeat_s=0.01)) as rig:
        await rig.server("m", awake=False)
        client = await waiting(rig)
        await asyncio.sleep(0.1)
        rig.daemon.wake("m")
        assert (await client.answer())[2] == b"{}"
