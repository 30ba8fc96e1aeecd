"""A vLLM server as the contract suite sees it: an address and a model, simulated or real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.vllm_types import EngineSpec, Timing

LIMIT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """One whole answer. `data` is the JSON body, None where the body is empty or no JSON."""

    status: int
    text: str
    data: Any
    headers: dict[str, str]

    @property
    def error(self) -> dict[str, Any]:
        return self.data["error"]


@dataclass(frozen=True)
class VllmUnderTest:
    """Where to ask: `http://127.0.0.1:PORT` or `unix:PATH`. `supports_gpu_like`: level 2 really loses the weights."""

    url: str
    model_name: str
    supports_gpu_like: bool = True

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Client]:
        """A client whose every request has a connection of its own, as sleepd's control calls have."""
        if self.url.startswith("unix:"):
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(self.url.removeprefix("unix:"), force_close=True)
            base = "http://localhost"
        else:
            connector, base = aiohttp.TCPConnector(force_close=True), self.url
        timeout = aiohttp.ClientTimeout(total=LIMIT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield Client(session, base, self.model_name)


class Client:
    """The requests of the suite."""

    def __init__(self, session: aiohttp.ClientSession, base: str, model: str) -> None:
        self._session, self._base, self.model = session, base, model

    async def send(self, method: str, target: str, body: Any = None, *, limit_s: float = LIMIT_S) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        url = URL(self._base + target, encoded=True)
        timeout = aiohttp.ClientTimeout(total=limit_s)
        async with self._session.request(method, url, data=data, headers=headers, timeout=timeout) as response:
            text = await response.text()
            is_json = response.content_type == "application/json" and text
            return Answer(
                response.status,
                text,
                json.loads(text) if is_json else None,
                {name.lower(): value for name, value in response.headers.items()},
            )

    async def get(self, target: str) -> Answer:
        return await self.send("GET", target)

    async def post(self, target: str, body: Any = None, *, limit_s: float = LIMIT_S) -> Answer:
        return await self.send("POST", target, body, limit_s=limit_s)

    async def rpc(self, method: str, **kwargs: Any) -> Answer:
        return await self.post("/collective_rpc", {"method": method, "kwargs": kwargs})

    async def is_sleeping(self) -> bool:
        return (await self.get("/is_sleeping")).data["is_sleeping"]

    async def is_paused(self) -> bool:
        return (await self.get("/is_paused")).data["is_paused"]

    def question(self, *, tokens: int = 8, pace_ms: int = 0, **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": tokens,
            "temperature": 0,
        }
        if pace_ms:
            body["vllm_xargs"] = {"pace_ms": pace_ms}
        return body | more

    async def ask(self, **more: Any) -> str:
        answer = await self.post("/v1/chat/completions", self.question(**more))
        assert answer.status == 200, answer.text
        return answer.data["choices"][0]["message"]["content"]

    async def stream(self, seen: list[Any], **more: Any) -> None:
        """The events of a streamed answer are in `seen` as they come, the last is `[DONE]`."""
        body = json.dumps(self.question(stream=True, **more)).encode()
        url = f"{self._base}/v1/chat/completions"
        headers = {"Content-Type": "application/json"}
        async with self._session.post(url, data=body, headers=headers) as response:
            assert response.status == 200
            async for line in response.content:
                if line.startswith(b"data: "):
                    data = line.removeprefix(b"data: ").strip()
                    seen.append("[DONE]" if data == b"[DONE]" else json.loads(data))

    async def metric(self, name: str, **labels: str) -> float | None:
        """One sample of the metrics page; None where there is no such sample."""
        page = (await self.get("/metrics")).text
        for line in page.splitlines():
            if line.startswith((f"{name}{{", f"{name} ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rpartition(" ")[2])
        return None


@contextlib.contextmanager
def fake_vllm() -> Iterator[VllmUnderTest]:
    """The simulated vLLM 0.32.0, listening on loopback from a thread of its own."""
    spec = EngineSpec(
        version="0.32.0",
        name="tiny-a",
        weights_bytes=8,
        kv_bytes=8,
        residual_bytes=1,
        timing=Timing(sleep_s=0.02, wake_s=0.02, reload_s=0.02),
        pace_s=0.001,
    )
    ready, url = threading.Event(), ""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        nonlocal url
        async with FakeVllm(spec, port=0) as server:
            url = server.base_url
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(5), "the simulated server did not start"
        yield VllmUnderTest(url, spec.name)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()
