"""Nothing is left of a request that is over: no place in gate or queue, no counted byte, no reading that stands."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sleepd.core.model import ModelSpec
from sleepd.gateway import front as front_module
from sleepd.gateway import pace as pace_module
from sleepd.gateway.errors import chunk
from sleepd.gateway.pace import sweep
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import CHAT, EVENTS, OK, STREAM, Rig, Seen, answer, get, post

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def large(size: int, *, first: bool = False, more: bytes = b"") -> bytes:
    """Return a body of about this size whose model comes first or last."""
    text = b'"x": "' + b"a" * size + b'"'
    parts = (b'"model": "m"', text) if first else (text, b'"model": "m"')
    return b"{" + b", ".join(parts) + more + b"}"


def in_flight(rig: Rig) -> int:
    return rig.daemon.gates.of("m").in_flight


@pytest.mark.parametrize("first", [True, False])
async def test_bodies_that_were_sent_on_are_kept_and_counted_no_more(root: Path, first: bool) -> None:
    async with Rig(root) as rig:
        await rig.server("m")
        client = await rig.client()
        for _ in range(3):
            client.send(post(large(1 << 20, first=first)))
            assert (await client.answer())[0] == 200
        assert rig.gateway._front.buffered_bytes == 0


async def test_a_body_that_is_too_much_to_hold_counts_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "BUFFERED_LIMIT", 150_000)
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        first = await rig.client()
        first.send(post(large(100_000)))
        await rig.until(lambda: rig.gateway.queued("m") == 1, "it to be held")
        second = await rig.client()
        second.send(post(large(100_000)))
        status, _, body = await second.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "too_much_held")
        await second.rest()
        first.close()
        await rig.until(lambda: rig.gateway.queued("m") == 0, "it to be forgotten")
        assert rig.gateway._front.buffered_bytes == 0


@pytest.mark.parametrize("connecting", [True, False])
async def test_a_body_refused_while_it_waits_leaves_the_queue_and_the_gate(
    root: Path, monkeypatch: pytest.MonkeyPatch, connecting: bool
) -> None:
    """Held, or let in and its server not reached yet: what was refused is sent nowhere, and keeps nobody awake."""
    monkeypatch.setattr(front_module, "HELD_BODY_LIMIT", 200_000)
    async with Rig(root) as rig:
        server = await rig.server("m", awake=connecting)
        if connecting:
            lane = rig.gateway._front.directory.find("m")
            opened = lane._open

            async def open_late() -> object:
                await asyncio.sleep(0.2)
                return await opened()

            monkeypatch.setattr(lane, "_open", open_late)
        client = await rig.client()
        body = large(1 << 20, first=True)
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:100_000])
        await rig.until(lambda: in_flight(rig) if connecting else rig.gateway.queued("m"), "it to be sent on or held")
        client.send(body[100_000:])
        assert (await client.answer())[0] == 413
        assert rig.gateway.queued("m") == 0
        rig.daemon.gates.open("m")
        await asyncio.sleep(0.4)
        assert in_flight(rig) == 0
        assert not server.raw


async def test_a_connection_is_read_on_after_a_body_that_its_server_took_slowly(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        for n in range(1, 4):
            client.send(post(large(3 << 20)))
            assert (await client.answer())[0] == 200
            client.send(post(CHAT))
            assert (await client.answer())[0] == 200
            assert len(server.seen) == 2 * n


async def test_who_pipelines_and_leaves_is_noticed(root: Path) -> None:
    """Reading pauses while a pipelined request waits for its turn: then only the kernel knows that the client left."""
    async with Rig(root) as rig:
        await rig.server("m", awake=False)
        client = await rig.client()
        client.send(post(CHAT) + get(b"/v1/models"))
        await rig.until(lambda: rig.gateway.queued("m") == 1, "it to be held")
        client.close()
        await rig.until(lambda: rig.gateway.queued("m") == 0, "it to be forgotten")


async def test_who_leaves_while_its_body_is_not_taken_is_noticed(root: Path) -> None:
    stuck = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await stuck.wait()
        writer.close()

    async with Rig(root) as rig:
        listening = await asyncio.start_unix_server(serve, str(root / "stuck.s"))
        rig.daemon.add("m", f"unix:{root}/stuck.s")
        client = await rig.client()
        body = large(8 << 20, first=True)
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-10])
        await rig.until(lambda: in_flight(rig) == 1, "it to be let in")
        await asyncio.sleep(0.3)
        client.writer.transport.abort()
        await rig.until(lambda: in_flight(rig) == 0, "it to be counted out")
        stuck.set()
        listening.close()


async def test_an_answer_that_comes_before_the_body_is_whole_reaches_its_client(root: Path) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
    never = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)
        writer.write(refusal)
        await never.wait()
        writer.close()

    async with Rig(root) as rig:
        listening = await asyncio.start_unix_server(serve, str(root / "early.s"), limit=1 << 16)
        rig.daemon.add("m", f"unix:{root}/early.s")
        client = await rig.client()
        client.send(post(large(8 << 20, first=True)))
        assert (await client.answer())[0] == 413
        await asyncio.wait_for(client.writer.drain(), 20)  # what it still sends is read and dropped
        assert in_flight(rig) == 0
        never.set()
        listening.close()


async def test_a_long_stream_is_not_cut_at_the_first_moment_its_client_is_slow(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace_module, "UNREAD_S", 300)
    go = asyncio.Event()

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        await go.wait()
        writer.write(chunk(b"x" * (4 << 20)) + b"0\r\n\r\n")

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        client.send(post(CHAT))
        await client.head()
        connection = next(iter(rig.gateway._front.connections))
        for _ in range(400):
            sweep(connection)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        go.set()
        await rig.until(lambda: not connection.is_writable, "the client to be slow")
        sweep(connection)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            assert len(await client.reader.readuntil(b"\r\n0\r\n\r\n")) > 4 << 20


async def test_a_head_has_its_time_from_its_own_first_byte(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m")
        client = await rig.client()
        client.send(get(b"/v1/models"))
        await client.answer()
        connection = next(iter(rig.gateway._front.connections))
        for _ in range(60):
            sweep(connection)
        request = post(CHAT)
        client.send(request[:20])
        await rig.until(lambda: connection.head_fed, "the head to begin")
        sweep(connection)
        client.send(request[20:])
        assert (await client.answer())[0] == 200


async def test_who_waits_for_a_model_that_moves_is_sent_to_its_new_address(root: Path) -> None:
    """At the old one there may be anything: an engine that sleeps, or nobody."""
    async with Rig(root) as rig:
        old = await rig.server("m", awake=False)
        new = await rig.server("other")
        clients = [await rig.client() for _ in range(3)]
        for client in clients:
            client.send(post(CHAT))
        await rig.until(lambda: rig.gateway.queued("m") == 3, "all to be held")
        moved = replace(rig.daemon.world.models["m"], spec=ModelSpec("m", rig.daemon.world.models["other"].spec.url))
        models = {**rig.daemon.world.models, "m": moved}
        settings = replace(rig.daemon.world.settings, models={n: r.spec for n, r in models.items()})
        rig.daemon.world = replace(rig.daemon.world, models=models, settings=settings)
        rig.gateway.take(rig.settings)
        assert rig.gateway.queued("m") == 3
        rig.daemon.wake("m")
        assert [(await client.answer())[0] for client in clients] == [200] * 3
        assert not old.raw
        assert len(new.seen) == 3
        assert in_flight(rig) == 0


@pytest.mark.parametrize("first", [True, False])
async def test_a_large_stream_that_waits_hears_heartbeats_too(root: Path, first: bool) -> None:
    async with Rig(root, GatewaySettings(heartbeat_s=0.05)) as rig:
        await rig.server("m", answer(EVENTS + b"0\r\n\r\n"), awake=False)
        client = await rig.client()
        client.send(post(large(500_000, first=first, more=b', "stream": true')))
        assert b"text/event-stream" in await client.head()
        rig.daemon.wake("m")
        async with asyncio.timeout(20):
            await client.reader.readuntil(b"\n0\r\n\r\n")


@pytest.mark.parametrize(
    "endless", [b"1\r\n \r\n0\r\nx: " + b"a" * 65536, b"1;" + b"a" * 65536], ids=["a trailer", "an extension"]
)
async def test_what_is_no_body_has_a_limit_too(root: Path, endless: bytes) -> None:
    """A trailer's field is gathered by the parser: without a limit it would take all memory."""
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + endless)
        for _ in range(20):
            client.send(b"a" * 65536)
            await asyncio.sleep(0)
        assert (await client.answer())[0] == 431
        assert not server.raw


async def test_many_small_chunks_are_a_body(root: Path) -> None:
    body = large(100_000)
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        client.send(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunk(body[n : n + 1]) for n in range(len(body)))
        )
        client.send(b"0\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert server.seen[0].body == body


async def test_an_error_that_is_no_json_is_still_an_event_of_the_api(root: Path) -> None:
    told = b"Internal Server Error"
    plain = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncontent-length: 21\r\n\r\n" + told
    for path, kind in ((b"/v1/chat/completions", None), (b"/v1/messages", "error")):
        async with Rig(root, GatewaySettings(heartbeat_s=0.05)) as rig:
            await rig.server("m", answer(plain), awake=False)
            client = await rig.client()
            client.send(post(STREAM, path))
            await client.head()
            rig.daemon.wake("m")
            async with asyncio.timeout(20):
                rest = await client.reader.readuntil(b"\n0\r\n\r\n")
            event = json.loads(rest.split(b"data: ")[-1].split(b"\n")[0])
            assert event.get("type") == kind
            assert "Internal Server Error" in event["error"]["message"]
        (root / "g.sock").unlink()
        (root / "m.s").unlink(missing_ok=True)


async def test_a_question_that_cannot_be_asked_again_is_answered(root: Path) -> None:
    first = b'{"id": "resp_abc"}'
    async with Rig(root, GatewaySettings(queue=0)) as rig:
        server = await rig.server("m", answer(OK.replace(b"2\r\n\r\n{}", b"%d\r\n\r\n%b" % (len(first), first))))
        client = await rig.client()
        client.send(post(b'{"input": "", "model": "m"}', b"/v1/responses"))
        await client.answer()

        def shut(request: Seen, writer: asyncio.StreamWriter) -> None:
            rig.daemon.gates.of("m").open = False
            writer.close()

        server.play = shut
        client.send(get(b"/v1/responses/resp_abc"))
        assert (await client.answer())[0] == 503
        assert in_flight(rig) == 0


async def test_an_address_that_cannot_be_understood_is_told(root: Path) -> None:
    async with Rig(root) as rig:
        rig.daemon.add("m", "http://" + "a" * 70 + ".example:1")
        client = await rig.client()
        client.send(post(CHAT))
        assert (await client.answer())[0] == 503
        assert in_flight(rig) == 0


async def test_a_large_body_that_no_server_could_read_is_refused(root: Path) -> None:
    """Of nesting the looking costs most; and half a surrogate is a name that cannot be told as it is."""
    async with Rig(root) as rig:
        server = await rig.server("m")
        for body, status in (
            (b'{"x": ' + b"[" * 300_000, 400),
            (b'{"x": "' + b"a" * 100_000 + b'", "model": "\\ud800"}', 404),
        ):
            client = await rig.client()
            client.send(post(body))
            assert (await client.answer())[0] == status
        assert not server.raw


async def test_a_connection_that_comes_too_late_for_its_lane_is_not_kept(root: Path) -> None:
    """Its model has another address by then, and nobody sweeps what the old lane keeps."""
    async with Rig(root) as rig:
        await rig.server("m")
        lane = rig.gateway._front.directory.find("m")
        upstream = await lane._open()
        lane.close()
        lane.give_back(upstream)
        assert upstream.transport.is_closing()
        await rig.until(lambda: not lane._all, "it to end")
