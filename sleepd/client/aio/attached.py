"""Something kept at the daemon for as long as an `async with` block runs; `sleepd.client.attached` with tasks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from sleepd.client.aio.wire import Stream
from sleepd.client.answers import ApiProblem, DaemonUnreachable, broke_off
from sleepd.client.asks import RETRY_S
from sleepd.client.attached_lines import read_begin, read_end


@asynccontextmanager
async def attached(
    open_stream: Callable[[bool], Awaitable[Stream]],
    release: Callable[[], Awaitable[object]],
    on_lost: Callable[[str], None] | None,
    on_progress: Callable[[Any], None] | None = None,
) -> AsyncIterator[Any]:
    """Keep a hold or a reservation, which is yielded, until the block ends; then `release` it, unless it was lost.

    A stream that breaks is opened again: the daemon keeps it for 30 s without its stream. `open_stream` is told whether
    it may wait: the first time. `on_lost` is told why where it is over although the block is not.
    """
    lost: list[str] = []

    def lose(reason: str) -> None:
        lost.append(reason)
        if on_lost is not None:
            on_lost(reason)

    try:
        stream = await open_stream(True)
        try:
            try:
                kept = await _begin(stream, on_progress)
            except ApiProblem as refused:
                lost.append(str(refused))
                raise
            keeper = asyncio.create_task(_keep(stream, open_stream, lose))
            try:
                yield kept
            finally:
                keeper.cancel()
                with suppress(asyncio.CancelledError):
                    await keeper
        finally:
            stream.close()
    finally:
        if not lost:
            with suppress(ApiProblem, DaemonUnreachable):
                await release()


async def _begin(stream: Stream, on_progress: Callable[[Any], None] | None) -> Any:
    while line := await stream.read_line():
        if (kept := read_begin(line, on_progress)) is not None:
            return kept
    raise broke_off(stream.socket_path)


async def _keep(stream: Stream, open_stream: Callable[[bool], Awaitable[Stream]], lose: Callable[[str], None]) -> None:
    """Read beats; a stream that breaks is opened again until cancelled, or until the daemon says no."""
    while True:
        try:
            with suppress(DaemonUnreachable, ValueError):
                while line := await stream.read_line():
                    if ended := read_end(line):
                        return lose(ended)
        finally:
            stream.close()
        try:
            stream = await _open_again(open_stream)
        except ApiProblem as problem:
            return lose(str(problem))


async def _open_again(open_stream: Callable[[bool], Awaitable[Stream]]) -> Stream:
    while True:
        await asyncio.sleep(RETRY_S)
        with suppress(DaemonUnreachable):
            return await open_stream(False)
