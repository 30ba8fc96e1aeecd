"""Servers with TLS of their own: spoken to where their certificate holds, and sent nothing where it does not."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest
from adapters.certificates import certificate

from tests.gateway.rig import CHAT, OK, Rig, Seen, post

LONG = b'{"model": "m", "messages": "' + b"x" * 3_000_000 + b'"}'


def showing(made: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, key)
    return context


async def slowly(request: Seen, writer: asyncio.StreamWriter) -> None:
    """Half of an answer that ends with its connection, then the other half."""
    if b"stream" not in request.body:
        writer.write(OK)
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
    await writer.drain()
    writer.write(b"data: [DONE]\n\n")
    writer.close()


async def test_what_its_authority_signed_is_spoken_to_as_any_other(root: Path) -> None:
    made, key = certificate(root, "own")
    secret = root / "key"
    secret.write_text("upstream-key\n")
    secret.chmod(0o600)
    async with Rig(root) as rig:
        server = await rig.server("m", slowly, tls=showing(made, key), ca_file=str(made), api_key_file=str(secret))
        client = await rig.client()
        for body in (CHAT, LONG, CHAT):
            client.send(post(body))
            assert (await client.answer())[0] == 200
        assert [seen.body for seen in server.seen] == [CHAT, LONG, CHAT]
        assert {seen.fields[b"authorization"] for seen in server.seen} == {b"Bearer upstream-key"}
        assert server.connections == 1, "it is kept for the next request"
        client.send(post(CHAT.replace(b"{", b'{"stream": true, ', 1), fields=b"Connection: close\r\n"))
        assert (await client.rest()).rstrip(b"\r\n0").endswith(b"data: 1\n\ndata: [DONE]")


@pytest.mark.parametrize("wrong", ["another authority", "another name", "no readable authority"])
async def test_what_shows_another_certificate_is_sent_nothing(root: Path, wrong: str) -> None:
    made, key = certificate(root, "own", "IP:127.0.0.9" if wrong == "another name" else "IP:127.0.0.1")
    trusted = {"another authority": certificate(root, "other")[0], "no readable authority": root / "none.pem"}
    async with Rig(root) as rig:
        server = await rig.server("m", tls=showing(made, key), ca_file=str(trusted.get(wrong, made)))
        client = await rig.client()
        client.send(post(CHAT))
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (503, "unreachable")
        assert "ertificate" in json.loads(body)["error"]["message"]
        assert not server.raw
