"""The last events, numbered without a gap: who was away reads on from where it was, or is told what it lost."""

import asyncio
from collections import deque
from itertools import islice

from sleepd.api.daemon import EventsRead, RingEvent
from sleepd.core.turn import Note
from sleepd.core.units import WallS


class EventRing:
    """Events `<epoch>-1`, `<epoch>-2` …, the newest `limit` of them. Used on the loop's thread only."""

    def __init__(self, epoch: str, limit: int = 10_000) -> None:
        self._epoch = epoch
        self._events: deque[RingEvent] = deque(maxlen=limit)
        self._count = 0
        self._arrived = asyncio.Event()

    @property
    def last_id(self) -> str:
        return f"{self._epoch}-{self._count}"

    def append(self, note: Note, wall_s: WallS, gpus: tuple[str, ...] = ()) -> RingEvent:
        """Record the note as the newest event and let everybody who waits go on."""
        self._count += 1
        event = RingEvent(self.last_id, wall_s, note, gpus)
        self._events.append(event)
        self._arrived.set()
        self._arrived = asyncio.Event()
        return event

    def read(self, since_id: str | None) -> EventsRead:
        """Return the events after `since_id`, all on record for None.

        An id of another epoch, one that was never given out, or one whose successors were dropped, is a gap: then
        everything on record is returned.
        """
        oldest = self._count - len(self._events)
        after = oldest if since_id is None else self._number(since_id)
        gap = after is None or after < oldest
        start = oldest if after is None else max(after, oldest)
        return EventsRead(tuple(islice(self._events, start - oldest, None)), gap, self.last_id)

    async def wait(self, last_id: str) -> None:
        """Return when an event after `last_id` exists; at once where one does. Without a limit of its own."""
        while self.last_id == last_id or not self._count:
            await self._arrived.wait()

    def _number(self, id_: str) -> int | None:
        """Return the n of an id this ring gave out, else None."""
        epoch, _, number = id_.rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        return int(number) if int(number) <= self._count else None
