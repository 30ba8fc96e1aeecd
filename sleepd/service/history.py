"""History in the daemon: turns and waits are gathered as they come, and written every few seconds by its own thread.

Nothing here may hold up a decision: what cannot be written is lost, and told.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from sleepd.adapters.history_db import HistoryDatabase
from sleepd.adapters.history_queries import read_buckets, read_page, read_report
from sleepd.adapters.history_timeline import read_timeline
from sleepd.core.model import Now
from sleepd.core.turn import Note, Turn
from sleepd.core.units import Seconds
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.engine.runner import cancelled
from sleepd.gateway.daemon import Held
from sleepd.history.chronicle import Chronicle
from sleepd.history.found import Bucket, HistoryUnreadable, Page, Report, Span
from sleepd.history.rows import Kept
from sleepd.history.timeline import Timeline

SAMPLE_EVERY_S = 5.0
FORGET_EVERY_S = 3600.0
FORGET_NAMES_EVERY_S = 86_400.0
FORGET_STEPS = 50
"""How many steps of the retention are taken in a row at most."""
REOPEN_EVERY_S = 60.0
"""How often a file that cannot be opened is tried again."""
NOT_KEPT = "no history is kept here"
NOT_YET = "the history is being opened; ask again in a moment"


class HistoryPart:
    """What happened, kept for `keep_s()`. Hears of turns and waits; `stop` writes what is left."""

    def __init__(
        self,
        database: HistoryDatabase | None,
        *,
        now: Callable[[], Now],
        tell: Callable[[Note], None],
        keep_s: Callable[[], Seconds],
        entered: Callable[[str], int],
        energy: Callable[[], Awaitable[Mapping[str, float]]] | None = None,
        sleep: Callable[[Seconds], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._database, self._now, self._tell, self._keep_s = database, now, tell, keep_s
        self._entered, self._energy = entered, energy
        self._chronicle: Chronicle | None = None
        self._world: World | None = None
        self._running: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._losing = False
        self._refused = NOT_YET if database is not None else NOT_KEPT

    def start(self) -> None:
        if self._database is not None:
            self._running = asyncio.create_task(self._run(self._database), name="history")

    def turned(self, published: Published) -> None:
        self._world = published.turn.world
        if self._chronicle is not None:
            self._chronicle.turned(published)

    def waited(self, held: Held) -> None:
        if self._chronicle is not None:
            self._chronicle.waited(held, self._now())

    async def page(self, span: Span, limit: int, after: str) -> Page:
        """Return rows of a span. Raises HistoryUnreadable, WrongQuestion."""
        return await (await self._fresh()).ask(lambda db: read_page(db, span, limit, after))

    async def buckets(self, span: Span, step_s: int) -> tuple[Bucket, ...]:
        """Return a span in steps. Raises HistoryUnreadable, WrongQuestion."""
        return await (await self._fresh()).ask(lambda db: read_buckets(db, span, step_s))

    async def report(self, span: Span) -> Report:
        """Return a span added up. Raises HistoryUnreadable."""
        return await (await self._fresh()).ask(lambda db: read_report(db, span))

    async def timeline(self, span: Span, step_s: int) -> Timeline:
        """Return a span as it is drawn. Raises HistoryUnreadable, WrongQuestion."""
        return await (await self._fresh()).ask(lambda db: read_timeline(db, span, step_s))

    async def stop(self) -> None:
        """Write what is left: every interval ends now."""
        if self._running is not None:
            await cancelled(self._running)
        if self._database is None:
            return
        if self._chronicle is not None:
            self._sample(self._chronicle, None)
            chronicle, self._chronicle = self._chronicle, None
            with contextlib.suppress(HistoryUnreadable):
                await self._database.write(chronicle.close(self._now()))
        await self._database.close()

    async def _fresh(self) -> HistoryDatabase:
        """The database, once it has what happened until now. Raises HistoryUnreadable."""
        if self._database is None or self._chronicle is None:
            raise HistoryUnreadable(self._refused)
        self._sample(self._chronicle, None)
        await self._write(self._database, self._chronicle)
        return self._database

    async def _run(self, database: HistoryDatabase) -> None:
        chronicle = await self._open(database)
        async with asyncio.TaskGroup() as both:  # a disk that is slow keeps nobody from counting
            both.create_task(self._watch(chronicle), name="history watch")
            both.create_task(self._keep(database, chronicle), name="history keep")

    async def _watch(self, chronicle: Chronicle) -> None:
        while True:
            await self._sleep(SAMPLE_EVERY_S)
            self._sample(chronicle, await self._energy() if self._energy is not None else None)

    async def _keep(self, database: HistoryDatabase, chronicle: Chronicle) -> None:
        forget_at_s = forget_names_at_s = 0.0
        while True:
            now = self._now()
            if now.mono_s >= forget_at_s:
                forget_at_s = now.mono_s + FORGET_EVERY_S
                await self._forget(database)
            if now.mono_s >= forget_names_at_s:
                forget_names_at_s = now.mono_s + FORGET_NAMES_EVERY_S
                with contextlib.suppress(HistoryUnreadable):
                    await database.forget_names()
            await self._sleep(SAMPLE_EVERY_S)
            await self._write(database, chronicle)

    def _sample(self, chronicle: Chronicle, energy_j: Mapping[str, float] | None) -> None:
        if self._world is not None:
            chronicle.sample(self._world, self._entered, energy_j, self._now())

    async def _open(self, database: HistoryDatabase) -> Chronicle:
        """Open the file, as often as it takes; why it cannot be opened is told once, and that it can."""
        while (kept := await self._try_to_open(database)) is None:
            await self._sleep(REOPEN_EVERY_S)
        if self._refused != NOT_YET:
            self._tell(Note("history", "", "history is kept from now on", {"code": "again"}))
        chronicle = self._chronicle = Chronicle(kept)
        self._tell_damage(database)
        if self._world is not None:  # what was published meanwhile
            chronicle.turned(Published(self._world, Turn(self._world), self._now(), 0.0))
        return chronicle

    async def _try_to_open(self, database: HistoryDatabase) -> Kept | None:
        try:
            return await database.open()
        except HistoryUnreadable as error:
            if str(error) != self._refused:
                self._refused = str(error)
                self._tell(Note("history", "", f"no history is kept: {error}", {"code": "unreadable"}))
            return None

    async def _write(self, database: HistoryDatabase, chronicle: Chronicle) -> None:
        """Write what was gathered; where that fails it is lost, which is told once, and that it is over."""
        async with self._writing:
            if self._tell_damage(database):  # found by a question, or by the retention
                chronicle.restate()
            try:
                await database.write(chronicle.take(self._now()))
            except HistoryUnreadable as error:
                chronicle.restate()
                if not self._losing:
                    self._tell(Note("history", "", f"history is being lost: {error}", {"code": "lost"}))
                self._losing = True
                self._tell_damage(database)
                return
        if self._losing:
            self._losing = False
            self._tell(Note("history", "", "history can be written again", {"code": "again"}))

    def _tell_damage(self, database: HistoryDatabase) -> bool:
        told, database.set_aside = database.set_aside, ""
        if told:
            self._tell(Note("history", "", told, {"code": "damaged"}))
        return bool(told)

    async def _forget(self, database: HistoryDatabase) -> None:
        with contextlib.suppress(HistoryUnreadable):  # writing fails as well, and tells
            for _ in range(FORGET_STEPS):
                if not await database.forget(self._keep_s()):
                    return
