"""The composition root: the only module that sees everything, and puts it together."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvloop

from sleepd import __version__
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.host_memory import ProcHostMemory
from sleepd.adapters.instance_lock import AlreadyRunning, InstanceLock
from sleepd.adapters.nvml import NvmlGpus
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.store import SqliteStore
from sleepd.adapters.systemd import SystemdNotifier
from sleepd.adapters.vllm_http import VllmServer
from sleepd.api.daemon import Ask, EventsRead, ReloadOutcome
from sleepd.api.ring import EventRing
from sleepd.api.server import ApiServer, SocketTaken, start_api
from sleepd.config.compile import Config
from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.core.events import Answer, Note, SettingsChanged
from sleepd.core.explain import eta_s, explain, next_action, reason
from sleepd.core.life import State
from sleepd.core.machine import begin
from sleepd.core.model import Known, Now, Rule, Settings
from sleepd.core.reports import Explanation, NextAction
from sleepd.core.units import Seconds, WallS, format_size
from sleepd.core.world import World
from sleepd.engine.gate import Gates
from sleepd.engine.loop import Loop
from sleepd.engine.observer import Observer
from sleepd.engine.runner import Runner, cancelled
from sleepd.obs import log
from sleepd.ports import Clock, Gpus, HostMemory, Notifier, Store, StoreFailed, Vllm

STOP_PART_S = 10.0
"""How long one part may take to end: less than TimeoutStopSec, so that the others end in order too."""
TAKEN_WITHIN_S = 5.0
"""How long a reload waits for the turn that takes the new settings; a disk that is full delays it further."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of the outside that a service is made of; the demo and tests bring their own."""

    clock: Clock
    gpus: Gpus
    host: HostMemory
    store: Store
    notifier: Notifier
    find: ProcessFinder


class Service:
    """The running daemon: the engine, its observers, and the API on its socket. Implements api.daemon.Daemon."""

    def __init__(self, config: Config, parts: Parts, reread: Callable[[], Config]) -> None:
        self._config, self._parts, self._reread = config, parts, reread
        self._servers: dict[str, Vllm] = {}
        self._ring = EventRing(secrets.token_hex(4))
        self._loop: Loop | None = None
        self._observer: Observer | None = None
        self._api: ApiServer | None = None
        self._turning: asyncio.Task[None] | None = None
        self._reload_failed = ""
        self._started = parts.clock.now()

    # api.daemon.Daemon

    @property
    def world(self) -> World:
        assert self._loop is not None
        return self._loop.world

    @property
    def started_wall_s(self) -> WallS:
        return self._started.wall_s

    def now(self) -> Now:
        return self._parts.clock.now()

    async def ask(self, make: Callable[[int], Ask]) -> Answer:
        assert self._loop is not None
        return await self._loop.ask(make)

    def explain(self, model: str) -> Explanation:
        return explain(self.world, model, self.now())

    def reason(self, model: str) -> str:
        return reason(self.world, model)

    def next_action(self, model: str) -> NextAction | None:
        return next_action(self.world, model, self.now())

    def eta_s(self, model: str) -> Seconds | None:
        return eta_s(self.world, model, self.now())

    def read_events(self, since_id: str | None) -> EventsRead:
        return self._ring.read(since_id)

    async def wait_events(self, last_id: str) -> None:
        await self._ring.wait(last_id)

    async def reload(self) -> ReloadOutcome:
        """Take the files as they are now; where they do not hold, the running settings are kept and it is said."""
        self._parts.notifier.reloading()
        try:
            config = await asyncio.to_thread(self._reread)
        except ConfigError as error:
            errors = tuple(str(problem) for problem in error.problems)
            self._tell([Note("reload_failed", "", f"kept the running settings: {errors[0]}")], self.now())
            self._reload_failed = f"reload failed, running settings kept: {errors[0]}"
            self._parts.notifier.status(self._reload_failed)
            self._parts.notifier.ready()
            return ReloadOutcome(errors=errors)
        self._reload_failed = ""
        changed = _changes(self._config, config)
        self._config = config
        assert self._loop is not None
        self._loop.submit(SettingsChanged(config.settings))
        # The answer is a promise: who adds a model and asks for it next must find it.
        await self._loop.until(lambda world: world.settings is self._config.settings, TAKEN_WITHIN_S)
        if self._api is not None:
            self._api.grant(config.service.roles)
        self._tell([Note("reloaded", "", "; ".join(changed) or "reloaded, nothing changed")], self.now())
        self._parts.notifier.ready()
        return ReloadOutcome(changed=changed)

    # running

    async def start(self) -> None:
        """Load what was remembered, look at everything, and answer on the socket. Raises StoreFailed, SocketTaken."""
        parts, settings = self._parts, self._config.settings
        first = begin(settings, await parts.store.load(), self.now())
        if first.records:
            await parts.store.commit(first.records)
        gates = Gates()
        self._loop = Loop(
            first.world,
            clock=parts.clock,
            store=parts.store,
            runner=Runner(parts.clock, parts.gpus, parts.host),
            gates=gates,
            server=self._server,
            tell=self._tell,
            beat=self._beat,
            disk_slow=self._say_disk_slow,
        )
        self._observer = Observer(self._loop, parts.clock, parts.gpus, parts.host, self._server)
        self._loop.observe_with(self._observer)
        service = self._config.service
        self._api = await start_api(
            self, socket_path=service.socket_path, socket_mode=service.socket_mode, roles=service.roles
        )
        self._turning = asyncio.create_task(self._loop.run(), name="loop")
        self._observer.start()
        parts.notifier.ready()

    async def wait(self) -> None:
        """Return only by an error of the loop or a watch: a decision that cannot be made, or a source that is looked at
        no more, must not be survived silently. Raises that error; the service manager starts the daemon anew."""
        assert self._turning is not None
        assert self._observer is not None
        watching = asyncio.create_task(self._observer.wait())
        try:
            await asyncio.wait((self._turning, watching), return_when=asyncio.FIRST_COMPLETED)
            await (self._turning if self._turning.done() else watching)
        finally:
            await cancelled(watching)

    async def stop(self) -> None:
        """End in order: no new requests, no new tasks; what runs at the engines is the next start's business."""
        self._parts.notifier.stopping()
        ends: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        if self._observer is not None:
            ends.append(("the observers", self._observer.stop))
        if self._turning is not None:
            ends.append(("the loop", partial(cancelled, self._turning)))
        ends += [("what runs", self._loop.stop)] if self._loop is not None else []
        ends += [("the API", self._api.close)] if self._api is not None else []
        ends += [("a server's connections", server.close) for server in self._servers.values()]
        ends += [("NVML", self._parts.gpus.close), ("the state database", self._parts.store.close)]
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
        spec = self.world.models[name].spec if name in self.world.models else self._config.settings.models[name]
        key = f"{name} {spec.url}"
        if key not in self._servers:
            self._servers[key] = VllmServer(spec, self._parts.clock, self._parts.find)
        return self._servers[key]

    def _tell(self, notes: Sequence[Note], now: Now) -> None:
        for note in notes:
            self._ring.append(note, now.wall_s)
            log.log_note(note)

    def _beat(self, world: World) -> None:
        self._parts.notifier.watchdog()
        # A reload that failed stays on show: its words must outlive the next turn, which is a moment away.
        self._parts.notifier.status(self._reload_failed or status_line(world))

    def _say_disk_slow(self) -> None:
        self._parts.notifier.watchdog()
        self._parts.notifier.status("waiting for the disk: a commit to [daemon] state_dir takes long")


def status_line(world: World) -> str:
    """What `systemctl status` shows: "3 awake, 2 asleep, 41GiB free; waking qwen3-32b"."""
    states = [r.life.state for r in world.models.values()]
    awake = sum(s is State.AWAKE for s in states)
    asleep = sum(s in (State.ASLEEP_L1, State.ASLEEP_L2) for s in states)
    failed = sum(s in (State.FAILED, State.LOST) for s in states)
    parts = [f"{awake} awake", f"{asleep} asleep"] + ([f"{failed} failed or lost"] if failed else [])
    if isinstance(world.gpus, Known):
        parts.append(f"{format_size(sum(g.free_bytes for g in world.gpus.value))} free")
    doing = [f"{t.kind}: {name}" for name, t in sorted(world.tasks.items())]
    return ", ".join(parts) + (f"; {', '.join(doing)}" if doing else "")


def _changes(old: Config, new: Config) -> tuple[str, ...]:
    """What a reload changed, a line each."""
    changed: list[str] = []
    before, after = old.settings.models, new.settings.models
    changed += [f"model {n} added" for n in after if n not in before]
    changed += [f"model {n} removed" for n in before if n not in after]
    changed += [f"model {n} changed" for n in after if n in before and after[n] != before[n]]
    rules_before, rules_after = {r.name: r for r in old.settings.rules}, {r.name: r for r in new.settings.rules}
    changed += [f"rule {n} added" for n in rules_after if n not in rules_before]
    changed += [f"rule {n} removed" for n in rules_before if n not in rules_after]
    both = before.keys() & after.keys()
    changed += [
        f"rule {n} changed"
        for n in rules_after
        if n in rules_before and _for_models(rules_after[n], both) != _for_models(rules_before[n], both)
    ]
    if _limits(old.settings) != _limits(new.settings):
        changed.append("limits and polling changed")
    if old.service.roles != new.service.roles:
        changed.append("roles changed")
    fixed = ("state_dir", "socket_path", "socket_mode", "proc_root", "cgroup_root")
    changed += [
        f"{key} changed: takes effect at the next start"
        for key in fixed
        if getattr(old.service, key) != getattr(new.service, key)
    ]
    return tuple(changed)


def _for_models(rule: Rule, models: Set[str]) -> Rule:
    """The rule as these models know it: one that came or went changes no rule, though "*" now means others."""
    return replace(rule, applies_to=rule.applies_to & models)


def _limits(settings: Settings) -> tuple[object, ...]:
    return (
        settings.poll_every_s,
        settings.gpu_margin_bytes,
        settings.host_reserve_bytes,
        settings.retries,
        settings.stuck_after_s,
        settings.foreign_hold_down_s,
    )


def system_parts(config: Config) -> Parts:
    """The real outside: this machine's clock, NVML, /proc and disk."""
    clock, service = SystemClock(), config.service
    return Parts(
        clock=clock,
        gpus=NvmlGpus(clock),
        host=ProcHostMemory(service.proc_root, clock),
        store=SqliteStore(service.state_dir / "state.db"),
        notifier=SystemdNotifier(),
        find=ProcessFinder(service.cgroup_root),
    )


def run(config_dir: Path) -> int:
    """Run the daemon until it is told to end. Exit status: 0 ended, 1 could not run, 2 the configuration is wrong."""
    log.configure()
    try:
        config = load_config(config_dir)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    lock = InstanceLock(config.service.state_dir)
    try:
        lock.acquire()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, config_dir))
    except (AlreadyRunning, SocketTaken, StoreFailed) as error:
        print(f"sleepd: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sleepd: {error.filename or config.service.state_dir}: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        lock.release()


async def _serve(config: Config, config_dir: Path) -> int:
    service = Service(config, system_parts(config), lambda: load_config(config_dir))
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    reloads: set[asyncio.Task[ReloadOutcome]] = set()

    def reload() -> None:
        task = asyncio.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await service.start()
        version, pid = __version__, os.getpid()
        log.log_note(Note("started", "", f"sleepd {version} drives {len(config.settings.models)} models", {"pid": pid}))
        ended = asyncio.create_task(service.wait())
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait((ended, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if ended.done():
            ended.result()
        ended.cancel()
    finally:
        await service.stop()
    return 0
