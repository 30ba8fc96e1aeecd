"""The running daemon: what it is made of, and in which order it begins and ends."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sleepd.adapters.declared_gpus import DeclaredGpus
from sleepd.adapters.processes import process_tree
from sleepd.api.access import Peer, Role
from sleepd.api.daemon import Ask, EventsRead, NotAwake, ReloadOutcome, UiToken
from sleepd.api.ring import EventRing
from sleepd.config.settings import Config
from sleepd.core.beginning import begin
from sleepd.core.commands import Answer
from sleepd.core.explain import explain, next_action, reason
from sleepd.core.forecast import come_back_s, eta_s
from sleepd.core.model import Known, Now, OnStop
from sleepd.core.records import TaskEnded
from sleepd.core.rehearse import WakePlan, plan_of_wake
from sleepd.core.reports import Explanation, NextAction
from sleepd.core.turn import Note
from sleepd.core.units import Seconds, WallS
from sleepd.core.wishes import AttendanceChanged, HoldDetached, ReservationDetached
from sleepd.core.world import World
from sleepd.doctor.findings import Finding
from sleepd.engine.gate import Gate, Gates
from sleepd.engine.loop import BEAT_S, Loop
from sleepd.engine.observer import Observer
from sleepd.engine.runner import Runner, cancelled
from sleepd.engine.ticker import Ticker
from sleepd.gateway.daemon import Held
from sleepd.obs import log
from sleepd.obs.gauges import Moment, is_on
from sleepd.ports import Vllm
from sleepd.service.declared import declared_bytes
from sleepd.service.examination import examine, look_at_disk, look_at_limits
from sleepd.service.farewell import WAKE_S, wake_sleepers
from sleepd.service.followers import Followers
from sleepd.service.gate_holds import GateHolds
from sleepd.service.history import HistoryPart
from sleepd.service.listeners import Listeners
from sleepd.service.metrics import MetricsPart
from sleepd.service.onlookers import Onlookers
from sleepd.service.parts import Parts
from sleepd.service.reload import Reloading
from sleepd.service.servers import Servers
from sleepd.service.status import status_line
from sleepd.wire import unread_models

LOAD_S = 300.0
"""How long the state database may take at the start: a large one is migrated, on a disk that may be slow."""
STOP_PART_S = 10.0
"""How long one part may take to end: less than TimeoutStopSec, so that the others end in order too."""


class Service:
    """The running daemon: the engine, its observers, the API and the gateway. Implements the Daemon of both."""

    def __init__(self, config: Config, parts: Parts, reread: Callable[[Config], Config]) -> None:
        self._parts = parts
        self._reloading = Reloading(config, reread, parts.notifier, lambda note: self._tell([note], self.now()))
        self._metrics = MetricsPart(self._moment)
        self._listeners = Listeners(self._metrics)
        self._servers = Servers(parts, lambda note: self._tell([note], self.now()))
        self._ring = EventRing(secrets.token_hex(4))
        self._gates = Gates()
        self.followers = Followers(self._complain)
        self._onlookers = Onlookers(
            parts,
            now=self.now,
            tell=lambda note: self._tell([note], self.now()),
            config=lambda: self._reloading.config,
            entered=lambda model: self._gates.of(model).entered,
        )
        self._onlookers.follow(self.followers)
        self._metrics.follow(self.followers)
        self._gate_holds = GateHolds(self.ask, lambda: self.world, self.now)
        self._loop: Loop | None = None
        self._observer: Observer | None = None
        self._turning: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._started, self._state_dir = parts.clock.now(), config.service.state_dir

    # api.daemon.Daemon

    @property
    def world(self) -> World:
        assert self._loop is not None
        return self._loop.world

    @property
    def started_wall_s(self) -> WallS:
        return self._started.wall_s

    @property
    def history(self) -> HistoryPart:
        return self._onlookers.history

    def now(self) -> Now:
        return self._parts.clock.now()

    async def ask(self, make: Callable[[int], Ask]) -> Answer:
        assert self._loop is not None
        return await self._loop.ask(make)

    async def ask_gate(self, model: str, who: str, wait_s: Seconds) -> NotAwake | None:
        return await self._listeners.ask_gate(model, who, wait_s)

    def detach_hold(self, hold_id: str, stream: int) -> None:
        assert self._loop is not None
        self._loop.submit(HoldDetached(hold_id, stream))

    def detach_reservation(self, reservation_id: str, stream: int) -> None:
        assert self._loop is not None
        self._loop.submit(ReservationDetached(reservation_id, stream))

    async def process_tree(self, pid: int) -> tuple[int, ...]:
        return await asyncio.to_thread(process_tree, pid)

    def explain(self, model: str) -> Explanation:
        return explain(self.world, model, self.now())

    def reason(self, model: str) -> str:
        return reason(self.world, model, self.now())

    def next_action(self, model: str) -> NextAction | None:
        return next_action(self.world, model, self.now())

    def eta_s(self, model: str) -> Seconds | None:
        return eta_s(self.world, model, self.now())

    def come_back_s(self, model: str) -> Seconds | None:
        return come_back_s(self.world, model, self.now())

    @property
    def ended(self) -> Sequence[TaskEnded]:
        """Tasks that came to their end, the newest last."""
        assert self._loop is not None
        return self._loop.ended

    def plan_of_wake(self, model: str) -> WakePlan:
        """What a wake asked now would do; nothing is done."""
        return plan_of_wake(self.world, model, self.now())

    def read_events(self, since_id: str | None) -> EventsRead:
        return self._ring.read(since_id)

    async def wait_events(self, last_id: str) -> None:
        await self._ring.wait(last_id)

    def let_in(self, peer: Peer, role: Role, ttl_s: Seconds) -> UiToken | None:
        return self._listeners.let_in(peer, role, ttl_s)

    # gateway.daemon.Daemon

    def gate(self, model: str) -> Gate:
        return self._gates.of(model)

    def when_opened(self, tell: Callable[[str], None]) -> None:
        self._gates.when_opened(tell)

    def attend(self, waiter: int, model: str, *, attended: bool) -> None:
        assert self._loop is not None
        self._loop.submit(AttendanceChanged(waiter, model, attended))

    def hold(self, model: str, who: str) -> asyncio.Future[Answer] | None:
        return self._gate_holds.hold(model, who)

    def held(self, held: Held) -> None:
        self.followers.waits.hear(held)

    def answered(self, model: str, outcome: str) -> None:
        self._metrics.tally.answered(model, outcome)

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        return await self._metrics.page(accept)

    def _moment(self) -> Moment:
        reload_failed = bool(self._reloading.failed)
        ready = not unread_models(self.world)
        started_s = self.started_wall_s
        return Moment(self.world, self.now(), started_s, reload_failed, ready, self.in_flight, self.queued)

    def in_flight(self, model: str) -> int:
        return self._gates.of(model).in_flight

    def queued(self, model: str) -> int:
        """How many requests the gateway holds for the model."""
        return self._listeners.queued(model)

    async def examine(self) -> Sequence[Finding]:
        assert self._loop is not None
        world, parts = self.world, self._parts
        disk = await asyncio.to_thread(look_at_disk, self._state_dir, self._loop.unrecorded)
        limits = await asyncio.to_thread(look_at_limits, world, parts.units)
        events = self._ring.read(None).events
        return await examine(world, disk, parts.gpus, limits, started=self._started, now=self.now(), events=events)

    async def reload(self) -> ReloadOutcome:
        assert self._loop is not None
        outcome = await self._reloading.reload(self._loop, self._listeners)
        if not outcome.errors:
            self._servers.renew(self._reloading.config.settings.models.values())
            self._onlookers.reloaded()
        return outcome

    # running

    async def start(self) -> None:
        """Load what was remembered, look at everything, and answer on the socket. Raises StoreFailed, SocketTaken."""
        parts, config = self._parts, self._reloading.config
        parts.notifier.status("reading the state database")
        parts.notifier.extend(LOAD_S)
        saved = await parts.store.load()
        first = begin(config.settings, saved, self.now())
        if first.records:
            await parts.store.commit(first.records)
        self._loop = Loop(
            first.world,
            clock=parts.clock,
            store=parts.store,
            runner=Runner(parts.clock, parts.gpus, parts.host, parts.manager),
            gates=self._gates,
            server=self._server,
            tell=self._tell,
            beat=self._beat,
            disk_slow=self._say_disk_slow,
            follow=self.followers.turns.hear,
            committed=self._metrics.tally.committed,
            ended=saved.ended,
            beat_s=min(BEAT_S, (parts.watchdog_s or 3 * BEAT_S) / 3),
        )
        if isinstance(parts.gpus, DeclaredGpus):
            parts.gpus.count(lambda: declared_bytes(self.world, self._server))
        self._observer = Observer(
            *(self._loop, parts.clock, parts.gpus, parts.host, self._server), self._metrics.tally.looked, parts.manager
        )
        self._loop.observe_with(self._observer)
        inherited = await self._listeners.start(self, config.service, parts.passed, parts.kept)
        if inherited:
            self._tell([Note("started", "", inherited)], self.now())
        self._turning = asyncio.create_task(self._loop.run(), name="loop")
        self._ticking = asyncio.create_task(Ticker(self._loop, parts.clock).run(), name="calendar")
        self._observer.start()
        self._onlookers.start()
        parts.notifier.ready()

    async def wait(self) -> None:
        """Return only by an error of the loop or a watch: a decision that cannot be made, or a source that is looked at
        no more, must not be survived silently. Raises that error; the service manager starts the daemon anew."""
        assert self._turning is not None
        assert self._ticking is not None
        assert self._observer is not None
        watching = asyncio.create_task(self._observer.wait())
        parts = (self._turning, self._ticking, watching)
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            await next(part for part in parts if part.done())
        finally:
            await cancelled(watching)

    async def leave(self) -> None:
        """What goes before everything ends: where another run follows, what runs finishes, and what waits is left to
        it, within the time that the service manager gives; where none does, sleepers are woken if `[daemon] on_stop`
        says so, within `WAKE_S`."""
        assert self._loop is not None
        successor = self._parts.successor
        succession = await successor.announced() if successor is not None else None
        if succession is not None and successor is not None:
            self._parts.notifier.stopping()
            await self._listeners.leave_passed()
            try:
                told = await self._listeners.hand_over(succession, successor)
            except OSError as error:
                told = f"nothing is left to the next run: {error}"
            if told:
                self._tell([Note("left", "", told)], self.now())
            return
        if self._reloading.config.settings.on_stop is OnStop.WAKE:
            self._parts.notifier.stopping()
            self._parts.notifier.status("waking sleepers before the end")
            self._parts.notifier.extend(WAKE_S + 2 * STOP_PART_S)
            self._tell([await wake_sleepers(self._loop)], self.now())

    async def stop(self) -> None:
        """End in order: no new requests, no new tasks; what runs at the engines is the next start's business."""
        self._parts.notifier.stopping()
        ends: list[tuple[str, Callable[[], Awaitable[None]]]] = self._listeners.first_ends()
        if self._observer is not None:
            ends.append(("the observers", self._observer.stop))
        if self._ticking is not None:
            ends.append(("the calendar", partial(cancelled, self._ticking)))
        if self._turning is not None:
            ends.append(("the loop", partial(cancelled, self._turning)))
        ends += [("what runs", self._loop.stop)] if self._loop is not None else []
        ends += self._listeners.ends()
        ends += self._onlookers.ends()
        ends += [("a server's connections", server.close) for server in self._servers.all()]
        ends += [("NVML", self._parts.gpus.close), ("the state database", self._parts.store.close)]
        ends += [("the service manager", self._parts.manager.close)] if self._parts.manager is not None else []
        for part, end in ends:
            await self._end(part, end)

    async def _end(self, part: str, end: Callable[[], Awaitable[None]]) -> None:
        """End one part within `STOP_PART_S`; one that cannot must not leave the others open."""
        try:
            async with asyncio.timeout(STOP_PART_S):
                await end()
        except Exception as error:
            told = f"{part} did not end in order: {type(error).__name__} {error}".rstrip()
            log.log_note(Note("failure", "", told, {"code": "failed"}))

    def _server(self, name: str) -> Vllm:
        """The client for a model; a changed address makes a new one."""
        known = self.world.models.get(name)
        return self._servers.client(known.spec if known is not None else self._reloading.config.settings.models[name])

    def _tell(self, notes: Sequence[Note], now: Now) -> None:
        for note in notes:
            known = self._loop.world.models.get(note.model) if self._loop is not None else None
            event = self._ring.append(note, now.wall_s, known.placed_on if known is not None else ())
            log.log_note(note, self._gpus_of(note.model))
            self.followers.events.hear(event)

    def _gpus_of(self, model: str) -> tuple[str, ...]:
        """The indices of the GPUs that the model is on, as nvidia-smi numbers them."""
        if self._loop is None or model not in self.world.models or not isinstance(self.world.gpus, Known):
            return ()
        record = self.world.models[model]
        return tuple(str(gpu.index) for gpu in self.world.gpus.value if is_on(record, gpu))

    def _complain(self, what: str) -> None:
        told = f"an error inside sleepd, in what follows its turns: {what}"
        log.log_note(Note("failure", "", told, {"code": "failed"}))

    def _beat(self, world: World) -> None:
        self._parts.notifier.watchdog()
        # A reload that failed stays on show: its words must outlive the next turn, which is a moment away.
        self._parts.notifier.status(self._reloading.failed or status_line(world))

    def _say_disk_slow(self) -> None:
        self._parts.notifier.watchdog()
        self._parts.notifier.status("waiting for the disk: a commit to [daemon] state_dir takes long")
