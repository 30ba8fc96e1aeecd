"""The gate as proxies ask at it: over a listener by GET /gate/{name}, and over the socket API by `ask_gate`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import CHAT, Rig, get, post


async def held(rig: Rig, count: int) -> None:
    await rig.until(lambda: rig.gateway.queued("m") == count, f"{count} to be held")


async def test_the_gate_is_asked_by_a_proxy_that_sends_its_request_elsewhere(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", awake=False)
        client = await rig.client()
        client.send(get(b"/gate/m?wait_s=0"))
        status, head, _ = await client.answer()
        assert (status, b"retry-after: 10" in head) == (503, True)
        client.send(get(b"/gate/m"))
        await held(rig, 1)
        rig.daemon.wake("m")
        assert (await client.head()).startswith(b"HTTP/1.1 204 ")
        assert rig.daemon.holds == ["m"]
        assert rig.daemon.gates.of("m").in_flight == 0
        client.send(get(b"/gate/m"))
        assert (await client.head()).startswith(b"HTTP/1.1 204 ")
        assert not server.raw
        assert server.connections == 0


@pytest.mark.parametrize("target", [b"/gate/nobody", b"/gate/org/model", b"/gate/org%2Fmodel", b"/gate/alias"])
async def test_only_configured_names_have_a_gate(root: Path, target: bytes) -> None:
    async with Rig(root) as rig:
        await rig.server("m", served_names=("alias",))
        client = await rig.client()
        client.send(get(target))
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("query", [b"wait_s=soon", b"wait_s=1000", b"wait_s=-1", b"wait_s=", b"wait=5"])
async def test_a_wrong_query_is_refused(root: Path, query: bytes) -> None:
    async with Rig(root) as rig:
        await rig.server("m")
        client = await rig.client()
        client.send(get(b"/gate/m?" + query))
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_query")


async def test_a_proxy_is_let_through_only_once_the_hold_stands(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m")
        rig.daemon.holding = asyncio.get_running_loop().create_future()
        client, knock = await rig.client(), asyncio.ensure_future(rig.gateway.ask_gate("m", "alice", 5.0))
        client.send(get(b"/gate/m?wait_s=5"))
        await rig.until(lambda: rig.daemon.holds == ["m", "m"], "both to ask for the hold")
        # Somebody was quicker: the gate shuts in the turn that takes the hold in.
        rig.daemon.gates.of("m").open = False
        rig.daemon.holding.set_result(Answer(1, AnswerKind.DONE))
        await held(rig, 2)
        assert not knock.done()
        rig.daemon.holding = None
        rig.daemon.wake("m")
        assert (await client.head()).startswith(b"HTTP/1.1 204 ")
        assert await knock is None


async def test_a_knock_waits_in_the_queue_of_requests(root: Path) -> None:
    async with Rig(root, GatewaySettings(queue=2)) as rig:
        server = await rig.server("m", awake=False)
        client = await rig.client()
        client.send(post(CHAT))
        await held(rig, 1)
        knocks = [asyncio.ensure_future(rig.gateway.ask_gate("m", "alice", 5.0)) for _ in range(2)]
        await held(rig, 2)
        full = await knocks[1]
        assert full is not None
        assert (full.status, full.code, full.retry_after_s) == (503, "queue_full", 10.0)
        rig.daemon.wake("m")
        assert await knocks[0] is None
        assert (await client.answer())[0] == 200
        assert len(rig.daemon.asked) == 1, "one wish for all"
        assert len(server.seen) == 1
        assert ("m", "2xx") in rig.daemon.ends
        assert ("m", "queue_full") in rig.daemon.ends


async def test_a_knock_has_its_deadline_and_hears_why(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        late = await rig.gateway.ask_gate("m", "alice", 0.02)
        assert late is not None
        assert (late.code, late.retry_after_s) == ("timeout", 10.0)
        knock = asyncio.ensure_future(rig.gateway.ask_gate("m", "alice", 5.0))
        await held(rig, 1)
        rig.daemon.refuse("no_room", "there is a reason")
        refused = await knock
        assert refused is not None
        assert (refused.code, "there is a reason" in refused.message) == ("no_room", True)
        unknown = await rig.gateway.ask_gate("nobody", "alice", 5.0)
        assert unknown is not None
        assert unknown.code == "model_not_found"


async def test_who_knocked_and_left_is_forgotten(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        knock = asyncio.ensure_future(rig.gateway.ask_gate("m", "alice", 5.0))
        await held(rig, 1)
        knock.cancel()
        await held(rig, 0)
        await rig.until(lambda: rig.daemon.withdrawn == 1, "the wish to be withdrawn")
        assert rig.daemon.ends == [("m", "client_left")]


async def test_a_stop_refuses_who_knocks(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        knock = asyncio.ensure_future(rig.gateway.ask_gate("m", "alice", 5.0))
        await held(rig, 1)
        await rig.gateway.close()
        refused, late = await knock, await rig.gateway.ask_gate("m", "alice", 5.0)
        assert refused is not None
        assert late is not None
        assert (refused.code, late.code) == ("stopping", "stopping")
