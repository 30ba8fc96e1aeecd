"""A host as the daemon on it tells it: what `sleepctl status --json` prints, with what was learned of each model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sleepd.config.errors import ConfigError, Place, Problem
from sleepd.core.frozen import replace
from sleepd.replay.hosts import Costs, Host, HostGpu, bundled_host, described_host

STATUS_LIMIT = 16 << 20


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
    try:
        status = json.loads(text)
        gpus = tuple(HostGpu(gpu["uuid"], gpu["index"], gpu["total_bytes"]) for gpu in status["gpus"])
        models: list[dict[str, Any]] = status["models"]
        total, available = status["host"]["total_bytes"], status["host"]["available_bytes"]
        backups = sum(model["host_ram_bytes"] or 0 for model in models)
        bundled = bundled_host()
        costs_of = {model["name"]: _costs(model, bundled.default) for model in models}
        placed = {model["name"]: tuple(gpu["uuid"] for gpu in model["gpus"]) for model in models}
    except (ValueError, KeyError, TypeError) as error:
        wanted = "wanted a description in TOML, or what sleepctl status --json prints, found other JSON"
        raise ConfigError([Problem(Place(str(path)), f"{wanted} ({type(error).__name__}: {error})")]) from None
    if not gpus:
        raise ConfigError([Problem(Place(str(path)), "wanted at least one GPU in the status, found none")])
    there = {gpu.uuid for gpu in gpus}
    places_of = {name: uuids for name, uuids in placed.items() if uuids and there.issuperset(uuids)}
    host = replace(bundled, gpus=gpus, costs_of=costs_of, places_of=places_of)
    if total is None or available is None:
        return host
    return replace(host, ram_bytes=total, used_bytes=max(0, total - available - backups))


def _costs(model: Mapping[str, Any], default: Costs) -> Costs:
    gpus = model["gpus"]
    awake = max((gpu["awake_bytes"] or 0 for gpu in gpus), default=0) or default.awake_bytes
    asleep = max((gpu["asleep_bytes"] or 0 for gpu in gpus), default=0) or min(default.asleep_bytes, awake // 2)
    last = model["last_wake"]
    from_level = {model["level"]: model["eta_s"]} if model["level"] in (1, 2) else {}
    lasted_s = last["seconds"] if last is not None and last["ok"] else None
    return replace(
        default,
        awake_bytes=awake,
        asleep_bytes=min(asleep, awake - 1),
        backup_bytes=model["host_ram_bytes"] or default.backup_bytes,
        wake1_s=from_level.get(1) or (lasted_s if 2 not in from_level else None) or default.wake1_s,
        wake2_s=from_level.get(2) or default.wake2_s,
        gpus=len(gpus) or default.gpus,
    )
