"""A server of bytes: it records what exactly was sent to it and answers what it is told, well-formed or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it came in; `connection` numbers the connection it came on."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes
    connection: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""


Answer = bytes | None
"""Raw bytes to send; None: nothing, ever."""


@dataclass
class RawServer:
    """`answer` decides for each request. Every request is kept in `asked`."""

    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *headers = head.decode().split("\r\n")
                method, target, _ = line.split(" ")
                lengths = [h.split(":")[1] for h in headers if h.lower().startswith("content-length:")]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                parts = urlsplit(target)
                told = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in headers)}
                asked = Asked(method, parts.path, tuple(parse_qsl(parts.query)), body, number, told)
                self.asked.append(asked)
                answer = self.answer(asked)
                if answer is None:
                    await reader.read()
                    return
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer or b"Content-Length" not in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def reply(body: Any = b"", status: int = 200, *headers: str) -> bytes:
    """A whole answer, its length told."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


@contextlib.asynccontextmanager
async def serving(path: Path, answer: Callable[[Asked], Answer]) -> AsyncIterator[RawServer]:
    """Listen on a unix socket as long as the context lasts; connections that still wait are cut."""
    server = RawServer(answer)
    served: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served[task] = writer
        await server._serve(reader, writer)

    listener = await asyncio.start_unix_server(accept, path)
    try:
        yield server
    finally:
        listener.close()
        for writer in served.values():
            writer.transport.abort()
        await asyncio.gather(*served)
        await listener.wait_closed()
