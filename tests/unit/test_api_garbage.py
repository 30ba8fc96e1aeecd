"""What is no HTTP request: refused in words like everything else, and no way to fill the log."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sleepd.api import protocol
from tests.unit.api_rig import FakeDaemon, serving

GARBAGE = {
    "words": b"give me a model\r\n\r\n",
    "an unknown method": b"FROBNICATE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030102000100") + b"\x01\xfc\x03\x03" * 9,
    "a header over 8 KiB": b"GET /v1/models HTTP/1.1\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n",
    "a path over 8 KiB": b"GET /v1/" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    "a header with a zero": b"GET /v1/models HTTP/1.1\r\nA\x00b: x\r\n\r\n",
    "a length below zero": b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\n",
    "a chunk of no size": b"POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nxx",
    "a line that would break the log": b"GET /\x1b[31m\r\x0bERROR all is lost HTTP/1.1\r\n\r\n",
    "what is not compressed": b"POST /v1/reload HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
}


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    async with serving(FakeDaemon(), tmp_path / "s"):
        yield tmp_path / "s"


async def send(path: Path, raw: bytes) -> tuple[bytes, bytes]:
    """Return head and body of the answer, as far as the server ended the connection or the answer is whole."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(raw)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = int(re.findall(rb"Content-Length: (\d+)", head)[0])
    body = await asyncio.wait_for(reader.readexactly(length), 20)
    writer.close()
    return head, body


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
async def test_it_is_answered_with_a_problem(path: Path, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    head, body = await send(path, raw)
    assert head.split()[1] == b"400"
    assert b"Content-Type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["kind"] == "invalid"
    assert problem["wanted"]
    assert len(body) < 600
    assert not [r for r in caplog.records if r.exc_info], "a traceback reached the log"
    assert all(len(r.getMessage()) < 300 for r in caplog.records)
    assert all(r.getMessage().isprintable() for r in caplog.records)


async def test_the_api_goes_on(path: Path) -> None:
    await send(path, GARBAGE["words"])
    head, body = await send(path, b"GET /v1/models/chat HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.split()[1] == b"200"
    assert json.loads(body)["name"] == "chat"


async def test_however_much_of_it_comes_a_line_is_told_now_and_then(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(protocol.time, "monotonic", lambda: now_s)
    caplog.set_level(logging.DEBUG)
    for _ in range(20):
        await send(path, GARBAGE["a header over 8 KiB"])
    told = [r for r in caplog.records if r.name in ("sleepd.api", "aiohttp.server")]
    assert [r.levelno for r in told] == [logging.WARNING]
    assert "no HTTP request" in told[0].getMessage()
    now_s += protocol.TOLD_EVERY_S
    await send(path, GARBAGE["words"])
    assert "19 more" in caplog.records[-1].getMessage()
