"""Webhooks: chosen events are sent on, in their order, as often as it takes within limits. Nothing waits for them."""

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from sleepd import wire
from sleepd.adapters.webhook_http import Sent
from sleepd.api.daemon import RingEvent
from sleepd.config.secrets import SecretError, read_webhook_secret
from sleepd.config.settings import WebhookSettings
from sleepd.core.turn import Note
from sleepd.core.units import Seconds, WallS
from sleepd.engine.runner import cancelled

QUEUE_LIMIT = 1000
"""Events that wait for a receiver; then the oldest are lost, which is told."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 300.0
ATTEMPTS = 10
"""How often an event is sent: with the pauses between, for about a quarter of an hour."""
LAST_WORDS_S = 2.0
"""How long what still waits may take when the daemon ends."""
_LATER = frozenset({408, 425, 429})


class Sender(Protocol):
    async def send(
        self, url: str, secret: bytes, message_id: str, body: bytes, wall_s: WallS, timeout_s: Seconds
    ) -> Sent: ...

    async def close(self) -> None: ...


class Webhooks:
    """Every webhook that is configured; `take` goes by other settings and keeps what waits."""

    def __init__(self, sender: Sender, tell: Callable[[Note], None], wall: Callable[[], WallS]) -> None:
        self._sender, self._tell, self._wall = sender, tell, wall
        self._running: dict[str, _Webhook] = {}

    def take(self, written: Iterable[WebhookSettings]) -> None:
        """Go by these settings from now on; secrets are read again. What waits for one that is gone is lost, told."""
        wanted = {settings.name: settings for settings in written}
        for name in [name for name in self._running if name not in wanted]:
            self._running.pop(name).end()
        for name, settings in wanted.items():
            known = self._running.get(name)
            if known is None:
                self._running[name] = _Webhook(settings, self._sender, self._tell, self._wall)
            else:
                known.take(settings)

    def hear(self, event: RingEvent) -> None:
        """Queue the event wherever it is wanted."""
        for webhook in list(self._running.values()):
            webhook.hear(event)

    async def stop(self) -> None:
        """Give what waits a last moment, then end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await asyncio.gather(*(webhook.drained() for webhook in self._running.values()))
        await asyncio.gather(*(webhook.stop() for webhook in self._running.values()))
        await self._sender.close()


class _Webhook:
    """One receiver: a queue, and a task that empties it."""

    def __init__(
        self, settings: WebhookSettings, sender: Sender, tell: Callable[[Note], None], wall: Callable[[], WallS]
    ) -> None:
        self._settings, self._sender, self._tell, self._wall = settings, sender, tell, wall
        self._secret = b""
        self._queue: deque[RingEvent] = deque()
        self._sending: RingEvent | None = None
        self._arrived, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._news = asyncio.Event()
        self._lost, self._failing = 0, False
        self._read_secret()
        self._working = asyncio.create_task(self._work(), name=f"webhook {settings.name}")

    def take(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._read_secret()
        self._news.set()  # what could not be sent may be now

    def hear(self, event: RingEvent) -> None:
        settings, note = self._settings, event.note
        if note.kind not in settings.kinds or note.data.get("webhook") == settings.name:
            return
        if settings.models is not None and note.model not in settings.models:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._queue.popleft()
            self._lose("lost", f"{QUEUE_LIMIT} events wait already: the oldest are lost")
        self._queue.append(event)
        self._empty.clear()
        self._arrived.set()

    def end(self) -> None:
        """It is configured no more."""
        self._working.cancel()
        left = len(self._queue) + (self._sending is not None)
        if left:
            self._lost += left
            self._inform("removed", f"it was removed, and {self._lost} events with it")

    async def drained(self) -> None:
        await self._empty.wait()

    async def stop(self) -> None:
        await cancelled(self._working)

    def _read_secret(self) -> None:
        try:
            self._secret = read_webhook_secret(self._settings.secret_file)
        except SecretError as error:
            self._inform("secret", f"{error}; what was read before is kept")

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._empty.set()
                self._arrived.clear()
                await self._arrived.wait()
            self._sending = self._queue.popleft()  # it is not among those that are lost where too many wait
            await self._deliver(self._sending)
            self._sending = None

    async def _deliver(self, event: RingEvent) -> None:
        """Send the event until it is taken, refused for good, or tried often enough."""
        body = _message(event)
        for attempt in range(ATTEMPTS):
            settings = self._settings
            self._news.clear()
            sent = await self._sender.send(settings.url, self._secret, event.id, body, self._wall(), settings.timeout_s)
            if sent.status is not None and 200 <= sent.status < 300:
                self._recover()
                return
            told = sent.detail or f"it answered {sent.status}"
            if sent.status is not None and sent.status < 500 and sent.status not in _LATER:
                self._lose("refused", f"{told} to event {event.id}, which is not sent again")
                return
            if not self._failing:
                self._failing = True
                self._inform("failing", f"{told}; it is tried again")
            if attempt + 1 < ATTEMPTS:
                await self._pause(attempt, sent.retry_after_s)
        self._lose("lost", f"event {event.id} was sent {ATTEMPTS} times in vain")

    async def _pause(self, attempt: int, asked_s: Seconds | None) -> None:
        """Wait longer each time, by chance a part of it; longer where that was asked for. New settings end it."""
        longest_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**attempt)
        pause_s = max(longest_s * random.uniform(0.5, 1.0), min(asked_s or 0.0, LONGEST_RETRY_S))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._news.wait()

    def _lose(self, code: str, why: str) -> None:
        """Count an event that is lost, and tell of the first, the tenth, the hundredth and then of each thousandth."""
        self._lost += 1
        if self._lost in (1, 10, 100) or self._lost % 1000 == 0:
            self._inform(code, why)

    def _recover(self) -> None:
        if self._failing or self._lost:
            lost = f", {self._lost} events were lost" if self._lost else ""
            self._inform("again", f"it takes events again{lost}")
            self._failing, self._lost = False, 0

    def _inform(self, code: str, what: str) -> None:
        name = self._settings.name
        self._tell(Note("webhook", "", f"webhook {name}: {what}", {"code": code, "webhook": name, "lost": self._lost}))


def _message(event: RingEvent) -> bytes:
    """The body: what happened as Standard Webhooks wraps it, with the event as the socket API shows it."""
    body = wire.event_body(event)
    wrapped = {"type": f"sleepd.{event.note.kind}", "timestamp": body["time"], "data": body}
    return json.dumps(wrapped, ensure_ascii=False, default=str).encode("utf-8", "replace")
