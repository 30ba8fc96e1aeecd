"""What the demo stands on: one simulated GPU host in memory, its servers on real sockets, and a real daemon.

Only the outside is make-believe. The daemon, its state database, its socket API, its configuration files, the vLLM
HTTP protocol and every byte on the sockets are what a real host has; time runs `speed` times as fast for all of them.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from sleepd.adapters.clock import ScaledClock
from sleepd.adapters.history_db import HistoryDatabase
from sleepd.adapters.host_memory import ProcHostMemory
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.store import DATABASE, SqliteStore
from sleepd.config.load import PACKAGED_DIR, load_config
from sleepd.config.settings import Config
from sleepd.core.model import Known, ModelSpec, Reading
from sleepd.core.seen import GpusSeen
from sleepd.core.units import GIB, Bytes
from sleepd.service.daemon import Service
from sleepd.service.parts import Parts
from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.host import GpuShare, RamShare, SimGpu, SimHost
from sleepd.sim.vllm_types import EngineSpec, Timing

GPU_BYTES, RAM_BYTES = 80 * GIB, 128 * GIB
OTHERS_BYTES = 20 * GIB
"""Host RAM that everything but backups uses, before the batch job comes."""

OFFLOAD_GIB_S, RESTORE_GIB_S, RELOAD_GIB_S, HASH_GIB_S, MAP_GIB_S = 8.0, 8.0, 2.5, 8.0, 400.0
FIRST_SLEEP_FACTOR = 2.0
"""Rates of a host with slow pinned copies and one NVMe disk, so that a wake is long enough to be seen."""
BLOCKS = 16
PAGE_PORT = 9800
TOKEN_S = 0.05


@dataclass(frozen=True, slots=True)
class Cast:
    """One server of the demo."""

    name: str
    pid: int
    weights_bytes: Bytes
    kv_bytes: Bytes
    residual_bytes: Bytes
    max_level: int = 1

    @property
    def awake_bytes(self) -> Bytes:
        return self.weights_bytes + self.kv_bytes + self.residual_bytes


CAST = (
    Cast("chat", 4101, 28 * GIB, 20 * GIB, GIB * 3 // 2),
    Cast("code", 4102, 32 * GIB, 17 * GIB, GIB * 3 // 2),
    Cast("search", 4103, 22 * GIB, 27 * GIB, GIB, max_level=2),
)
"""Any one fits on the GPU beside two that sleep; no two do."""


class DemoGpus:
    """The port the daemon reads GPUs through: the simulated host instead of NVML."""

    def __init__(self, host: SimHost, clock: ScaledClock) -> None:
        self._host, self._clock = host, clock

    async def read(self, *, processes: bool) -> Reading[GpusSeen]:
        """Return every GPU as it is now; never waits."""
        now_s = self._clock.now().mono_s
        return Known(self._host.see_gpus(processes=processes), now_s, now_s)

    async def close(self) -> None:
        """Nothing is held."""


class CastFinder(ProcessFinder):
    """Servers of the demo are no processes of their own: each has a number on the simulated GPU instead."""

    def __init__(self) -> None:
        super().__init__(Path("/sys/fs/cgroup"))

    async def find(self, spec: ModelSpec) -> tuple[int, ...]:
        return tuple(cast.pid for cast in CAST if cast.name == spec.name)


class DeafNotifier:
    """No service manager is told anything: the demo is nobody's unit."""

    def ready(self) -> None: ...
    def status(self, text: str) -> None: ...
    def watchdog(self) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self) -> None: ...
    def extend(self, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Ram:
    """A server's share of host RAM; whoever watches is told after each change."""

    share: RamShare
    changed: Callable[[], None]

    def pin(self, bytes_: Bytes, /) -> None:
        self.share.pin(bytes_)
        self.changed()


class Stage:
    """The host and the daemon below one directory: `async with Stage(root, speed) as stage`; all is gone when left."""

    def __init__(self, root: Path, speed: float, page_port: int | None = None) -> None:
        """`page_port`: where on 127.0.0.1 the page for people is shown; None: nowhere."""
        self.root, self.speed, self.page_port = root, speed, page_port
        self.clock = ScaledClock(speed)
        self.host = SimHost([SimGpu("GPU-demo", 0, GPU_BYTES)], RAM_BYTES, OTHERS_BYTES)
        self.socket_path = root / "sleepd.sock"
        self.gateway_path = root / "gateway.sock"
        self.service: Service | None = None
        self._deployed: list[Cast] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "Stage":
        (self.root / "proc").mkdir()
        (self.root / "config").mkdir()
        self.show_ram()
        self._write_config()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop_daemon()
        await self._open.aclose()

    def server_socket(self, name: str) -> Path:
        return self.root / f"{name}.sock"

    async def start_server(self, cast: Cast) -> None:
        """A server runs and stands in the configuration; the daemon sees it at its next start or reload."""
        server = FakeVllm(
            engine_spec(cast, self.speed),
            uds=self.server_socket(cast.name),
            gpu=GpuShare(self.host, (0,), cast.pid),
            host=_Ram(RamShare(self.host, cast.pid), self.show_ram),
        )
        await self._open.enter_async_context(server)
        self._deployed.append(cast)
        self._write_config()

    async def start_daemon(self) -> Service:
        """The daemon answers on its socket. Raises ConfigError, SocketTaken, StoreFailed."""
        config = self._read_config()
        service = config.service
        parts = Parts(
            clock=self.clock,
            gpus=DemoGpus(self.host, self.clock),
            host=ProcHostMemory(service.proc_root, self.clock),
            store=SqliteStore(service.state_dir / DATABASE),
            notifier=DeafNotifier(),
            find=CastFinder(),
            history=HistoryDatabase(service.state_dir / "history.db", lambda: self.clock.now().wall_s),
        )
        self.service = Service(config, parts, lambda running: self._read_config())
        await self.service.start()
        return self.service

    async def stop_daemon(self) -> None:
        """The daemon is gone, its servers run on; it may be started again."""
        service, self.service = self.service, None
        if service is not None:
            await service.stop()

    def take_ram(self, bytes_: Bytes) -> None:
        """Programs that are no model use `bytes_` of host RAM more than usual."""
        self.host.others_bytes = OTHERS_BYTES + bytes_
        self.show_ram()

    def show_ram(self) -> None:
        """The make-believe /proc says what the host has; by rename, so that nobody reads half a file."""
        shown, scratch = self.root / "proc" / "meminfo", self.root / "proc" / ".meminfo"
        available = max(0, self.host.available_bytes)
        scratch.write_text(f"MemTotal: {self.host.ram_bytes // 1024} kB\nMemAvailable: {available // 1024} kB\n")
        scratch.replace(shown)

    def _write_config(self) -> None:
        text = config_text(self.root, self._deployed, self.speed, self.page_port)
        (self.root / "config" / "sleepd.toml").write_text(text)

    def _read_config(self) -> Config:
        return load_config(self.root / "config", shipped_dir=PACKAGED_DIR, environ={})


def engine_spec(cast: Cast, speed: float) -> EngineSpec:
    """The simulated engine of a server, everything it does `speed` times as fast."""
    timing = Timing(
        first_sleep_factor=FIRST_SLEEP_FACTOR,
        offload_gib_s=OFFLOAD_GIB_S * speed,
        restore_gib_s=RESTORE_GIB_S * speed,
        reload_gib_s=RELOAD_GIB_S * speed,
        hash_gib_s=HASH_GIB_S * speed,
        map_gib_s=MAP_GIB_S * speed,
    )
    return EngineSpec(
        version="0.32.0",
        name=cast.name,
        weights_bytes=cast.weights_bytes,
        kv_bytes=cast.kv_bytes,
        residual_bytes=cast.residual_bytes,
        blocks=BLOCKS,
        timing=timing,
        pace_s=TOKEN_S / speed,
    )


def config_text(root: Path, deployed: list[Cast], speed: float, page_port: int | None = None) -> str:
    """The configuration of the demo, as an operator would write it; the pressure rule is the shipped one."""
    poll_s = max(1.0, speed / 10)  # at most ten looks a second of real time
    lines = [
        "[daemon]",
        f"state_dir = {_quote(root / 'state')}",
        f'poll_every = "{poll_s:g}s"',
        "[api]",
        f"socket = {_quote(root / 'sleepd.sock')}",
        'mode = "0600"',
        "[gateway]",
        f"listen = [{_quote(f'unix:{root}/gateway.sock')}]",
        "[host]",
        f"proc_root = {_quote(root / 'proc')}",
        "[model_defaults]",
        'gpus = ["0"]',
        'min_awake = "10s"',
    ]
    if page_port is not None:
        lines += ["[metrics]", f'listen = ["127.0.0.1:{page_port}"]', "[ui]", "enabled = true"]
    for cast in deployed:
        lines += [
            f"[models.{cast.name}]",
            f"url = {_quote(f'unix:{root / cast.name}.sock')}",
            f'host_ram = "{cast.weights_bytes // GIB}GiB"',
            f"max_level = {cast.max_level}",
        ]
    lines += ["[[rules]]", 'name = "nap"', 'when = { idle = "30s" }', "then = { sleep = 1 }"]
    return "\n".join(lines) + "\n"


def find_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now: the usual one, if it is."""
    for port in (PAGE_PORT, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as found:
            return int(found.getsockname()[1])
    raise OSError("no TCP port of 127.0.0.1 is free")


def _quote(text: os.PathLike[str] | str) -> str:
    return json.dumps(os.fspath(text))
