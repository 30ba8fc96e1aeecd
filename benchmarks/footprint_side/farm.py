"""Many servers in one process, each on a unix socket of its own: they say what a real vLLM 0.32.0 said, at no cost of
rendering. `python farm.py FOLDER COUNT` makes FOLDER/m0.sock and so on, and prints "ready".
FOLDER/busy.sock is one more, whose counters move from one answer to the next.

/metrics answers the page that was recorded of a real server (854 lines, 70 kB, after requests of every kind); asked
with `name[]` at /metrics/ it answers the lines of those series, as prometheus_client does.
"""

import asyncio
import gzip
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import uvloop

HERE = Path(__file__).parent
RECORDED = gzip.decompress((HERE / "metrics-0.32.0.txt.gz").read_bytes())
# The recorded server had been put to sleep before; a daemon would ask this one whether it still answers rightly.
PAGE = re.sub(rb'(handler="/(?:sleep|wake_up|collective_rpc|pause|resume)"[^ ]*) .*', rb"\1 0.0", RECORDED)
INFO = (HERE.parent.parent / "tests" / "adapters" / "data" / "server-info-0.32.0.json").read_bytes()
MOVED = re.sub(rb"(vllm:generation_tokens_total\{[^}]*\}) .*", rb"\1 37.0", PAGE)
BUSY = "busy"
PATHS = ("/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache", "/v1/completions")


def filtered(page: bytes, names: frozenset[str]) -> bytes:
    """Return the families of these names; HELP and TYPE with them."""
    kept = []
    for line in page.decode().splitlines():
        words = line.split(" ", 3)
        name = words[2] if line.startswith("#") else words[0].partition("{")[0]
        if name in names:
            kept.append(line)
    return ("\n".join(kept) + "\n").encode()


class Server(asyncio.Protocol):
    """One connection to the server of this name."""

    answers: ClassVar[dict[tuple[bytes, str, bool], bytes]] = {}

    def __init__(self, name: str) -> None:
        self._name, self._page = name, PAGE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        target = data.split(b" ", 2)[1]
        if self._name == BUSY:
            self._page = MOVED if self._page is PAGE else PAGE
        key = (target, self._name, self._page is PAGE)
        answer = self.answers.get(key)
        if answer is None:
            answer = self.answers[key] = self._answer(target.decode())
        self._transport.write(answer)  # type: ignore[attr-defined]

    def _answer(self, target: str) -> bytes:
        parts = urlsplit(target)
        if parts.path == "/metrics/":
            names = frozenset(value for name, value in parse_qsl(unquote(parts.query)) if name == "name[]")
            return _head(200, "text/plain", filtered(self._page, names))
        bodies = {
            "/metrics": self._page,
            "/version": b'{"version":"0.32.0"}',
            "/openapi.json": json.dumps({"paths": {path: {} for path in PATHS}}).encode(),
            "/server_info": INFO,
            "/v1/models": json.dumps({"object": "list", "data": [{"id": self._name, "object": "model"}]}).encode(),
            "/is_sleeping": b'{"is_sleeping":false}',
        }
        body = bodies.get(parts.path)
        kind = "text/plain" if parts.path == "/metrics" else "application/json"
        return _head(404, kind, b"{}") if body is None else _head(200, kind, body)


def _head(status: int, kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def main(folder: Path, count: int) -> None:
    loop, listening = asyncio.get_running_loop(), []
    for name in (BUSY, *(f"m{number}" for number in range(count))):
        connect = partial(Server, name)
        listening.append(await loop.create_unix_server(connect, str(folder / f"{name}.sock")))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
