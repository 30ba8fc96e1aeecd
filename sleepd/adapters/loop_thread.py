"""A thread with an event loop of its own: for conversations that must never delay the daemon's loop, nor hang it."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from sleepd.core.units import Seconds

_T = TypeVar("_T")
GRACE_S = 1.0
"""What is awaited here may take this much longer than it was told to take there, should that thread hang."""


class LoopThread:
    """Runs coroutines in its own thread, which begins with the first of them and ends with `end`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Coroutine[Any, Any, _T], timeout_s: Seconds) -> _T:
        """Return what came of `work`, its exception included. Raises TimeoutError after `timeout_s`: the work is told
        to end then, and is not waited for."""
        loop = self._begun()
        future = asyncio.run_coroutine_threadsafe(_within(work, timeout_s), loop)
        async with asyncio.timeout(timeout_s + GRACE_S):
            return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Let the thread end; what still runs in it is dropped."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _begun(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()
        return self._loop


async def _within(work: Coroutine[Any, Any, _T], timeout_s: Seconds) -> _T:
    async with asyncio.timeout(timeout_s):
        return await work


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()
