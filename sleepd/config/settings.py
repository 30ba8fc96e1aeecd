"""What a configuration amounts to, typed: the core's settings beside what the composition root needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sleepd.config.effective import Effective
from sleepd.config.errors import Problem
from sleepd.config.listen import Listen
from sleepd.core.model import Settings
from sleepd.core.units import Bytes, Seconds


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`listen` empty: there is no gateway. `api_keys_file` "": no key is asked for, and every address is local."""

    listen: tuple[Listen, ...] = ()
    socket_mode: int = 0o660
    max_wait_s: Seconds = 120.0
    queue_limit: int = 256
    drain_s: Seconds = 300.0
    api_keys_file: str = ""
    cors_origins: tuple[str, ...] = ()
    heartbeat_s: Seconds = 15.0
    """0: never."""


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """`backend` "none": `capacity` is all that is known of GPUs, by the names that models use."""

    backend: str = "nvml"
    capacity_bytes: Mapping[str, Bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UiSettings:
    """The page. `on`: the sections whose listeners show it; empty where it is off."""

    on: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    session_s: Seconds = 43_200.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where events go. `models` None: those of every model, and those of none. The secret is read where it is used."""

    name: str
    url: str
    secret_file: str
    kinds: frozenset[str]
    models: frozenset[str] | None = None
    timeout_s: Seconds = 10.0


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What the composition root needs beside the core's settings. `roles` maps admin, operator, caller, viewer to
    user names, "%group" or "*"."""

    state_dir: Path
    socket_path: Path
    socket_mode: int
    roles: Mapping[str, tuple[str, ...]]
    proc_root: Path
    cgroup_root: Path
    gateway: GatewaySettings = GatewaySettings()
    gpu: GpuSettings = GpuSettings()
    metrics_listen: tuple[Listen, ...] = ()
    history_keep_s: Seconds = 30 * 86400.0
    webhooks: tuple[WebhookSettings, ...] = ()
    ui: UiSettings = UiSettings()
    tracing_endpoint: str = ""
    """Empty: as the environment says, else none."""


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that holds: `warnings` are for the operator, `files` were read, in the order they apply."""

    settings: Settings
    service: ServiceSettings
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...]
    filled: frozenset[Path] = frozenset()
    """The files that had any key."""
    effective: tuple[Effective, ...] = ()
    """Every value that holds, as a file would write it, and where it was written."""
