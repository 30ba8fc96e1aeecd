"""What must never get through: each is refused, and the server has seen not one byte of it."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from sleepd.gateway import pace as pace_module
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import CHAT, Client, Rig, Server, answer, get, post

HOST = b"Host: localhost\r\n"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST
SIZED = b"Content-Length: %d\r\n" % len(CHAT)


def aim(target: bytes, method: bytes = b"POST") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + HOST + SIZED + b"\r\n" + CHAT


TARGETS = {
    "sleep": b"/sleep?level=1",
    "wake": b"/wake_up",
    "rpc": b"/collective_rpc",
    "lora": b"/v1/load_lora_adapter",
    "unlora": b"/v1/unload_lora_adapter",
    "update weights": b"/update_weights",
    "pause": b"/pause",
    "metrics": b"/metrics",
    "invocations": b"/invocations",
    "encoded": b"/v1/%63hat/completions",
    "encoded slash": b"/v1%2fchat/completions",
    "encoded sleep": b"/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e/sleep",
    "climbing": b"/v1/chat/completions/../../../sleep",
    "climbing in a name": b"/v1/models/../../sleep",
    "dots": b"/v1/./chat/completions",
    "double slash": b"//v1/chat/completions",
    "double slash inside": b"/v1//chat/completions",
    "trailing slash": b"/v1/chat/completions/",
    "semicolon": b"/v1/chat/completions;a=b",
    "fragment": b"/v1/chat/completions#x",
    "query with a fragment": b"/v1/chat/completions?a#/sleep",
    "absolute": b"http://localhost/v1/chat/completions",
    "absolute elsewhere": b"http://127.0.0.1:22/sleep",
    "authority": b"localhost:80",
    "star": b"*",
    "upper case": b"/V1/CHAT/COMPLETIONS",
    "backslash": b"\\v1\\chat\\completions",
    "nul": b"/v1/chat/completions\0",
    "not ascii": b"/v1/chat/completions\xff",
    "a space": b"/v1/chat/completions /x",
    "id that climbs": b"/v1/responses/../models",
    "id with a dot": b"/v1/responses/resp_1.x",
    "id with a code": b"/v1/responses/resp_1%2fcancel",
}

RAW = {
    "two lengths": HEAD + SIZED + SIZED + b"\r\n" + CHAT,
    "two different lengths": HEAD + SIZED + b"Content-Length: 3\r\n\r\n" + CHAT,
    "a list of lengths": HEAD + b"Content-Length: 63, 63\r\n\r\n" + CHAT,
    "a signed length": HEAD + b"Content-Length: +63\r\n\r\n" + CHAT,
    "a hex length": HEAD + b"Content-Length: 0x3f\r\n\r\n" + CHAT,
    "a huge length": HEAD + b"Content-Length: 18446744073709551679\r\n\r\n" + CHAT,
    "length and chunks": HEAD + SIZED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\n" + SIZED + b"\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two fields": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + CHAT,
    "a blank before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded field": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a tab before chunked": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size of words": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfoo\r\n",
    "a signed chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a chunk size too large": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a chunk longer than said": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "chunk lines with LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "a chunk extension with CR": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;\rx\r\na\r\n0\r\n\r\n",
    "lines with LF": b"POST /v1/chat/completions HTTP/1.1\nHost: localhost\n"
    + SIZED.replace(b"\r", b"")
    + b"\n"
    + CHAT,
    "a CR in a value": HEAD + b"X-A: a\rX-B: b\r\n" + SIZED + b"\r\n" + CHAT,
    "a NUL in a value": HEAD + b"X-A: a\0b\r\n" + SIZED + b"\r\n" + CHAT,
    "a NUL in a name": HEAD + b"X\0A: a\r\n" + SIZED + b"\r\n" + CHAT,
    "a name with a blank": HEAD + b"X A: a\r\n" + SIZED + b"\r\n" + CHAT,
    "a field without a name": HEAD + b": a\r\n" + SIZED + b"\r\n" + CHAT,
    "no Host": b"POST /v1/chat/completions HTTP/1.1\r\n" + SIZED + b"\r\n" + CHAT,
    "two Hosts": HEAD + HOST + SIZED + b"\r\n" + CHAT,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": HEAD.replace(b"HTTP/1.1", b"HTTP/1.2") + SIZED + b"\r\n" + CHAT,
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303"),
    "an upgrade": HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + SIZED + b"\r\n" + CHAT,
    "an upgrade to h2c": HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + SIZED + b"\r\n" + CHAT,
    "another expectation": HEAD + b"Expect: the-unexpected\r\n" + SIZED + b"\r\n" + CHAT,
    "a gzip body": HEAD + b"Content-Encoding: gzip\r\n" + SIZED + b"\r\n" + CHAT,
    "a giant field": HEAD + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
    "a giant target": b"POST /v1/" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "many fields": HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + SIZED + b"\r\n" + CHAT,
    "a body that is too large": HEAD + b"Content-Length: 9999999999\r\n\r\n",
    "a body on GET": b"GET /v1/models HTTP/1.1\r\n" + HOST + SIZED + b"\r\n" + CHAT,
}


async def refused(rig: Rig, request: bytes) -> tuple[int, bytes]:
    """Return how a request on a connection of its own was refused, once the gateway has ended it."""
    client = await rig.client()
    client.send(request)
    status, _, body = await client.answer()
    assert 400 <= status < 500 or status == 505, (request[:80], status, body)
    assert json.loads(body)["error"]["message"]
    client.close()
    return status, body


@pytest.fixture
async def rig(root: Path):  # type: ignore[no-untyped-def]
    async with Rig(root) as rig:
        await rig.server("m")
        yield rig


async def untouched(rig: Rig) -> None:
    """The server has seen nothing but what is sent now."""
    server = rig.servers["m"]
    assert not server.raw
    client = await rig.client()
    client.send(post(CHAT))
    assert (await client.answer())[0] == 200
    assert len(server.seen) == 1


async def test_no_other_target_reaches_a_server(rig: Rig) -> None:
    for target in TARGETS.values():
        for method in (b"POST", b"GET"):
            await refused(rig, aim(target, method))
    await untouched(rig)


async def test_no_other_method_reaches_a_server(rig: Rig) -> None:
    methods = (
        b"GET",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"PATCH",
        b"TRACE",
        b"OPTIONS",
        b"CONNECT",
        b"PROPFIND",
        b"FOO",
        b"post",
    )
    for method in methods:
        client = await rig.client()
        client.send(aim(b"/v1/chat/completions", method))
        assert 400 <= int((await client.head())[9:12]) < 500, method
        client.close()
    await untouched(rig)


@pytest.mark.parametrize("name", RAW)
async def test_nothing_malformed_or_ambiguous_reaches_a_server(rig: Rig, name: str) -> None:
    await refused(rig, RAW[name])
    await untouched(rig)


@pytest.mark.parametrize("name", RAW)
async def test_nothing_behind_it_is_taken_for_a_request(rig: Rig, name: str) -> None:
    """What an intermediary might take for a body is no request here: the connection ends behind the refusal."""
    client: Client = await rig.client()
    client.send(RAW[name] + b"\r\n\r\n" + post(b'{"model": "m", "smuggled": 1}'))
    assert b"HTTP/1.1 200" not in await client.rest()
    assert not rig.servers["m"].raw


async def test_garbage_behind_a_request_does_not_disturb_its_answer(rig: Rig) -> None:
    client = await rig.client()
    client.send(post(CHAT) + b"\x00\x01garbage\r\n\r\n")
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 400
    assert await client.rest() == b""


async def test_too_many_requests_at_once_are_refused_behind_the_first(rig: Rig) -> None:
    client = await rig.client()
    client.send(post(CHAT) * 200)
    seen = await client.rest()
    assert seen.count(b"HTTP/1.1 200") <= 40
    assert b"HTTP/1.1 429" in seen


async def test_a_body_that_turns_malformed_ends_the_request_at_the_server(rig: Rig) -> None:
    client = await rig.client()
    start = b'{"model": "m", "x": "' + b"a" * 100_000
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(start), start))
    await rig.until(lambda: rig.servers["m"].connections, "the request to be sent on")
    client.send(b"zz\r\n")
    await client.rest()
    await rig.until(lambda: rig.daemon.gates.of("m").in_flight == 0, "it to be over")
    assert not rig.servers["m"].seen


async def test_slow_heads_and_bodies_are_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "HEAD_WITHIN_S", 0)
    monkeypatch.setattr(pace_module, "BODY_STALLED_S", 0)
    for start in (HEAD, HEAD + b"Content-Length: 1000\r\n\r\n{"):
        client = await rig.client()
        client.send(start)
        assert (await client.answer())[0] == 408
        assert await client.rest() == b""
    await untouched(rig)


async def test_an_idle_connection_is_ended_without_a_word(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "IDLE_CLIENT_S", 0)
    client = await rig.client()
    client.send(get(b"/v1/models"))
    await client.answer()
    assert await client.rest() == b""


async def test_field_names_and_values_of_an_answer_cannot_be_made_by_a_body(root: Path) -> None:
    """A model's name stands in answers and refusals: what is in it must not end a line."""
    async with Rig(root, GatewaySettings()) as rig:
        client = await rig.client()
        client.send(post(json.dumps({"model": "x\r\nset-cookie: a=b\r\n\r\n<script>"}).encode()))
        status, head, _ = await client.answer()
        assert (status, b"set-cookie" in head) == (404, False)
        await asyncio.sleep(0)


async def test_an_error_of_our_own_is_500_and_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def break_down(*arguments: object) -> None:
        raise ZeroDivisionError("a test")

    monkeypatch.setattr("sleepd.gateway.front.Front.dispatch", break_down)
    client = await rig.client()
    client.send(post(CHAT))
    assert (await client.answer())[0] == 500
    assert await client.rest() == b""
    assert isinstance(told[0]["exception"], ZeroDivisionError)


async def test_nothing_waits_for_more_to_be_sent_with_it(root: Path) -> None:
    """TCP_NODELAY at both ends: a chunk that waits for the last one's acknowledgement comes 40 ms late."""
    async with Rig(root) as rig:
        listening = await asyncio.start_server(Server(answer()).serve, "127.0.0.1", 0)
        rig.daemon.add("m", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        client = await rig.client(tcp=True)
        client.send(post(CHAT))
        assert (await client.answer())[0] == 200
        front = rig.gateway._front
        ours = [next(iter(front.connections)).transport, next(iter(front.directory.lanes["m"]._all)).transport]
        for transport in ours:
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        listening.close()
