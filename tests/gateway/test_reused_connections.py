"""Connections to servers: used again only as long as no server closes them meanwhile, since nothing is asked twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sleepd.core.seen import EngineFacts
from tests.gateway.rig import CHAT, JSON, Rig, answer, post

FACTS = EngineFacts("0.32.0", (0, 32), "pst:1", ("m",), sleep_mode=True, described=True)
KEPT_S = 5.0
"""What uvicorn waits for the next request on a connection, and aiohttp for the first one, too."""


def pass_s(rig: Rig, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much later by the clock that idling is counted on."""
    front = rig.gateway._front
    monkeypatch.setattr(front, "time", lambda was=front.time: was() + seconds)


@pytest.mark.parametrize(("kept_s", "idle_s", "used"), [(5.0, 3.0, 1), (5.0, 4.0, 2), (65.0, 4.0, 2), (2.0, 1.9, 2)])
async def test_a_connection_is_used_again_well_before_its_server_gives_it_up(
    root: Path, monkeypatch: pytest.MonkeyPatch, kept_s: float, idle_s: float, used: int
) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", facts=replace(FACTS, keep_alive_s=kept_s))
        client = await rig.client()
        for _ in range(2):
            client.send(post(CHAT))
            assert (await client.answer())[0] == 200
            pass_s(rig, idle_s, monkeypatch)
        assert server.connections == used


async def test_one_that_was_opened_ahead_and_grew_old_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that counts the idling before the first request, too, closes it just as the request comes."""
    async with Rig(root) as rig:
        server = await rig.server("m", awake=False)
        client = await rig.client()
        client.send(post(CHAT))
        await rig.until(lambda: server.connections == 1, "a connection to be opened ahead of the wake")
        pass_s(rig, KEPT_S - 0.1, monkeypatch)
        rig.daemon.wake("m")
        assert (await client.answer())[0] == 200
        assert server.connections == 2


async def test_one_that_grew_old_while_requests_wait_is_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", awake=False)
        client = await rig.client()
        client.send(post(CHAT))
        await rig.until(lambda: server.connections == 1, "a connection to be opened ahead of the wake")
        pass_s(rig, KEPT_S, monkeypatch)
        lane = rig.gateway._front.directory.lanes["m"]
        lane.drop_idle(rig.gateway._front.time())
        await rig.until(lambda: server.connections == 2, "another one to be opened")
        rig.daemon.wake("m")
        assert (await client.answer())[0] == 200
        assert server.connections == 2
        lane.drop_idle(rig.gateway._front.time() + KEPT_S)
        assert not lane._idle, "nobody waits any more"


async def test_a_connection_that_brought_a_failure_is_not_used_again(root: Path) -> None:
    """uvicorn closes it without having said so."""
    failed = b"HTTP/1.1 500 Internal Server Error\r\n" + JSON + b"content-length: 2\r\n\r\n{}"
    async with Rig(root) as rig:
        server = await rig.server("m", answer(failed))
        client = await rig.client()
        for n in range(1, 3):
            client.send(post(CHAT))
            assert (await client.answer())[0] == 500
            assert server.connections == n
