"""Clients of the gateway as they come: patient and impatient, slow to read, slow to send, with much to send.

Each keeps its connection where the gateway does. What became of every request is told in a word.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.integration.fake_server import PROMPT

ANSWER_S = 150.0
"""Longer than any request may wait for its model and be answered."""
MIB = 1 << 20


class Kind(Enum):
    PLAIN = "plain"
    STREAM = "stream"
    LEAVES = "leaves"
    SLOW_READER = "slow reader"
    SLOW_SENDER = "slow sender"
    HUGE = "huge body"


WEIGHTS = {Kind.PLAIN: 40, Kind.STREAM: 30, Kind.LEAVES: 15, Kind.SLOW_READER: 6, Kind.SLOW_SENDER: 6, Kind.HUGE: 3}
STREAMS = frozenset((Kind.STREAM, Kind.SLOW_READER))


@dataclass(frozen=True)
class Ended:
    """What became of one request. `end`: "right", "left" (on purpose), or what is wrong."""

    kind: Kind
    model: str
    begun_s: float
    ended_s: float
    end: str


class Connection:
    """HTTP/1.1 over the gateway's socket, opened when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self, *, small: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the connection; `small`: a new one whose buffer for what comes holds next to nothing."""
        if small:
            self.close()
        if self._reader is None or self.writer is None:
            self._reader, self.writer = await asyncio.open_unix_connection(
                str(self._path), limit=4096 if small else 1 << 16
            )
        return self._reader, self.writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self._reader = self.writer = None


class Client:
    """One client; `right` is what each model answers."""

    def __init__(self, path: Path, right: dict[str, str], seed: int, tell: Callable[[Ended], None]) -> None:
        self._connection, self._right, self._tell = Connection(path), right, tell
        self._random = random.Random(seed)

    async def come(self, over: asyncio.Event, think_s: float) -> None:
        """Ask one question after the other until it is over, and wait for the last answer."""
        time = asyncio.get_running_loop().time
        await asyncio.sleep(self._random.uniform(0.0, think_s))
        while not over.is_set():
            kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            model, begun_s = self._random.choice(list(self._right)), time()
            try:
                async with asyncio.timeout(ANSWER_S):
                    end = await self._ask(kind, model)
            except TimeoutError:
                end = f"no answer in {ANSWER_S:g} s"
            except (OSError, EOFError) as error:
                end = f"cut: {type(error).__name__}"
            if end != "right":
                self._connection.close()
            self._tell(Ended(kind, model, begun_s, time(), end))
            await asyncio.sleep(self._random.expovariate(1 / think_s))
        self._connection.close()

    async def _ask(self, kind: Kind, model: str) -> str:
        reader, writer = await self._connection.open(small=kind is Kind.SLOW_READER)
        asked = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, "stream": kind in STREAMS}
        if kind is Kind.HUGE:
            asked["user"] = "x" * self._random.randrange(MIB, 8 * MIB)
        body = json.dumps({**asked, "model": model}).encode()
        head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        if kind is Kind.SLOW_SENDER:
            for at in range(0, len(body), len(body) // 4 + 1):
                writer.write(body[at : at + len(body) // 4 + 1])
                await asyncio.sleep(0.3)
        else:
            writer.write(body)
        if kind is Kind.LEAVES:
            await asyncio.sleep(self._random.uniform(0.0, 2.0))
            return "left"
        await writer.drain()
        return await self._read(reader, model, slow=kind is Kind.SLOW_READER)

    async def _read(self, reader: asyncio.StreamReader, model: str, *, slow: bool) -> str:
        head = await reader.readuntil(b"\r\n\r\n")
        status, low = int(head[9:12]), head.lower()
        if b"transfer-encoding: chunked" in low:
            body = await _read_chunks(reader, 0.02 if slow else 0.0)
        else:
            body = await reader.readexactly(int(low.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if b"connection: close" in low:
            self._connection.close()
        if status != 200:
            error = json.loads(body).get("error", {})
            missing = "" if b"retry-after: " in low or status != 503 else " without Retry-After"
            return f"{status} {error.get('code')}{missing} ({error.get('message')})"
        return "right" if text_of(body) == self._right[model] else f"wrong: {body[-200:]!r}"


async def _read_chunks(reader: asyncio.StreamReader, pause_s: float) -> bytes:
    body = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return body
        body += piece[:-2]
        if pause_s:
            await asyncio.sleep(pause_s)


def text_of(body: bytes) -> str | None:
    """Return the text of a completion, whole or streamed; None where a stream has no proper end."""
    if not body.startswith((b"data: ", b": ")):
        return str(json.loads(body)["choices"][0]["text"])
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        return None
    return "".join(str(json.loads(event)["choices"][0]["text"]) for event in events[:-1])
