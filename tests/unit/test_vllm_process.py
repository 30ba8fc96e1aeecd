"""A server whose process was killed may leave its listening socket to a child that never answers on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.processes import Process, ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_runs_until_it_ended_reaped_or_not(child: subprocess.Popen[bytes]) -> None:
    process = Process(child.pid, psutil.Process(child.pid).create_time())
    assert process.is_running()
    assert not Process(child.pid, process.created_s - 5.0).is_running(), "another process had this pid before"
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not process.is_running()
    child.wait()
    assert not process.is_running()


class Silenced:
    """A server of the child's, as far as its metrics tell, that can fall silent with its socket still listening."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.speaks = asyncio.Event()
        self.speaks.set()
        self._start = psutil.Process(child.pid).create_time()

    async def answer(self, request: web.Request) -> web.Response:
        await self.speaks.wait()
        if request.path.startswith("/metrics"):
            return web.Response(text=f"process_start_time_seconds {self._start}\n")
        found = {"/version": {"version": "0.32.0"}, "/is_sleeping": {"is_sleeping": False}}
        return web.json_response(found.get(request.path, {}))


class FoundAs(ProcessFinder):
    def __init__(self, *pids: int) -> None:
        super().__init__(Path("/sys/fs/cgroup"))
        self._pids = pids

    async def find(self, spec: ModelSpec) -> tuple[int, ...]:
        return self._pids


@pytest.fixture
async def silenced(child: subprocess.Popen[bytes], tmp_path: Path) -> AsyncIterator[tuple[Silenced, VllmServer]]:
    application, server = web.Application(), Silenced(child)
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    vllm = VllmServer(ModelSpec("a", f"unix:{tmp_path / 's'}"), SystemClock(), FoundAs(1, child.pid))
    try:
        yield server, vllm
    finally:
        server.speaks.set()
        await vllm.close()
        await runner.cleanup()


async def test_silence_is_a_timeout_while_its_process_lives_and_a_loss_once_it_ended(
    silenced: tuple[Silenced, VllmServer], child: subprocess.Popen[bytes]
) -> None:
    server, vllm = silenced
    assert isinstance(await vllm.look(ask_sleeping=False, timeout_s=5.0), Known)
    server.speaks.clear()
    hanging = await vllm.look(ask_sleeping=False, timeout_s=0.2)
    assert isinstance(hanging, Missing)
    assert hanging.reason is MissingReason.TIMED_OUT
    child.kill()
    child.wait()
    gone = await vllm.look(ask_sleeping=False, timeout_s=0.2)
    assert isinstance(gone, Missing)
    assert gone.reason is MissingReason.REFUSED
    assert f"process {child.pid} has ended" in gone.detail


async def test_another_server_in_its_place_is_found(
    silenced: tuple[Silenced, VllmServer], child: subprocess.Popen[bytes]
) -> None:
    _, vllm = silenced
    assert isinstance(await vllm.look(ask_sleeping=False, timeout_s=5.0), Known)
    child.kill()
    child.wait()
    assert isinstance(await vllm.look(ask_sleeping=False, timeout_s=5.0), Known)
