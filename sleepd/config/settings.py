"""What a configuration amounts to, typed: the core's settings beside what the composition root needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sleepd.config.errors import Problem
from sleepd.core.model import Settings


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


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that holds: `warnings` are for the operator, `files` were read, in the order they apply."""

    settings: Settings
    service: ServiceSettings
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...]
