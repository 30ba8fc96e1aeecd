"""What the demo knows of the daemon: only what it answers on its socket, looked at as any client would."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from sleepd.core.units import GIB, Seconds

Json = dict[str, Any]
LOOK_EVERY_S = 0.125
EVENTS_KEPT = 40
_QUIET = frozenset({"state", "rule", "victim"})
"""Events that only add detail to another one: the task they lead to, or whose part they are."""
_FOUND = frozenset({"unknown", "draining"})
"""States from which an awake model was not woken, only found or left so."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event worth a line: `at_s` in the demo's seconds since it began."""

    at_s: Seconds
    kind: str
    model: str
    text: str


@dataclass(slots=True)
class Tally:
    """What happened, counted from the daemon's events and measured in its answers."""

    wakes: Counter[int] = field(default_factory=Counter)
    """By the level the model slept at."""
    sleeps: Counter[int] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """Why models were put to sleep: rule, victim, operator, check."""
    failures: int = 0
    given_back_gib_h: float = 0.0
    awake_gib_h: float = 0.0
    """What the servers seen would have held, had nobody put them to sleep."""


@dataclass(slots=True)
class Board:
    """Everything the demo shows."""

    status: Json | None = None
    told: deque[Told] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    tally: Tally = field(default_factory=Tally)
    now_s: Seconds = 0.0
    """The demo's seconds since it began, as of the last look."""
    ram_is_short: bool = False
    """A pressure rule holds."""
    _asleep_at: dict[str, int] = field(default_factory=dict)
    _cause: dict[str, str] = field(default_factory=dict)
    _first_wall_s: float | None = None

    def take_status(self, status: Json, now_s: Seconds) -> None:
        """The board shows this answer; what sleepers gave back since the last one is added up."""
        passed_h = max(0.0, now_s - self.now_s) / 3600 if self.status is not None else 0.0
        self.status, self.now_s = status, now_s
        for model in status["models"]:
            for gpu in model["gpus"]:
                awake, asleep = gpu["awake_bytes"], gpu["asleep_bytes"]
                self.tally.awake_gib_h += (awake or 0) / GIB * passed_h
                if model["level"] in (1, 2) and awake is not None and asleep is not None:
                    self.tally.given_back_gib_h += (awake - asleep) / GIB * passed_h

    def take_event(self, event: Json) -> Told | None:
        """The event is counted; returned is the line to tell, if it is worth one."""
        kind, model, data = event["kind"], event["model"] or "", event["data"]
        wall_s = datetime.fromisoformat(event["time"]).timestamp()
        if self._first_wall_s is None:
            self._first_wall_s = wall_s
        if kind == "state":
            self._count_state(model, data)
        elif kind == "task_begun":
            self._cause[model] = data["cause"].partition(":")[0]
        elif kind == "failure":
            self.tally.failures += 1
        elif kind in ("pressure", "pressure_over"):
            self.ram_is_short = kind == "pressure"
        if kind in _QUIET:
            return None
        text = event["text"]
        if kind == "task_ended":
            text += f" after {data['seconds']:.1f}s"
        told = Told(wall_s - self._first_wall_s, kind, model, text)
        self.told.append(told)
        return told

    def _count_state(self, model: str, data: Json) -> None:
        if data["level"] in (1, 2):
            self._asleep_at[model] = data["level"]
            self.tally.sleeps[data["level"]] += 1
            self.tally.causes[self._cause.get(model, "")] += 1
        elif data["to"] == "awake" and data["from"] not in _FOUND and model in self._asleep_at:
            self.tally.wakes[self._asleep_at.pop(model)] += 1


class Watch:
    """Looks at the daemon through its socket: `async with Watch(path) as watch`."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path

    async def __aenter__(self) -> "Watch":
        connector = aiohttp.UnixConnector(path=str(self._path))
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = await aiohttp.ClientSession(connector=connector, timeout=timeout).__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Return the answer. Raises RuntimeError in words for a refusal: the demo asks for nothing it may not."""
        async with self._session.request(method, f"http://sleepd{path}", json=body) as response:
            answer: Json = await response.json(content_type=None)
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.get('title')}: {answer.get('detail')}")
        return answer

    async def status(self) -> Json:
        return await self.ask("GET", "/v1/status")

    async def follow_status(self, took: Callable[[Json], None]) -> None:
        """Give `took` the status again and again, until cancelled."""
        while True:
            took(await self.status())
            await asyncio.sleep(LOOK_EVERY_S)

    async def events(self) -> AsyncIterator[Json]:
        """Yield the daemon's events from the first one on, until it ends the stream."""
        async with self._session.get("http://sleepd/v1/events") as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])
