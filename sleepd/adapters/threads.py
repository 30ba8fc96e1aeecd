"""Threads for work that a driver or a disk may hang in: a hang holds its own thread, no other, and not the process.

asyncio's executor is shared and small, and its threads are joined when the process ends; these are neither.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_Work = tuple[Callable[[], Any], asyncio.Future[Any]]


class WorkThread:
    """One daemon thread that does one piece of work after the other, in the order they were given."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def do(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Return what will become of `work`, its exception included. Cancelling it drops work that has not begun."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # read, so that nobody misses it
        self._work.put((work, future))
        if self._thread.ident is None:
            self._thread.start()
        return future

    def end(self) -> None:
        """Let the thread end after the work it has."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            if future.cancelled():
                continue
            result, failed = None, None
            try:
                result = work()
            except Exception as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                future.get_loop().call_soon_threadsafe(_settle, future, result, failed)


def in_thread(name: str, work: Callable[[], _T]) -> asyncio.Future[_T]:
    """Return what will become of `work` in a thread of its own."""
    thread = WorkThread(name)
    future = thread.do(work)
    thread.end()
    return future


def _settle(future: asyncio.Future[Any], result: Any, failed: Exception | None) -> None:
    if future.done():
        return
    if failed is not None:
        future.set_exception(failed)
    else:
        future.set_result(result)
