"""Pages for machines: whoever reaches them takes nothing from the daemon but the pages."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sleepd.obs import pages as pages_module
from sleepd.obs.pages import Answer, Pages, json_answer

GET = b"GET /metrics HTTP/1.1\r\nhost: anything\r\n\r\n"


async def show(accept: str) -> Answer:
    return Answer(200, "text/plain", f"for {accept}".encode())


async def break_off(accept: str) -> Answer:
    raise RuntimeError("a page that cannot be made")


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Pages]:
    pages = Pages({"/metrics": show, "/broken": break_off, "/big": show_much, "/slow": show_late})
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    bound.listen(64)
    await pages.start([bound])
    try:
        yield pages
    finally:
        await pages.close()


async def show_late(accept: str) -> Answer:
    await asyncio.sleep(0.05)
    return await show(accept)


async def show_much(accept: str) -> Answer:
    return json_answer(200, "x" * (8 << 20))


async def say(path: Path, *pieces: bytes) -> bytes:
    """Return all that is answered until the other end closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "begins", "ends"),
    [
        (GET, b"HTTP/1.1 200 OK\r\n", b"for "),
        (GET[:-2] + b"Accept: a/b\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"for a/b"),
        (GET.replace(b"/metrics", b"http://x/metrics?a=b"), b"HTTP/1.1 200 OK\r\n", b"for "),
        (GET.replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\n", b"connection: close\r\n\r\n"),
        (GET.replace(b"GET", b"POST"), b"HTTP/1.1 405 ", b"Method Not Allowed\n"),
        (GET.replace(b"GET", b"DELETE"), b"HTTP/1.1 405 ", b"Method Not Allowed\n"),
        (GET.replace(b"/metrics", b"/metrics/../v1/status"), b"HTTP/1.1 404 ", b"Not Found\n"),
        (GET.replace(b"/metrics", b"/broken"), b"HTTP/1.1 500 ", b"Internal Server Error\n"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000, b"HTTP/1.1 431 ", b"Request Header Fields Too Large\n"),
        (b"\x16\x03\x01 tls?\r\n\r\n", b"HTTP/1.1 400 ", b"Bad Request\n"),
        (GET + GET, b"HTTP/1.1 200 OK\r\n", b"for "),
        (GET[:-2] + b"Accept: a/b\r\naccept: c/d\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"for a/b, c/d"),
        (GET.replace(b"/metrics", b"//"), b"HTTP/1.1 4", b"\n"),
        (GET.replace(b"/metrics", b"http://:"), b"HTTP/1.1 400 ", b"Bad Request\n"),
        (GET.replace(b"/metrics", b"http://[::1/metrics"), b"HTTP/1.1 400 ", b"Bad Request\n"),
    ],
)
async def test_one_request_one_answer(tmp_path: Path, request_: bytes, begins: bytes, ends: bytes) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: None)
    async with serving(tmp_path / "s"):
        said = await say(tmp_path / "s", request_)
    assert said.startswith(begins), said
    assert said.endswith(ends), said
    assert said.count(b"HTTP/1.1") == 1


async def test_a_request_may_come_in_pieces(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        said = await say(tmp_path / "s", *(GET[at : at + 7] for at in range(0, len(GET), 7)))
    assert said.endswith(b"for ")


async def test_who_says_that_its_request_is_all_it_has_to_say_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        for request, ends in ((GET.replace(b"/metrics", b"/slow"), b"for "), (GET[:9], b"")):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(request)
            writer.write_eof()
            async with asyncio.timeout(20):
                said = await reader.read()
            writer.close()
            assert said.endswith(ends)
            assert bool(said) is bool(ends)


async def test_who_says_nothing_or_reads_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "HEAD_WITHIN_S", 0.05)
    monkeypatch.setattr(pages_module, "ANSWER_WITHIN_S", 0.05)
    async with serving(tmp_path / "s") as pages:
        assert await say(tmp_path / "s", b"GET /met") == b""
        deaf, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1)
        writer.write(GET.replace(b"/metrics", b"/big"))
        async with asyncio.timeout(20):
            for wanted in (1, 0):
                while len(pages.connections) != wanted:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.005)
        writer.close()
        assert not deaf.at_eof()


async def test_connections_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "CONNECTIONS_LIMIT", 3)
    async with serving(tmp_path / "s"):
        idle = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert await say(tmp_path / "s", GET) == b""
        idle[0][1].close()
        await asyncio.sleep(0.05)
        assert (await say(tmp_path / "s", GET)).endswith(b"for ")
        for _, writer in idle:
            writer.close()
