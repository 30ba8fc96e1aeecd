"""What HTTP/1.1 allows in requests and answers passes, and what a server is shown and a client gets is exact."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from sleepd.gateway.errors import chunk
from tests.gateway.rig import CHAT, OK, Rig, Seen, answer, get, post

STREAM = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MARK = b"x-sleepd-model: m\r\nx-sleepd-waited-ms: 0\r\n\r\n"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(chunk(piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


async def test_a_body_goes_up_and_an_answer_comes_down_byte_for_byte(root: Path) -> None:
    body = json.dumps(
        {"messages": [{"content": "\u00e9\u0000 \ud83d\ude00"}], "model": "m", "x": 1.50}, indent=3
    ).encode()
    sent = bytes(range(256)) * 41
    async with Rig(root) as rig:
        server = await rig.server("m", answer(OK.replace(b"2\r\n\r\n{}", b"%d\r\n\r\n" % len(sent)) + sent))
        client = await rig.client()
        client.send(post(body, fields=b"X-Mine: \xe9\r\nAccept: */*\r\n"))
        assert (await client.answer())[2] == sent
        assert server.seen[0].body == body
        assert b"X-Mine: \xe9\r\nAccept: */*\r\n" in server.seen[0].head


@pytest.mark.parametrize("step", [1, 3, 7, 64, 100_000])
async def test_requests_may_come_in_any_pieces(root: Path, step: int) -> None:
    body = CHAT * 1
    request = (
        post(body) + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:5], body[5:], trailer=b"A: b\r\n")
    )
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        for at in range(0, len(request), step):
            client.send(request[at : at + step])
            await asyncio.sleep(0)
        for _ in range(2):
            assert (await client.answer())[0] == 200
        assert [seen.body for seen in server.seen] == [body, body]
        assert not any(b"A: b" in seen.head + seen.raw for seen in server.seen)


@pytest.mark.parametrize("step", [1, 5, 33, 100_000])
async def test_answers_may_come_in_any_pieces_and_keep_their_framing(root: Path, step: int) -> None:
    framed = chunked(b"data: 1\n\n", b"data: [DONE]\n\n", trailer=b"x-t: 1\r\n")

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(STREAM + framed), step):
            writer.write((STREAM + framed)[at : at + step])
            await writer.drain()
            await asyncio.sleep(0)

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        for _ in range(2):
            client.send(post(CHAT))
            assert await client.head() == STREAM[:-2] + MARK
            assert await client.read(len(framed)) == framed


async def test_no_chunk_waits_for_the_next(root: Path) -> None:
    turn = asyncio.Event()

    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        for n in range(50):
            await turn.wait()
            turn.clear()
            writer.write(chunk(b"data: %d\n\n" % n))
        writer.write(b"0\r\n\r\n")

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        client.send(post(CHAT))
        await client.head()
        for n in range(50):
            turn.set()
            wanted = chunk(b"data: %d\n\n" % n)
            assert await client.read(len(wanted)) == wanted


async def test_the_end_of_a_connection_ends_an_answer_without_length(root: Path) -> None:
    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await writer.drain()
        writer.write(b"def")
        writer.close()

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        client.send(post(CHAT))
        assert b"connection: close\r\n" in await client.head()
        assert await client.rest() == b"abcdef"


async def test_http_1_0_gets_no_chunks_and_an_end(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m", answer(STREAM + chunked(b"data: 1\n\n", b"data: 2\n\n")))
        client = await rig.client()
        client.send(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
        head = await client.head()
        assert b"transfer-encoding" not in head
        assert b"connection: close\r\n" in head
        assert await client.rest() == b"data: 1\n\ndata: 2\n\n"
        assert server.seen[0].head.startswith(b"POST /v1/completions HTTP/1.1\r\n")


async def test_head_has_a_length_and_no_body(root: Path) -> None:
    async with Rig(root) as rig:
        client = await rig.client()
        client.send(b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" + get(b"/v1/models"))
        head = await client.head()
        assert head == await client.head()
        assert b"content-length: " in head


async def test_expecting_100_is_answered_before_the_body_comes(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CHAT))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(CHAT)
        assert (await client.answer())[0] == 200
        assert b"expect" not in server.seen[0].head.lower()


async def test_who_expects_100_and_is_refused_need_not_send_its_body(root: Path) -> None:
    async with Rig(root) as rig:
        client = await rig.client()
        client.send(HEAD.replace(b"/v1/chat/", b"/v1/char/") + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        status, head, _ = await client.answer()
        assert (status, b"connection: close" in head) == (404, True)
        assert await client.rest() == b""


async def test_interim_answers_of_a_server_stay_here(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m", answer(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK))
        client = await rig.client()
        client.send(post(CHAT) + post(CHAT))
        for _ in range(2):
            status, head, body = await client.answer()
            assert (status, body, b"link" in head) == (200, b"{}", False)


async def test_pipelined_requests_are_answered_in_their_order(root: Path) -> None:
    async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02 if b'"slow"' in request.body else 0)
        writer.write(OK.replace(b"2\r\n\r\n{}", b"%d\r\n\r\n%b" % (len(request.body), request.body)))

    async with Rig(root) as rig:
        await rig.server("m", play)
        client = await rig.client()
        bodies = [b'{"model": "m", "n": %d, "x": "%b"}' % (n, b"slow" if n % 3 == 0 else b"") for n in range(20)]
        client.send(b"".join(post(body) + get(b"/v1/models") for body in bodies[:10]))
        for body in bodies[:10]:
            assert (await client.answer())[2] == body
            assert b'"object": "list"' in (await client.answer())[2]


async def test_an_error_does_not_cost_the_connection(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        for bad, status in (
            (get(b"/nope"), 404),
            (post(b"{}"), 400),
            (post(b"{"), 400),
            (post(b'{"model": "x"}'), 404),
            (get(b"/v1/chat/completions"), 405),
        ):
            client.send(bad + post(CHAT))
            assert (await client.answer())[0] == status
            assert (await client.answer())[0] == 200
        assert len(server.seen) == 5


async def test_connections_to_a_server_are_used_again_and_left_when_it_says_so(root: Path) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        for _ in range(5):
            client.send(post(CHAT))
            await client.answer()
        assert server.connections == 1
        server.play = answer(OK.replace(b"content-length", b"connection: close\r\ncontent-length"))
        for connections in (1, 2):
            client.send(post(CHAT))
            status, head, _ = await client.answer()
            assert (status, b"connection" in head, server.connections) == (200, False, connections)


async def test_hop_by_hop_fields_stay_at_their_hop(root: Path) -> None:
    hop = b"Keep-Alive: 1\r\nTE: trailers\r\nProxy-Connection: x\r\nConnection: keep-alive, X-Hop\r\n"
    hop += b"X-Hop: 1\r\nX-End: 1\r\n"
    back = b"keep-alive: timeout=5\r\nconnection: x-hop\r\nx-hop: 1\r\naccess-control-allow-origin: *\r\nx-end: 1\r\n"
    async with Rig(root) as rig:
        server = await rig.server("m", answer(OK.replace(b"content-length", back + b"content-length")))
        client = await rig.client()
        client.send(post(CHAT, fields=hop))
        _, head, _ = await client.answer()
        for seen in (server.seen[0].head.lower(), head.lower()):
            fields = seen.split(b"\r\n", 1)[1]
            for name in (b"keep-alive:", b"te:", b"proxy-connection:", b"connection:", b"x-hop:", b"access-control"):
                assert b"\r\n" + name not in b"\r\n" + fields
            assert b"x-end: 1\r\n" in fields


async def test_large_bodies_are_sent_on_while_they_come(root: Path) -> None:
    arrived: list[int] = []
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while sum(arrived) < 8 << 20:
            arrived.append(len(await reader.read(1 << 16)))
            release.set()
        writer.write(OK)
        await reader.read()
        writer.close()

    async with Rig(root) as rig:
        listening = await asyncio.start_unix_server(serve, str(root / "big.s"))
        rig.daemon.add("m", f"unix:{root}/big.s")
        client = await rig.client()
        body = b'{"model": "m", "image": "' + b"A" * ((8 << 20) - 27) + b'"}'
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[: 1 << 20])
        await asyncio.wait_for(release.wait(), 20)
        client.send(body[1 << 20 :])
        assert (await client.answer())[0] == 200
        listening.close()


@pytest.mark.parametrize("fields", [b"Transfer-Encoding: chunked\r\n", b""])
async def test_a_large_body_whose_model_comes_last_arrives_whole(root: Path, fields: bytes) -> None:
    body = b'{"messages": [{"content": "' + os.urandom(1 << 20).hex().encode() + b'"}], "model": "m"}'
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        if fields:
            client.send(HEAD + fields + b"\r\n" + chunked(*(body[at : at + 9999] for at in range(0, len(body), 9999))))
        else:
            client.send(post(body))
        assert (await client.answer())[0] == 200
        assert server.seen[0].body == body


@pytest.mark.parametrize("size", [100, 300_000])
async def test_forms_are_routed_by_their_field(root: Path, size: int) -> None:
    form = (
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\n' + os.urandom(size) + b"\r\n"
        b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--XX--\r\n'
    )
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client()
        request = post(form, b"/v1/audio/transcriptions")
        client.send(request.replace(b"application/json", b"multipart/form-data; boundary=XX"))
        assert (await client.answer())[0] == 200
        assert server.seen[0].body == form


async def test_half_a_connection_is_a_client_that_left(root: Path) -> None:
    async with Rig(root) as rig:
        left = asyncio.Event()

        async def play(request: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM + chunk(b"data: 1\n\n"))
            await asyncio.wait_for(writer.wait_closed(), 20)
            left.set()

        await rig.server("m", play)
        client = await rig.client()
        client.send(post(CHAT))
        await client.head()
        assert rig.daemon.gates.of("m").in_flight == 1
        client.writer.write_eof()
        await rig.until(lambda: rig.daemon.gates.of("m").in_flight == 0, "the request to be counted out")
