"""Places for what is dear: at most so many run at a time, and who is waited for comes first."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sleepd.core.units import Seconds


class Places:
    """`count` places. Who takes longer than `keep_s` goes on without one: a server that hangs keeps nobody waiting."""

    def __init__(self, count: int, keep_s: Seconds) -> None:
        self._free, self._keep_s = count, keep_s
        self._hurried: OrderedDict[str, asyncio.Future[None]] = OrderedDict()
        self._waiting: OrderedDict[str, asyncio.Future[None]] = OrderedDict()

    @asynccontextmanager
    async def taken(self, key: str, *, hurried: bool) -> AsyncIterator[None]:
        """Hold a place inside. Waits for one: the hurried first, each in the order they came."""
        await self._wait(key, hurried)
        lent = True

        def give_back() -> None:
            nonlocal lent
            if lent:
                lent = False
                self._give()

        # Real time: what is bounded is work of this process.
        overdue = asyncio.get_running_loop().call_later(self._keep_s, give_back)
        try:
            yield
        finally:
            overdue.cancel()
            give_back()

    def hurry(self, key: str) -> None:
        """Let who waits under this key overtake all that are not hurried."""
        if key in self._waiting:
            self._hurried[key] = self._waiting.pop(key)

    async def _wait(self, key: str, hurried: bool) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._hurried if hurried else self._waiting)[key] = turn
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give()  # given in the very moment in which it was not wanted any more
            raise
        finally:
            for queue in (self._hurried, self._waiting):
                if queue.get(key) is turn:
                    del queue[key]

    def _give(self) -> None:
        """Give a place to who is next."""
        for queue in (self._hurried, self._waiting):
            while queue:
                _, turn = queue.popitem(last=False)
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
