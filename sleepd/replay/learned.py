"""A host as the daemon on it tells it: what `sleepctl status --json` prints, with what was learned of each model."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from sleepd.config.errors import ConfigError, Place, Problem
from sleepd.config.schema import Section
from sleepd.config.validate import Findings, validate
from sleepd.config.values import MAX_BYTES
from sleepd.core.frozen import replace
from sleepd.core.units import Bytes
from sleepd.replay.hosts import Costs, Host, HostGpu, bundled_host, described_host

STATUS_LIMIT = 16 << 20

_Size = Annotated[int, Field(ge=0, le=MAX_BYTES)]
_Lasts = Annotated[float, Field(ge=0, le=86400)]


class _Told(Section):
    """A part of a status; what else it says is not asked for."""

    model_config = ConfigDict(extra="ignore")


class _Gpu(_Told):
    uuid: str
    index: int
    total_bytes: _Size


class _Ram(_Told):
    total_bytes: _Size | None
    available_bytes: _Size | None


class _Held(_Told):
    uuid: str
    awake_bytes: _Size | None
    asleep_bytes: _Size | None
    need_bytes: _Size | None = None


class _Wake(_Told):
    seconds: _Lasts
    ok: bool


class _Model(_Told):
    name: str
    level: int | None
    eta_s: _Lasts | None
    host_ram_bytes: _Size | None
    last_wake: _Wake | None
    gpus: list[_Held]


class _Status(_Told):
    gpus: list[_Gpu]
    host: _Ram
    models: list[_Model]


def read_host(path: Path | None) -> Host:
    """Return the host that the file describes or tells of; for None the bundled one. Raises ConfigError."""
    if path is None:
        return bundled_host()
    try:
        with path.open("rb") as file:
            text = file.read(STATUS_LIMIT + 1)
    except OSError as error:
        raise ConfigError([Problem(Place(str(path)), f"cannot be read: {error.strerror}")]) from None
    return learned_host(path, text) if text.lstrip().startswith(b"{") else described_host(path)


def learned_host(path: Path, text: bytes) -> Host:
    """Return the host of a status: its GPUs, RAM, and models with what was learned; the rest is as bundled.

    Of a wake's seconds the status tells those from the level that the model sleeps at, else those of its last wake.
    Host RAM in use is what neither backups hold nor is available. Raises ConfigError.
    """
    status = _read_status(path, text)
    bundled = bundled_host()
    gpus = tuple(HostGpu(gpu.uuid, gpu.index, gpu.total_bytes) for gpu in status.gpus)
    there = {gpu.uuid for gpu in gpus}
    placed = {model.name: tuple(gpu.uuid for gpu in model.gpus) for model in status.models}
    host = replace(
        bundled,
        gpus=gpus,
        costs_of={model.name: _costs(model, bundled.default) for model in status.models},
        places_of={name: uuids for name, uuids in placed.items() if uuids and there.issuperset(uuids)},
    )
    total, available = status.host.total_bytes, status.host.available_bytes
    if total is None or available is None:
        return host
    backups = sum(model.host_ram_bytes or 0 for model in status.models)
    return replace(host, ram_bytes=total, used_bytes=max(0, total - available - backups))


def _read_status(path: Path, text: bytes) -> _Status:
    """What the status says of the host. Raises ConfigError."""
    wanted = "wanted a description in TOML, or what sleepctl status --json prints"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "objects within objects without end" if isinstance(error, RecursionError) else error
        raise ConfigError([Problem(Place(str(path)), f"{wanted}, found neither ({reason})")]) from None
    findings = Findings({}, str(path))
    status = validate(_Status, found, (), findings)
    if status is not None and not findings.problems:
        if not status.gpus:
            findings.refuse(("gpus",), "wanted at least one GPU in the status, found none")
        if len({gpu.uuid for gpu in status.gpus}) < len(status.gpus):
            findings.refuse(("gpus", "uuid"), "wanted another for each GPU, found one twice")
    if findings.problems:
        raise ConfigError([Problem(problem.place, f"{wanted}; {problem.message}") for problem in findings.problems])
    assert status is not None
    return status


def _costs(model: _Model, default: Costs) -> Costs:
    awake = max((gpu.awake_bytes or _declared(gpu, default) for gpu in model.gpus), default=0) or default.awake_bytes
    asleep = max((gpu.asleep_bytes or 0 for gpu in model.gpus), default=0) or min(default.asleep_bytes, awake // 2)
    from_level = {model.level: model.eta_s} if model.level in (1, 2) else {}
    last_s = model.last_wake.seconds if model.last_wake is not None and model.last_wake.ok else None
    return replace(
        default,
        awake_bytes=awake,
        asleep_bytes=min(asleep, awake - 1),
        backup_bytes=model.host_ram_bytes or default.backup_bytes,
        wake1_s=from_level.get(1) or (last_s if 2 not in from_level else None) or default.wake1_s,
        wake2_s=from_level.get(2) or default.wake2_s,
        gpus=len(model.gpus) or default.gpus,
    )


def _declared(gpu: _Held, default: Costs) -> Bytes:
    """What the model will hold awake by what a wake of it takes; 0 where neither was learned nor declared."""
    asleep = default.asleep_bytes if gpu.asleep_bytes is None else gpu.asleep_bytes
    return gpu.need_bytes + asleep if gpu.need_bytes else 0
