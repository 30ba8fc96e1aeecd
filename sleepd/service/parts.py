"""The outside that a service is made of: this machine's own, or what the demo and tests bring."""

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.declared_gpus import DeclaredGpus
from sleepd.adapters.history_db import HistoryDatabase
from sleepd.adapters.host_memory import ProcHostMemory
from sleepd.adapters.nvml import NvmlGpus
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.store import DATABASE, SqliteStore
from sleepd.adapters.systemd import SystemdNotifier, passed_descriptors, watchdog_interval_s
from sleepd.adapters.systemd_succession import SystemdSuccession
from sleepd.adapters.systemd_units import SystemdUnits
from sleepd.config.settings import Config
from sleepd.core.units import Seconds
from sleepd.ports import Clock, Gpus, HostMemory, Notifier, Store, Successor, Units
from sleepd.service.gateway import KEPT_NAMES


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of the outside that a service is made of; the demo and tests bring their own."""

    clock: Clock
    gpus: Gpus
    host: HostMemory
    store: Store
    notifier: Notifier
    find: ProcessFinder
    passed: Mapping[str, tuple[socket.socket, ...]] = field(default_factory=dict)
    """Listening sockets that the service manager opened, by name."""
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Descriptors that an earlier run let the service manager keep, by name."""
    successor: Successor | None = None
    """The way to the next run; None: there is none."""
    units: CgroupMemory | None = None
    manager: Units | None = None
    """The service manager's units; None: nothing here starts or stops one."""
    history: HistoryDatabase | None = None
    """None: no history is kept."""
    energy: Callable[[], Awaitable[Mapping[str, float]]] | None = None
    """Joules taken by GPU uuid, rising; None where nothing tells."""
    watchdog_s: Seconds | None = None
    """Within which time the service manager wants signs of life; None where it watches nobody."""


def system_parts(config: Config) -> Parts:
    """The real outside: this machine's clock, NVML, /proc and disk."""
    clock, service = SystemClock(), config.service
    units = CgroupMemory(service.cgroup_root, service.proc_root)
    manager = SystemdUnits(clock)
    passed = passed_descriptors(os.environ, os.getpid())
    nvml = NvmlGpus(clock) if service.gpu.backend == "nvml" else None
    return Parts(
        clock=clock,
        gpus=nvml or DeclaredGpus(clock, service.gpu.capacity_bytes),
        host=ProcHostMemory(service.proc_root, clock, units),
        store=SqliteStore(service.state_dir / DATABASE),
        notifier=SystemdNotifier(),
        find=ProcessFinder(service.cgroup_root),
        passed={n: tuple(socket.socket(fileno=fd) for fd in fds) for n, fds in passed.items() if n not in KEPT_NAMES},
        kept={name: descriptors for name, descriptors in passed.items() if name in KEPT_NAMES},
        successor=SystemdSuccession(manager),
        units=units,
        manager=manager,
        history=HistoryDatabase(service.state_dir / "history.db"),
        energy=nvml.read_energy if nvml is not None else None,
        watchdog_s=watchdog_interval_s(os.environ, os.getpid()),
    )
