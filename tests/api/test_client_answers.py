"""What answers the Python clients and is no whole answer of the API's."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sleepd.client import ApiProblem, Client, DaemonUnreachable
from sleepd.client.aio import AsyncClient
from tests.api.blocking import LIMIT_S, in_thread


@contextmanager
def raw_server(path: Path, reply: bytes) -> Iterator[None]:
    """Answer one connection with these bytes, then close it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connected, _ = listening.accept()
            with connected:
                connected.recv(65536)
                connected.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(LIMIT_S)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"", "did not answer: the answer broke off"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        (OK, "the answer broke off"),
        (OK + b"Content-Length: 10\r\n\r\n{}", "the answer broke off"),
        (OK + b"Content-Length: -1\r\n\r\n{}", "no length that makes sense"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "a chunk without a size"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "the answer broke off"),
        (OK + b"A" * 70_000, "a line without end"),
        (OK + b"".join(b"H%d: x\r\n" % n for n in range(300)) + b"\r\n", "too many headers"),
    ],
)
def test_what_is_no_whole_answer_is_said(tmp_path: Path, reply: bytes, told: str) -> None:
    with raw_server(tmp_path / "s", reply), pytest.raises(DaemonUnreachable, match=told):
        Client(tmp_path / "s").status()


@pytest.mark.parametrize(
    "reply",
    [
        OK + b'Content-Length: 13\r\n\r\n{"ok": true }rest is not read',
        OK + b'Transfer-Encoding: chunked\r\n\r\n6\r\n{"ok":\r\n6;x=y\r\n true}\r\n0\r\nTrailer: x\r\n\r\n',
        OK + b'\r\n{"ok": true}',
    ],
)
def test_every_way_to_say_how_long_an_answer_is(tmp_path: Path, reply: bytes) -> None:
    with raw_server(tmp_path / "s", reply):
        assert Client(tmp_path / "s").healthz().body == {"ok": True}


@pytest.mark.parametrize("sent", [b"", b'{"beat": true}\n', b'{"id": "r", "granted": false}\n'])
async def test_a_stream_that_ends_before_anything_is_kept_broke_off(tmp_path: Path, sent: bytes) -> None:
    reply = OK + b"Content-Type: application/x-ndjson\r\nConnection: close\r\n\r\n" + sent
    client, aio = Client(tmp_path / "s", timeout_s=1.0), AsyncClient(tmp_path / "a", timeout_s=1.0)
    with raw_server(tmp_path / "s", reply), pytest.raises(DaemonUnreachable, match="broke off"):
        await in_thread(lambda: client.reserve([0], 1).__enter__())
    async with aio:
        with raw_server(tmp_path / "a", reply), pytest.raises(DaemonUnreachable, match="broke off"):
            await aio.reserve([0], 1).__aenter__()
    if sent.startswith(b'{"id"'):
        return
    (tmp_path / "s").unlink()
    (tmp_path / "a").unlink()
    with raw_server(tmp_path / "s", reply), pytest.raises(DaemonUnreachable, match="broke off"):
        await in_thread(lambda: client.holding("chat").__enter__())
    async with aio:
        with raw_server(tmp_path / "a", reply), pytest.raises(DaemonUnreachable, match="broke off"):
            await aio.holding("chat").__aenter__()


@pytest.mark.parametrize("body", [b"[]", b"<html>", b"\xff"])
def test_an_answer_of_something_else_is_no_answer(tmp_path: Path, body: bytes) -> None:
    reply = OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    with raw_server(tmp_path / "s", reply), pytest.raises(ApiProblem, match="what answers there is no sleepd"):
        Client(tmp_path / "s").status()
