"""The daemon hears of every request once, and what became of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import CHAT, Rig, Seen, answer, get, post

CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthat was all"
FAILED = b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\n{}"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}"


def break_off(request: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(CUT)
    writer.close()


def end(request: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(UNTIL_THE_END)
    writer.close()


async def test_each_end_is_told_once(root: Path) -> None:
    async with Rig(root, GatewaySettings(queue=1)) as rig:
        await rig.server("m")
        await rig.server("failing", answer(FAILED))
        await rig.server("cut", break_off)
        await rig.server("closing", end)
        await rig.server("asleep", awake=False)
        wanted: list[tuple[str, str]] = []

        async def told(*ends: tuple[str, str]) -> None:
            wanted.extend(ends)
            await rig.until(lambda: len(rig.daemon.ends) >= len(wanted), f"{ends} to be told")
            assert rig.daemon.ends == wanted

        async def ask(request: bytes, *ends: tuple[str, str]) -> None:
            client = await rig.client()
            client.send(request)
            await client.head()
            await told(*ends)
            client.close()

        def chat(model: bytes) -> bytes:
            return post(CHAT.replace(b'"m"', b'"%b"' % model))

        await ask(chat(b"m"), ("m", "2xx"))
        await ask(chat(b"failing"), ("failing", "5xx"))
        await ask(chat(b"cut"), ("cut", "broken"))
        await ask(chat(b"closing"), ("closing", "2xx"))
        await ask(chat(b"made-up"), ("", "model_not_found"))
        await ask(get(b"/v1/models"), ("", "2xx"))
        await ask(get(b"/nothing"), ("", "unknown_url"))
        await ask(b"no HTTP\r\n\r\n", ("", "bad_request"))
        await ask(get(b"/gate/m"), ("m", "2xx"))
        waits = await rig.client()
        waits.send(chat(b"asleep"))
        await rig.until(lambda: rig.gateway.queued("asleep") == 1, "it to wait")
        await ask(chat(b"asleep"), ("asleep", "queue_full"))
        waits.close()
        await told(("asleep", "client_left"))
