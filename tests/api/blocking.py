"""The synchronous client beside the loop that serves it."""

import asyncio
from collections.abc import Callable
from typing import Any

LIMIT_S = 30.0


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run the synchronous client beside the loop that serves it."""
    async with asyncio.timeout(LIMIT_S):
        return await asyncio.to_thread(work)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what a thread does: it sets no event of this loop's."""
    for _ in range(round(LIMIT_S / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to be so")
