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
from typing import Any

from tests.integration.fake_server import PROMPT

ANSWER_S = 150.0
"""Longer than any request may wait for its model and be answered."""
MIB = 1 << 20
CUT = "cut"


class Kind(Enum):
    PLAIN = "plain"
    STREAM = "stream"
    LONG_STREAM = "long stream"
    LEAVES = "leaves"
    SLOW_READER = "slow reader"
    SLOW_SENDER = "slow sender"
    HUGE = "huge body"


WEIGHTS = {
    Kind.PLAIN: 45,
    Kind.STREAM: 20,
    Kind.LONG_STREAM: 8,
    Kind.LEAVES: 15,
    Kind.SLOW_READER: 3,
    Kind.SLOW_SENDER: 6,
    Kind.HUGE: 3,
}
"""Enough long answers that some run whatever happens; so few that a model falls idle now and then and turns change."""
PLAIN = {"max_tokens": 8, "stream": False}
ASKED = {
    Kind.STREAM: {**PLAIN, "stream": True},
    Kind.LONG_STREAM: {"max_tokens": 40, "stream": True, "vllm_xargs": {"pace_ms": 50}},
    Kind.LEAVES: {"max_tokens": 40, "stream": True, "vllm_xargs": {"pace_ms": 10}},
    Kind.SLOW_READER: {"max_tokens": 300, "stream": True, "logprobs": 100},
}
"""Two seconds of events; half a second of them; and, of 0.7 MB, more than all buffers on the way to a client hold."""
LONGEST = max(int(asked["max_tokens"]) for asked in (PLAIN, *ASKED.values()))
READ_PAUSE_S = 0.005
"""Between two chunks of the large answer: longer than the server takes to write them."""


@dataclass(frozen=True)
class Ended:
    """What became of one request. `end`: "right", "left" (on purpose), or what is wrong."""

    kind: Kind
    model: str
    begun_s: float
    ended_s: float
    end: str

    @property
    def is_broken(self) -> bool:
        """Whether it was given up or broke off, rather than answered wrongly or not at all."""
        return self.end.startswith((CUT, "502", "503"))


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

    def close_if_ended(self) -> None:
        """Have a new one next time, where the other side is known to have closed this one."""
        if self._reader is not None and self._reader.at_eof():
            self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self._reader = self.writer = None


class Client:
    """One client; `right` is what each model answers at its longest: a shorter answer is how it begins."""

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
                end = f"{CUT}: {type(error).__name__}"
            if end != "right":
                self._connection.close()
            self._tell(Ended(kind, model, begun_s, time(), end))
            await asyncio.sleep(self._random.expovariate(1 / think_s))
        self._connection.close()

    async def _ask(self, kind: Kind, model: str) -> str:
        reader, writer = await self._connection.open(small=kind is Kind.SLOW_READER)
        asked = {"prompt": PROMPT, "temperature": 0, **ASKED.get(kind, PLAIN)}
        if kind is Kind.HUGE:
            asked["user"] = "x" * self._random.randrange(MIB, 8 * MIB)
        head, body = as_post({**asked, "model": model})
        writer.write(head)
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
        right = " ".join(self._right[model].split(" ")[: asked["max_tokens"]])
        return await self._read(reader, right, READ_PAUSE_S if kind is Kind.SLOW_READER else 0.0)

    async def _read(self, reader: asyncio.StreamReader, right: str, pause_s: float) -> str:
        status, head = await read_head(reader)
        body = await read_body(reader, head, pause_s)
        if b"connection: close" in head:
            self._connection.close()
        if status != 200:
            error = json.loads(body).get("error", {})
            missing = "" if b"retry-after: " in head or status != 503 else " without Retry-After"
            return f"{status} {error.get('code')}{missing} ({error.get('message')})"
        text = text_of(body)
        if text is None:
            return f"{CUT}: no end: {body[-200:]!r}"
        return "right" if text == right else f"wrong: {text!r}"


def as_post(asked: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return head and body of a request for a completion."""
    body = json.dumps(asked).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode(), body


async def read_head(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and head of an answer, in small letters. Raises EOFError or OSError where none comes."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return int(head[9:12]), head


async def read_body(reader: asyncio.StreamReader, head: bytes, pause_s: float = 0.0) -> bytes:
    """Return what follows the head, of which chunks are read with a pause between two. Raises EOFError or OSError where
    it breaks off."""
    if b"transfer-encoding: chunked" in head:
        return await _read_chunks(reader, pause_s)
    return await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))


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
