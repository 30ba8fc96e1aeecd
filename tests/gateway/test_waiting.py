"""Requests that find their model asleep: one wish for all, released in order, bounded, forgotten when they leave."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from sleepd.core.model import CauseKind
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.held_clients import held, waiting
from tests.gateway.rig import CHAT, EVENTS, OK, STREAM, Rig, Seen, get, post


async def test_one_wish_stands_for_all_and_they_are_let_in_in_their_order(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", awake=False)
        clients = [await waiting(rig, b'{"model": "m", "n": %d}' % n) for n in range(50)]
        assert len(rig.daemon.asked) == 1
        ask = rig.daemon.asked[0]
        assert (ask.model, ask.who, ask.cause) == ("m", "gateway", CauseKind.REQUEST)
        assert not server.raw
        rig.daemon.wake("m")
        for client in clients:
            status, head, _ = await client.answer()
            assert status == 200
            assert b"x-sleepd-waited-ms: 0\r\n" not in head
        assert sorted(json.loads(seen.body)["n"] for seen in server.seen) == list(range(50))
        assert max(json.loads(seen.body)["n"] for seen in server.seen[:8]) < 24
        assert rig.daemon.gates.of("m").in_flight == 0


async def test_every_request_that_waited_is_told_of_once(root: Path) -> None:
    async with Rig(root, GatewaySettings(heartbeat_s=0.0)) as rig:
        await rig.server("m", awake=False)
        leaving = await waiting(rig)
        leaving.close()
        await rig.until(lambda: len(rig.daemon.waits) == 1, "the one that left")
        refused = await waiting(rig)
        rig.daemon.refuse("no_room", "a test")
        assert (await refused.answer())[0] == 503
        parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        served = await rig.client()
        served.send(post(CHAT, fields=b"Traceparent: %b\r\n" % parent))
        await held(rig, 1)
        rig.daemon.wake("m")
        assert (await served.answer())[0] == 200
        assert [(w.model, w.end) for w in rig.daemon.waits] == [("m", "left"), ("m", "refused"), ("m", "served")]
        assert [w.traceparent for w in rig.daemon.waits] == ["", "", parent.decode()]
        assert all(w.waited_s > 0 for w in rig.daemon.waits)


async def test_who_leaves_is_forgotten_and_the_last_takes_the_wish_along(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", awake=False)
        first, second = await waiting(rig), await waiting(rig)
        first.close()
        await held(rig, 1)
        assert rig.daemon.withdrawn == 0
        second.close()
        await held(rig, 0)
        await rig.until(lambda: rig.daemon.withdrawn == 1, "the wish to be withdrawn")
        rig.daemon.gates.open("m")
        third = await rig.client()
        third.send(post(CHAT))
        assert (await third.answer())[0] == 200
        assert len(server.seen) == 1


async def test_a_gate_that_opens_by_itself_lets_in_too(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        client = await waiting(rig)
        rig.daemon.gates.open("m")
        assert (await client.answer())[0] == 200
        await rig.until(lambda: rig.daemon.withdrawn == 1, "the wish to be withdrawn")


async def test_a_gate_that_shuts_again_keeps_the_rest_waiting(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        clients = [await waiting(rig) for _ in range(40)]
        rig.daemon.gates.open("m")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        rig.daemon.gates.of("m").open = False
        await rig.until(lambda: 0 < rig.gateway.queued("m") < 40, "some to be let in")
        left = rig.gateway.queued("m")
        await asyncio.sleep(0.05)
        assert rig.gateway.queued("m") == left
        rig.daemon.wake("m")
        assert [(await client.answer())[0] for client in clients] == [200] * 40


async def test_more_than_the_queue_holds_are_refused(root: Path) -> None:
    async with Rig(root, GatewaySettings(queue=2)) as rig:
        await rig.server("m", awake=False)
        rig.daemon.eta, rig.daemon.back = 41.2, 1.0
        await waiting(rig)
        await waiting(rig)
        client = await rig.client()
        client.send(post(CHAT))
        status, head, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "queue_full")
        assert b"retry-after: 42\r\n" in head
        assert b"x-sleepd-model: m\r\nx-sleepd-waited-ms: 0\r\n" in head


@pytest.mark.parametrize(("back_s", "told_s"), [(17.2, 18), (0.0, 1), (None, 10)])
async def test_a_request_waits_no_longer_than_it_may(root: Path, back_s: float | None, told_s: int) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False, max_wait_s=0.05)
        rig.daemon.eta, rig.daemon.back = 81.0, back_s
        client = await rig.client()
        client.send(post(CHAT))
        status, head, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "timeout")
        assert b"retry-after: %d\r\n" % told_s in head, "when its turn is near, not when the model is awake"
        told = re.search(rb"x-sleepd-model: m\r\nx-sleepd-waited-ms: (\d+)\r\n", head)
        assert told is not None
        assert int(told[1]) >= 49, "a refusal tells whose it is, and how long it was waited for"
        assert "it is a test" in json.loads(body)["error"]["message"]
        await asyncio.sleep(0.05)
        assert rig.daemon.withdrawn == 0  # it was told to come back: what was begun for it goes on
        rig.daemon.wake("m")
        client.send(post(CHAT))
        assert (await client.answer())[0] == 200


async def test_a_wish_that_nobody_waits_behind_is_told_so_until_somebody_comes_back(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False, max_wait_s=0.05)
        client = await rig.client()
        client.send(post(CHAT))
        assert (await client.answer())[0] == 503
        assert rig.daemon.attended == [(1, False)]
        again = await rig.client()
        again.send(post(CHAT))
        await rig.until(lambda: rig.daemon.attended == [(1, False), (1, True)], "it to be said")
        assert (len(rig.daemon.asked), rig.daemon.withdrawn) == (1, 0), "it is the same wish"


async def test_a_client_that_hangs_up_takes_no_wish_along_that_another_was_told_to_come_back_to(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False, max_wait_s=0.5)
        told, leaving = await waiting(rig), await rig.client()
        await asyncio.sleep(0.1)
        leaving.send(post(CHAT))
        await held(rig, 2)
        assert (await told.answer())[0] == 503
        assert rig.daemon.attended == []
        leaving.close()
        await rig.until(lambda: rig.daemon.attended == [(1, False)], "it to be said that nobody waits")
        assert rig.daemon.withdrawn == 0


async def test_the_place_is_given_up_before_the_wish_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy at the gate counts as waiting for a minute; the core keeps its place from then on."""
    monkeypatch.setattr("sleepd.gateway.queue.GOES_ON_S", 0.05)
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        client = await rig.client()
        client.send(get(b"/gate/m?wait_s=0"))
        assert (await client.answer())[0] == 503
        await rig.until(lambda: rig.daemon.withdrawn == 1, "the wish to be withdrawn")
        assert rig.daemon.attended == [(1, False)]


async def test_who_asks_at_the_gate_without_waiting_counts_as_waiting_until_it_asks_again(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        client = await rig.client()
        client.send(get(b"/gate/m?wait_s=0"))
        assert (await client.answer())[0] == 503
        assert (len(rig.daemon.asked), rig.daemon.withdrawn, rig.daemon.attended) == (1, 0, [])


@pytest.mark.parametrize(
    ("problem", "status", "retry"), [("no_room", 503, b"10"), ("failed", 503, b"30"), ("unknown_model", 404, b"")]
)
async def test_a_wish_that_is_refused_refuses_all_who_wait(root: Path, problem: str, status: int, retry: bytes) -> None:
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        clients = [await waiting(rig) for _ in range(3)]
        rig.daemon.refuse(problem, "there is a reason")
        for client in clients:
            got, head, body = await client.answer()
            assert got == status
            assert (b"retry-after: %b\r\n" % retry in head) == bool(retry)
            assert "there is a reason" in json.loads(body)["error"]["message"]


async def test_a_stream_counts_until_its_last_byte(root: Path) -> None:
    go = asyncio.Event()

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        await go.wait()
        writer.write(b"0\r\n\r\n")

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        client.send(post(STREAM))
        await client.head()
        assert rig.daemon.gates.of("m").in_flight == 1
        go.set()
        await client.read(5)
        await rig.until(lambda: rig.daemon.gates.of("m").in_flight == 0, "it to be counted out")


async def test_a_stop_refuses_who_waits_and_lets_finish_who_runs(root: Path) -> None:
    go = asyncio.Event()

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(OK)

    async with Rig(root) as rig:
        await rig.server("n", play)
        await rig.server("m", awake=False)
        held_one, running = await waiting(rig), await rig.client()
        running.send(post(CHAT.replace(b'"m"', b'"n"')))
        await rig.until(lambda: rig.servers["n"].seen, "it to run")
        stopping = asyncio.ensure_future(rig.gateway.close())
        assert (await held_one.answer())[0] == 503
        go.set()
        assert (await running.answer())[0] == 200
        await stopping


async def test_a_server_that_is_not_there_is_503(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepd.gateway.lane.UNNOTICED_S", 0.0)
    async with Rig(root) as rig:
        rig.daemon.add("m", f"unix:{root}/nothing.s")
        client = await rig.client()
        client.send(post(CHAT))
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "unreachable")
        assert rig.daemon.gates.of("m").in_flight == 0


async def test_a_server_that_has_just_died_is_waited_for_as_one_that_sleeps(root: Path) -> None:
    async with Rig(root) as rig:
        rig.daemon.add("m", f"unix:{root}/m.s")
        client = await rig.client()
        client.send(post(CHAT))
        await rig.until(lambda: rig.daemon.gates.of("m").in_flight == 1, "it to be let in")
        rig.daemon.gates.of("m").open = False  # it was noticed
        await rig.until(lambda: rig.gateway.queued("m") == 1, "it to be held")
        assert rig.daemon.gates.of("m").in_flight == 0
        server = await rig.server("m", awake=False)
        rig.daemon.wake("m")
        assert (await client.answer())[0] == 200
        assert [seen.body for seen in server.seen] == [CHAT]


async def test_a_server_that_is_back_before_it_was_missed_gets_its_requests(root: Path) -> None:
    async with Rig(root) as rig:
        rig.daemon.add("m", f"unix:{root}/m.s")
        gone, client = await rig.client(), await rig.client()
        for each in (gone, client):
            each.send(post(CHAT))
        await rig.until(lambda: rig.daemon.gates.of("m").in_flight == 2, "both to be let in")
        gone.close()
        await rig.until(lambda: rig.daemon.gates.of("m").in_flight == 1, "one to have left")
        server = await rig.server("m")
        assert (await client.answer())[0] == 200
        assert len(server.seen) == 1
