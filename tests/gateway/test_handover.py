"""One run of the gateway leaves its connections to the next: clients notice nothing, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sleepd.gateway import app
from sleepd.gateway.client import ClientConnection
from sleepd.gateway.errors import chunk
from sleepd.gateway.handover import UnknownState, write_state
from sleepd.gateway.settings import SMALL_BODY, GatewaySettings
from tests.gateway.held_clients import asking
from tests.gateway.rig import CHAT, EVENTS, OK, STREAM, Rig, Seen, answer, get, post
from tests.gateway.runs import move, two_runs


async def test_who_is_held_is_answered_by_the_next_run(root: Path) -> None:
    large = b'{"model": "m", "messages": "' + b"x" * (3 * SMALL_BODY) + b'"}'
    form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    typed = b"POST /v1/audio/translations HTTP/1.1\r\nhost: localhost\r\n"
    typed += b"content-type: multipart/form-data; boundary=b\r\n"
    asked = [
        post(CHAT, fields=b"X-Mine: 1\r\n"),
        post(large),
        typed + b"content-length: %d\r\n\r\n%b" % (len(form), form),
    ]
    async with two_runs(root) as (old, new):
        mine = await old.server("m", awake=False)
        server = await new.server("m", awake=False)
        clients = [await asking(old, request) for request in asked]
        assert await move(old, new) == (3, 3)
        await new.until(lambda: new.gateway.queued("m") == 3, "all to be held again")
        assert old.daemon.withdrawn == 0, "what was begun for them goes on"
        new.daemon.wake("m")
        for client in clients:
            status, head, _ = await client.answer()
            assert status == 200
            assert b"x-sleepd-waited-ms: 0\r\n" not in head
        assert {seen.body for seen in server.seen} == {CHAT, large, form}
        assert {seen.fields.get(b"x-mine") for seen in server.seen} == {b"1", None}
        assert not mine.raw
        clients[0].send(post(CHAT))
        assert (await clients[0].answer())[0] == 200, "its connection goes on being used"


async def test_who_came_first_is_served_first(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        await new.server("m", awake=False)
        clients = [await asking(old, post(b'{"model": "m", "n": %d}' % n)) for n in range(20)]
        await move(old, new)
        await new.until(lambda: new.gateway.queued("m") == 20, "all to be held again")
        held = new.gateway._front.directory.lanes["m"].queue.held
        assert [json.loads(x.parts[0])["n"] for x in held] == list(range(20))  # type: ignore[attr-defined]
        new.daemon.wake("m")
        assert {(await client.answer())[0] for client in clients} == {200}


async def test_a_stream_that_heard_heartbeats_hears_on(root: Path) -> None:
    async with two_runs(root, GatewaySettings(heartbeat_s=0.05)) as (old, new):
        await old.server("m", awake=False)

        def play(request: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(EVENTS + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

        await new.server("m", play, awake=False)
        client = await asking(old, post(STREAM))
        assert b"text/event-stream" in await client.head()
        await client.reader.readuntil(b"wake\n\n\r\n")
        await move(old, new)
        await client.reader.readuntil(b"wake\n\n\r\n")
        await client.reader.readuntil(b"wake\n\n\r\n")
        new.daemon.wake("m")
        rest = await client.reader.readuntil(b"0\r\n\r\n")
        assert rest.count(b"data: [DONE]\n\n") == 1
        assert b"HTTP/1.1" not in rest


async def test_its_time_goes_on_counting(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        await new.server("m", awake=False, max_wait_s=0.2)
        client = await asking(old, post(CHAT))
        await asyncio.sleep(0.2)
        await move(old, new)
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "timeout")


async def test_what_runs_is_finished_and_what_comes_meanwhile_is_left(root: Path) -> None:
    go = asyncio.Event()

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(OK)

    async with two_runs(root) as (old, new):
        await old.server("m", play)
        server = await new.server("m")
        running, idle, piping = [await old.client() for _ in range(3)]
        for client in (idle, piping):
            client.send(get(b"/v1/models"))
            await client.answer()
        running.send(post(CHAT))
        piping.send(post(CHAT) + post(b'{"model": "m", "n": 2}'))
        await old.until(lambda: old.daemon.gates.of("m").in_flight == 2, "two to run")
        moving = asyncio.ensure_future(move(old, new))
        await asyncio.sleep(0.1)
        assert not moving.done()
        idle.send(post(b'{"model": "m", "n": 3}'))
        await asyncio.sleep(0.1)
        assert len(old.servers["m"].seen) == 2, "nothing new begins"
        go.set()
        for client in (running, piping):
            assert (await client.answer())[0] == 200
        assert await moving == (3, 2)
        assert (await idle.answer())[0] == 200
        assert (await piping.answer())[0] == 200
        assert sorted(json.loads(seen.body)["n"] for seen in server.seen) == [2, 3]
        running.send(post(CHAT))
        assert (await running.answer())[0] == 200


async def test_what_does_not_end_in_time_is_cut_and_the_rest_is_left(root: Path) -> None:
    async with two_runs(root) as (old, new):

        async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(EVENTS)
            await asyncio.Event().wait()

        await old.server("m", play)
        await old.server("n", awake=False)
        await new.server("n")
        endless, other = await old.client(), await old.client()
        endless.send(post(STREAM))
        await endless.head()
        other.send(post(CHAT.replace(b'"m"', b'"n"')))
        await old.until(lambda: old.gateway.queued("n") == 1, "the other to be held")
        assert await move(old, new, limit_s=0.1) == (1, 1)
        assert await endless.rest() == b""
        assert (await other.answer())[0] == 200


async def test_a_gate_is_asked_over_two_runs(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        await new.server("m", awake=False)
        client = await asking(old, get(b"/gate/m"))
        knock = asyncio.ensure_future(old.gateway.ask_gate("m", "alice", 5.0))
        await old.until(lambda: old.gateway.queued("m") == 2, "both to wait")
        await move(old, new)
        refused = await knock
        assert refused is not None
        assert refused.code == "stopping"
        await new.until(lambda: new.gateway.queued("m") == 1, "it to wait again")
        new.daemon.wake("m")
        assert (await client.head()).startswith(b"HTTP/1.1 204 ")


async def test_more_than_the_manager_keeps_are_told_to_come_again(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        await new.server("m")
        clients = [await asking(old, post(CHAT)) for _ in range(3)]
        assert await move(old, new, most=2) == (2, 2)
        assert sorted([(await client.answer())[0] for client in clients]) == [200, 200, 503]


async def test_connections_over_tcp_move_as_those_over_unix_sockets_do(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        await new.server("m")
        client = await old.client(tcp=True)
        client.send(post(CHAT))
        await old.until(lambda: old.gateway.queued("m") == 1, "it to be held")
        assert await move(old, new) == (1, 1)
        assert (await client.answer())[0] == 200
        client.send(post(CHAT).replace(b"Host: localhost", b"Host: a.page"))
        assert (await client.answer())[0] == 403, "the rules of its listener still hold"


async def test_whose_response_an_id_is_is_known_to_the_next_run(root: Path) -> None:
    answered = b'{"id": "resp_1", "object": "response"}'
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    async with two_runs(root) as (old, new):
        await old.server("m", answer(reply % (len(answered), answered)))
        server = await new.server("m")
        client = await old.client()
        client.send(post(CHAT, b"/v1/responses"))
        await client.answer()
        await move(old, new)
        client.send(get(b"/v1/responses/resp_1"))
        assert (await client.answer())[0] == 200
        assert server.seen[0].head.startswith(b"GET /v1/responses/resp_1 ")


async def test_what_another_release_left_is_given_up(root: Path) -> None:
    async with two_runs(root) as (old, new):
        await old.server("m", awake=False)
        client = await asking(old, post(CHAT))
        descriptors, state, _ = await old.gateway.hand_over(5.0, 10)
        os.pwrite(state, b"X", 0)
        with pytest.raises(UnknownState):
            await new.gateway.inherit(descriptors, state)
        os.close(state)
        await old.gateway.close()
        assert await client.rest() == b""


async def test_nothing_to_leave_is_a_state_too(root: Path) -> None:
    async with two_runs(root) as (_, new):
        state = write_state([], [])
        assert await new.gateway.inherit([], state) == 0
        os.close(state)


@pytest.fixture
def just_taken(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens, once each, when a connection was taken from the kernel and before the loop tells of it."""
    due: list[Callable[[], None]] = []
    make = app._make_connection

    def make_connection(*words: Any) -> ClientConnection:
        while due:
            due.pop()()
        return make(*words)

    monkeypatch.setattr(app, "_make_connection", make_connection)
    return due


async def test_who_is_just_being_let_in_is_left_to_the_next_run(
    root: Path, just_taken: list[Callable[[], None]]
) -> None:
    async with two_runs(root) as (old, new):
        await new.server("m")
        moving: list[asyncio.Future[tuple[int, int]]] = []
        just_taken.append(lambda: moving.append(asyncio.ensure_future(move(old, new))))
        client = await old.client()
        client.send(post(CHAT))
        assert (await client.answer())[0] == 200
        assert await moving[0] == (1, 0)


async def test_who_is_just_being_let_in_is_answered_before_a_stop(
    root: Path, just_taken: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepd.gateway.app.NEWCOMER_LOOKS", 10_000)
    rig, request = Rig(root), post(CHAT)
    rig.passed = True
    async with rig:
        await rig.server("m")
        closing: list[asyncio.Future[None]] = []
        just_taken.append(lambda: closing.append(asyncio.ensure_future(rig.gateway.close())))
        client = await rig.client()
        client.send(request[:-5])
        await rig.until(lambda: any(c.asked for c in rig.gateway._front.connections), "its head to be read")
        await asyncio.sleep(0.1)
        client.send(request[-5:])
        assert (await client.answer())[0] == 200
        await closing[0]
