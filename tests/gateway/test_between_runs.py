"""What clients do while no gateway is there: send requests, or parts of them, and hang up."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.gateway.held_clients import asking
from tests.gateway.rig import CHAT, get, post
from tests.gateway.runs import move, two_runs


async def test_who_sends_while_nobody_is_there_is_read_by_the_next_run(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await new.server("m")
        client = await old.client()
        client.send(get(b"/v1/models"))
        await client.answer()
        descriptors, state, _ = await old.gateway.hand_over(5.0, 10)
        await old.gateway.close()
        client.send(post(CHAT))
        await asyncio.sleep(0.05)
        assert await new.gateway.inherit(descriptors, state) == 1
        os.close(state)
        assert (await client.answer())[0] == 200


async def test_half_a_request_that_comes_while_nobody_is_there_is_read_on(root: Path) -> None:
    async with two_runs(root) as (old, new):
        server = await new.server("m")
        client = await old.client()
        client.send(get(b"/v1/models"))
        await client.answer()
        descriptors, state, _ = await old.gateway.hand_over(5.0, 10)
        await old.gateway.close()
        whole = post(CHAT)
        client.send(whole[:-5])
        await asyncio.sleep(0.05)
        loop, wait = asyncio.get_running_loop(), asyncio.sleep
        accept = loop.connect_accepted_socket

        async def accept_slowly(*words: object, **more: object) -> object:
            """What was sent already is read before the connection is told to be there."""
            done = await accept(*words, **more)  # type: ignore[arg-type]
            await wait(0.1)
            return done

        loop.connect_accepted_socket = accept_slowly  # type: ignore[method-assign]
        try:
            assert await new.gateway.inherit(descriptors, state) == 1
        finally:
            del loop.connect_accepted_socket
        os.close(state)
        client.send(whole[-5:])
        assert (await client.answer())[0] == 200
        assert [seen.body for seen in server.seen] == [CHAT]


async def test_half_a_request_has_a_moment_to_become_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepd.gateway.app.UNSENT_S", 0.6)
    async with two_runs(root) as (old, new):
        await old.server("m")
        server = await new.server("m")
        slow, slower, silent = [await old.client() for _ in range(3)]
        whole = post(CHAT)
        slow.send(whole[:-5])
        slower.send(whole[:-5])
        silent.send(b"PO")
        await old.until(lambda: sum(c.is_midway for c in old.gateway._front.connections) == 3, "all halves to be read")
        moving = asyncio.ensure_future(move(old, new))
        await asyncio.sleep(0.1)
        slow.send(whole[-5:])
        assert await moving == (1, 1)
        assert (await slow.answer())[0] == 200
        status, head, body = await slower.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "stopping")
        assert b"retry-after: 5\r\n" in head
        assert await silent.rest() == b""
        assert len(server.seen) == 1
        assert not old.servers["m"].seen


async def test_who_hung_up_in_between_is_missed_by_nobody(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        server = await new.server("m", awake=False)
        leaving, staying = await asking(old, post(CHAT)), await asking(old, post(CHAT))
        descriptors, state, _ = await old.gateway.hand_over(5.0, 10)
        await old.gateway.close()
        leaving.close()
        await asyncio.sleep(0.05)
        assert await new.gateway.inherit(descriptors, state) == 2
        os.close(state)
        await new.until(lambda: new.gateway.queued("m") == 1, "one to be held")
        new.daemon.wake("m")
        assert (await staying.answer())[0] == 200
        assert len(server.seen) == 1
