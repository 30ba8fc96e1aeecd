"""A simulated vLLM behind real HTTP: aiohttp carries requests to SimEngine and its answers back, in real time.

Headers as uvicorn sends them (`server: uvicorn`, `vary: Origin` except on 500s of the generic handler, idle
connections closed after 5 s), recorded from vLLM 0.32.0.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from sleepd.sim import vllm_metrics
from sleepd.sim.fake_faults import fault_app
from sleepd.sim.fake_world import BoundedRam, BoundlessMemory, LoopScheduler
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_types import EngineSpec, GpuMemory, HostRam, HttpRequest, SimAnswer, SimChunk, SimReply

KEEPALIVE_S = 5.0  # uvicorn's default
_CLOSES = web.ResponseKey("closes the connection", bool)
_PASSED_HEADERS = ("authorization", "x-request-id")


class FakeVllm:
    """One server, used as `async with FakeVllm(spec, port=0) as server`. Ready when entered, gone when left.

    Exactly one of `port` (0: any) and `uds` says where it listens, on 127.0.0.1 only. `control_uds` is a second socket
    for faults (see fake_faults). Entering raises OutOfMemory when the model does not fit, OSError when the address
    is taken.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        port: int | None = None,
        uds: str | Path | None = None,
        control_uds: str | Path | None = None,
        gpu: GpuMemory | None = None,
        host: HostRam | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if (port is None) == (uds is None):
            raise ValueError("wanted either a port or a unix socket to listen on: give exactly one")
        self._spec, self._port, self._uds, self._control_uds = spec, port, uds, control_uds
        self._gpu, self._host = gpu or BoundlessMemory(), host or BoundedRam()
        self._tls = tls
        self._runners: list[web.AppRunner] = []
        self._sites: list[web.BaseSite] = []
        self._closing: asyncio.Task[None] | None = None
        self.base_url = "http://localhost"
        self.engine: SimEngine
        self.exited: asyncio.Future[int]
        """The exit status, once the simulated process ended."""

    async def __aenter__(self) -> FakeVllm:
        self.exited = asyncio.get_running_loop().create_future()
        self.engine = SimEngine(
            self._spec,
            LoopScheduler(),
            self._gpu,
            self._host,
            on_close=self._close_soon,
            on_exit=self._on_exit,
            started_wall_s=time.time(),
        )
        try:
            await self._listen()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stop()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_dress)
        runner = web.AppRunner(
            app, handler_cancellation=True, keepalive_timeout=KEEPALIVE_S, access_log=None, shutdown_timeout=0.5
        )
        self._runners.append(runner)
        await runner.setup()
        if self._uds is not None:
            site: web.BaseSite = web.UnixSite(runner, str(self._uds))
            await site.start()
        else:
            listener = socket.create_server(("127.0.0.1", self._port or 0))
            self.base_url = f"{'https' if self._tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
            site = web.SockSite(runner, listener, ssl_context=self._tls)
            await site.start()
        self._sites.append(site)
        if self._control_uds is not None:
            control = web.AppRunner(fault_app(self.engine), access_log=None, shutdown_timeout=0.5)
            self._runners.append(control)
            await control.setup()
            await web.UnixSite(control, str(self._control_uds)).start()

    async def _stop(self) -> None:
        self.engine.kill()
        if self._closing is not None:
            await self._closing
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    def _close_soon(self) -> None:
        """New connections are refused; those open go on until the process ends."""
        if self._sites:
            self._closing = asyncio.get_running_loop().create_task(self._close_sites())

    async def _close_sites(self) -> None:
        for site in self._sites:
            await site.stop()
        self._sites.clear()

    def _on_exit(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status)

    # one request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answers: asyncio.Queue[SimAnswer] = asyncio.Queue()
        body = await request.read()
        headers = {name: request.headers[name] for name in _PASSED_HEADERS if name in request.headers}
        asked = HttpRequest(request.method, request.path, tuple(request.query.items()), body, headers)
        handle = self.engine.call(asked, answers.put_nowait)
        try:
            first = await answers.get()
            if not isinstance(first, SimReply):
                return _drop(request)
            if first.streaming:
                return await self._stream(request, answers)
            if asked.path.startswith("/metrics") and first.status == 200:
                return self._metrics(asked)
            return _response(first)
        finally:
            handle.abandon()  # harmless after the end; on a cancelled handler the client has gone

    async def _stream(self, request: web.Request, answers: asyncio.Queue[SimAnswer]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            answer = await answers.get()
            if not isinstance(answer, SimChunk):
                return _drop(request)
            data = answer.data if isinstance(answer.data, str) else _event(answer.data)
            await response.write(f"data: {data}\n\n".encode())
            if answer.last:
                await response.write_eof()
                return response

    def _metrics(self, asked: HttpRequest) -> web.Response:
        # only the mount with the trailing slash filters; the instrumentator's own route ignores name[]
        names = frozenset(asked.asked_all("name[]")) if asked.path == "/metrics/" else frozenset()
        text = vllm_metrics.render(self.engine.snapshot(), self.engine.spec, self.engine.dialect, names)
        return web.Response(body=text.encode(), headers={"Content-Type": vllm_metrics.CONTENT_TYPE})


def _response(answer: SimReply) -> web.Response:
    headers = dict(answer.headers)
    if answer.body is None:
        body = b""
    elif isinstance(answer.body, str):
        body = answer.body.encode()
        headers["Content-Type"] = "text/plain; charset=utf-8"
    else:
        body = _compact(answer.body).encode()
        headers["Content-Type"] = "application/json"
    response = web.Response(status=answer.status, body=body, headers=headers)
    response[_CLOSES] = answer.closes_connection
    return response


async def _dress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Headers as uvicorn and vLLM's middleware leave them."""
    response.headers["Server"] = "uvicorn"
    if response.get(_CLOSES):
        response.force_close()  # after the headers: recorded 500s do not announce it, the connection just ends
    elif response.status != 401:
        response.headers["Vary"] = "Origin"
    if isinstance(response, web.Response) and not response.body:
        response.headers.pop("Content-Type", None)


def _drop(request: web.Request) -> web.Response:
    """The connection breaks without (the rest of) an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _event(data: Any) -> str:
    """A chunk as vLLM writes it: error events come from another code path, with json's default spacing."""
    return json.dumps(data) if "error" in data else _compact(data)


def _compact(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
