"""Looks at servers, GPUs and host RAM at their cadence. Each source has at most one request outstanding."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

from sleepd.core.direct import looks_at_connections
from sleepd.core.events import Event, GpusLooked, HostLooked, ModelLooked, UnitLooked
from sleepd.core.machine import asks_sleeping, is_looked_at, poll_after_s, wants_processes
from sleepd.core.model import Known, Reading, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.unit_sightings import unit_after_s
from sleepd.core.units import Seconds
from sleepd.core.world import World
from sleepd.engine.places import Places
from sleepd.engine.rounds import Rounds
from sleepd.engine.runner import cancelled, look_at_unit
from sleepd.ports import Clock, Gpus, HostMemory, Units, Vllm

T = TypeVar("T")

LOOK_TIMEOUT_S = 5.0
"""A poll that takes longer counts as failed; three in a row make the reading missing."""
NUDGED_LOOK_S = 0.05
"""Looks asked for at once still keep this distance, so that a reading that stays missing is not hammered."""
GATHER_S = 0.01
"""How long a look that nobody waits for is kept for the others of its round: one turn takes them all in."""
FIRST_LOOKS = 32
"""First looks at a time. They ask for several large pages: hundreds at once would all be late together, and begin anew.
"""
PLACE_S = 1.0
"""A first look that takes longer lets another begin beside it."""


class Sink(Protocol):
    """Where observations go, and the world they are made for."""

    @property
    def world(self) -> World: ...

    def submit(self, event: Event, within_s: Seconds = 0.0) -> None: ...

    def in_flight(self, model: str) -> int: ...

    def entered(self, model: str) -> int: ...


class Observer:
    """One loop per source; a blocked server delays nobody but itself."""

    def __init__(
        self,
        sink: Sink,
        clock: Clock,
        gpus: Gpus,
        host: HostMemory,
        server: Callable[[str], Vllm],
        looked: Callable[[str, Seconds, bool], None] = lambda source, took_s, known: None,
        units: Units | None = None,
    ) -> None:
        self._sink, self._clock, self._units = sink, clock, units
        self._gpus, self._host, self._server, self._looked = gpus, host, server, looked
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._rounds = Rounds(clock)
        self._watching = False
        self._followed: object = None
        self._first_looks = Places(FIRST_LOOKS, PLACE_S)
        self._broken: asyncio.Queue[BaseException] = asyncio.Queue()

    def start(self) -> None:
        self._watching, self._followed = True, None
        self._spawn("gpus", self._watch_gpus)
        self._spawn("host", self._watch_host)
        self.follow()

    def follow(self) -> None:
        """Watch the models of the current world, and no others; nobody before the start and after the stop."""
        models, settings = self._sink.world.models, self._sink.world.settings
        if not self._watching or settings is self._followed:
            return
        self._followed = settings  # which models there are, nothing else decides
        wanted = {f"model:{name}": partial(self._watch_model, name) for name in models}
        wanted |= {f"unit:{name}": partial(self._watch_unit, name) for name, r in models.items() if r.spec.unit}
        for key in [k for k in self._loops if ":" in k and k not in wanted]:
            self._loops.pop(key).cancel()
            self._rounds.forget(key)
        self._rounds.spread(f"model:{name}" for name in models)
        for key, watch in wanted.items():  # in their order, as a set would shuffle who is looked at first
            if key not in self._loops:
                self._spawn(key, watch)

    def nudge(self, *, model: str = "", gpus: bool = False, host: bool = False, unit: str = "") -> None:
        """Look at once instead of at the next poll."""
        keys = [f"model:{model}"] if model else []
        keys += [f"unit:{unit}"] if unit else []
        keys += ["gpus"] if gpus else []
        keys += ["host"] if host else []
        for key in keys:
            if key in self._loops:
                self._rounds.nudge(key)
                self._first_looks.hurry(key)

    async def stop(self) -> None:
        self._watching = False
        loops, self._loops = list(self._loops.values()), {}
        await asyncio.gather(*(cancelled(task) for task in loops))
        await self._rounds.stop()

    def _spawn(self, key: str, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        watching = asyncio.create_task(watch(), name=f"observer {key}")
        watching.add_done_callback(self._note_end)
        self._loops[key] = watching

    def _note_end(self, watching: asyncio.Task[None]) -> None:
        error = None if watching.cancelled() else watching.exception()
        if error is not None:
            self._broken.put_nowait(error)

    async def wait(self) -> None:
        """Raise what a watch broke by, once one does: its source would never be looked at again."""
        raise await self._broken.get()

    async def _watch_model(self, name: str) -> None:
        hurried = False
        while (record := self._sink.world.models.get(name)) is not None:
            asked_s = self._clock.now().mono_s
            if not is_looked_at(self._sink.world, name):
                pass
            elif asks_sleeping(record):
                hurried = hurried or bool(record.waiters)
                async with self._first_looks.taken(f"model:{name}", hurried=hurried):
                    asked_s = self._clock.now().mono_s
                    await self._look_at(name, hurried)
            else:
                await self._look_at(name, hurried)
            hurried = await self._rest_until_due(f"model:{name}", name, asked_s, poll_after_s)

    async def _look_at(self, name: str, hurried: bool) -> None:
        """Look as the world is by now: who had to wait for it may be gone, or looked at by a step."""
        record = self._sink.world.models.get(name)
        if record is None or not is_looked_at(self._sink.world, name):
            return
        look = self._server(name).look(
            ask_sleeping=asks_sleeping(record),
            timeout_s=LOOK_TIMEOUT_S,
            ask_connections=looks_at_connections(record),
        )
        reading = await self._timed("server", look)
        self._tell(ModelLooked(name, reading, self._sink.in_flight(name), self._sink.entered(name)), hurried)

    async def _rest_until_due(
        self, key: str, name: str, asked_s: float, after_s: Callable[[ModelRecord, Settings], float]
    ) -> bool:
        """Wait for the next look of this sort; return whether somebody wants it now. How soon it is due follows from
        what the model is by then: what woke meanwhile is looked at as often as all that are awake, not as rarely as
        the sleeper it was at its last look."""
        while (record := self._sink.world.models.get(name)) is not None:
            settings, now_s = self._sink.world.settings, self._clock.now().mono_s
            every_s = settings.poll_every_s
            due_s = self._rounds.due_s(key, asked_s, after_s(record, settings), every_s)
            if due_s <= now_s:
                break
            if await self._rest(key, min(due_s, self._rounds.due_s(key, now_s, every_s, every_s)), asked_s):
                return True
        return False

    async def _watch_unit(self, name: str) -> None:
        hurried = False
        while (record := self._sink.world.models.get(name)) is not None and record.spec.unit:
            asked_s = self._clock.now().mono_s
            self._tell(UnitLooked(name, await look_at_unit(self._units, record.spec.unit, LOOK_TIMEOUT_S)), hurried)
            hurried = await self._rest_until_due(f"unit:{name}", name, asked_s, unit_after_s)

    async def _watch_gpus(self) -> None:
        hurried = True
        while True:
            asked_s = self._clock.now().mono_s
            listed = wants_processes(self._sink.world)
            self._tell(GpusLooked(await self._timed("gpus", self._gpus.read(processes=listed)), listed), hurried)
            hurried = await self._rest_a_round("gpus", asked_s)

    async def _watch_host(self) -> None:
        hurried = True
        while True:
            asked_s = self._clock.now().mono_s
            self._tell(HostLooked(await self._timed("host", self._host.read())), hurried)
            hurried = await self._rest_a_round("host", asked_s)

    def _tell(self, event: Event, hurried: bool) -> None:
        self._sink.submit(event, 0.0 if hurried else GATHER_S)

    async def _timed(self, source: str, look: Awaitable[Reading[T]]) -> Reading[T]:
        """Tell how long a poll took by the processor's clock, and whether it brought anything."""
        began_s = perf_counter()
        reading = await look
        self._looked(source, perf_counter() - began_s, isinstance(reading, Known))
        return reading

    async def _rest_a_round(self, key: str, asked_s: float) -> bool:
        every_s = self._sink.world.settings.poll_every_s
        return await self._rest(key, self._rounds.due_s(key, asked_s, every_s, every_s), asked_s)

    async def _rest(self, key: str, until_s: float, asked_s: float) -> bool:
        """Wait until that moment, or until somebody nudges; return whether somebody did."""
        nudged = await self._rounds.rest(key, until_s)
        left_s = asked_s + NUDGED_LOOK_S - self._clock.now().mono_s
        if left_s > 0.0:
            await self._clock.sleep(left_s)
        return nudged
