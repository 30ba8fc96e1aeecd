"""Sets the stage for a replay: the configuration with the trace's models in it, and a server for each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleepd.config.errors import ConfigError, Place, Problem
from sleepd.config.load import SHIPPED_DIR, Layer, load_config
from sleepd.config.settings import Config
from sleepd.core.frozen import replace
from sleepd.core.model import Mode, ModelSpec, Settings
from sleepd.core.units import Bytes, format_size
from sleepd.replay.hosts import Host
from sleepd.replay.servers import Server


@dataclass(frozen=True, slots=True)
class Stage:
    """`added` are models that only the trace knows; `remarks` what is played otherwise than it would be."""

    settings: Settings
    host: Host
    gpus_of: Mapping[str, tuple[str, ...]]
    queue_limit: int
    added: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def servers(self) -> dict[str, Server]:
        """A new server for every model, asleep at level 1 where its backup fits into host RAM, else at level 2."""
        left = self.host.ram_bytes - self.host.used_bytes - self.settings.host_reserve_bytes
        servers: dict[str, Server] = {}
        for pid, name in enumerate(self.settings.models, start=1000):
            costs = self.host.costs(name)
            level = 1 if costs.backup_bytes <= left else 2
            left -= costs.backup_bytes if level == 1 else 0
            servers[name] = Server(name, pid, costs, self.gpus_of[name], level)
        return servers


def set_stage(config_dir: Path, host: Host, models: Collection[str], *, shipped_dir: Path = SHIPPED_DIR) -> Stage:
    """Return the stage for a trace that asks for these models. Raises ConfigError. Reads the configuration."""
    config = load_config(config_dir, shipped_dir=shipped_dir)
    host = _with_declared(host, config.settings)
    added = tuple(sorted(set(models) - config.settings.models.keys()))
    gpus_of = _place(config, host, added, config_dir)
    if added:
        below = Layer("trace", {"models": {name: _keys_of(name, host, gpus_of[name]) for name in added}}, {})
        config = load_config(config_dir, shipped_dir=shipped_dir, below=(below,))
    settings = _playable(config.settings, gpus_of)
    remarks = _remarks(config.settings, host, added)
    stage = Stage(settings, host, gpus_of, config.service.gateway.queue_limit, added, remarks)
    _check_sizes(stage, models, config_dir)
    return stage


def _with_declared(host: Host, settings: Settings) -> Host:
    """The host with the bytes that the configuration declares of models of which it says nothing itself."""
    costs_of = dict(host.costs_of)
    for name, spec in settings.models.items():
        if name not in costs_of and (spec.vram_bytes or spec.host_ram_bytes):
            costs = host.default
            awake = costs.awake_bytes if spec.vram_bytes is None else costs.asleep_bytes + spec.vram_bytes
            backup = costs.backup_bytes if spec.host_ram_bytes is None else spec.host_ram_bytes
            costs_of[name] = replace(costs, awake_bytes=awake, backup_bytes=backup)
    return replace(host, costs_of=costs_of)


def _keys_of(name: str, host: Host, gpus: tuple[str, ...]) -> dict[str, Any]:
    """What is configured of a model that only the trace knows."""
    costs = host.costs(name)
    takes = costs.awake_bytes - costs.asleep_bytes
    return {"url": f"unix:/run/sleepd/simulated/{name}.sock", "gpus": list(gpus), "vram": f"{takes}B"}


def _playable(settings: Settings, gpus_of: Mapping[str, tuple[str, ...]]) -> Settings:
    """The settings as they are played: rules act, and there are no units, whose processes tell where a model is."""
    models = {
        name: replace(spec, mode=Mode.ENFORCE, unit="", cgroup="", gpus=gpus_of[name])
        for name, spec in settings.models.items()
    }
    return replace(settings, models=models, mode=Mode.ENFORCE)


def _remarks(settings: Settings, host: Host, added: tuple[str, ...]) -> tuple[str, ...]:
    remarks = []
    if plain := tuple(name for name in added if name not in host.costs_of):
        remarks.append(f"{len(plain)} not in the configuration, played with the host's default size: {_few(plain)}")
    if described := tuple(name for name in added if name in host.costs_of):
        remarks.append(f"{len(described)} not in the configuration, played as the host describes: {_few(described)}")
    if idle := tuple(sorted(host.costs_of.keys() - settings.models.keys())):
        remarks.append(f"{len(idle)} of the host are neither in the configuration nor in the trace: {_few(idle)}")
    if any(spec.mode is Mode.OBSERVE for spec in settings.models.values()):
        remarks.append('mode = "observe" is played as "enforce": what the rules would do')
    if any(rule.action.kind.value == "stop" for rule in settings.rules if rule.enabled):
        remarks.append("rules that stop units do nothing here: a simulated server has no unit")
    return tuple(remarks)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _place(config: Config, host: Host, added: tuple[str, ...], config_dir: Path) -> dict[str, tuple[str, ...]]:
    """The GPUs of every model: as configured, else those on which least is held when all are awake."""
    by_address = {address: gpu.uuid for gpu in host.gpus for address in (str(gpu.index), gpu.uuid)}
    load: dict[str, Bytes] = {gpu.uuid: 0 for gpu in host.gpus}
    placed: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    specs: list[tuple[str, ModelSpec | None]] = [(n, s) for n, s in config.settings.models.items()]
    # Those with a place of their own first: the others are put beside them.
    specs.sort(key=lambda named: not (named[1] and named[1].gpus))
    for name, spec in [*specs, *((name, None) for name in added)]:
        costs = host.costs(name)
        unknown = [address for address in spec.gpus if address not in by_address] if spec is not None else []
        if unknown:
            there = ", ".join(str(gpu.index) for gpu in host.gpus)
            found = f"gpus of model {name}: wanted GPUs of the host that is played ({there}), found {unknown[0]}"
            problems.append(Problem(Place(str(config_dir)), f"{found}; describe yours with --host FILE"))
            continue
        if spec is not None and spec.gpus:
            uuids = tuple(dict.fromkeys(by_address[address] for address in spec.gpus))
        elif name in host.places_of:
            uuids = host.places_of[name]
        else:
            uuids = tuple(sorted(load, key=lambda uuid: (load[uuid], uuid))[: costs.gpus])
        for uuid in uuids:
            load[uuid] += costs.awake_bytes
        placed[name] = uuids
    if problems:
        raise ConfigError(problems)
    return placed


def _check_sizes(stage: Stage, asked: Collection[str], config_dir: Path) -> None:
    """Refuse a host on which the models cannot all be asleep at once, or one that is asked for never awake. Raises
    ConfigError."""
    problems = []
    for gpu in stage.host.gpus:
        there = [name for name, uuids in stage.gpus_of.items() if gpu.uuid in uuids]
        asleep = sum(stage.host.costs(name).asleep_bytes for name in there)
        if asleep > gpu.total_bytes:
            found = f"the {len(there)} models on GPU {gpu.index} hold {format_size(asleep)} asleep"
            problems.append(f"{found}, which is more than its {format_size(gpu.total_bytes)}")
            continue
        left = gpu.total_bytes - stage.settings.gpu_margin_bytes - asleep
        for name in sorted(set(there) & set(asked)):
            costs = stage.host.costs(name)
            if costs.awake_bytes - costs.asleep_bytes > left:
                room = f"GPU {gpu.index} has room for {format_size(max(0, left + costs.asleep_bytes))}"
                found = f"{room} of model {name} while all others sleep, and awake it holds"
                told = f"{found} {format_size(costs.awake_bytes)}; describe yours with --host FILE"
                problems.append(told)
    for server in stage.servers().values():
        if server.level == 2 and stage.settings.models[server.name].max_level < 2:
            need = sum(stage.host.costs(name).backup_bytes for name in stage.gpus_of)
            found = f"the backups of all {len(stage.gpus_of)} models take {format_size(need)}"
            has = f"more than {format_size(stage.host.ram_bytes)} of host RAM can hold above [host] reserve"
            problems.append(f"{found}, {has}; declare more [host] ram, or set max_level = 2")
            break
    if problems:
        raise ConfigError(Problem(Place(str(config_dir)), problem) for problem in problems)
