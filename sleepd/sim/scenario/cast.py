"""Who plays: the host, its models, their rules. Drawn as plain numbers, so that a file can hold them."""

from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar

from pydantic import ConfigDict

from sleepd.core.model import Group, ModelSpec, Settings
from sleepd.core.rules import SLEEP_1, SLEEP_2, HostAvailableBelow, IdleFor, Rule, Threshold
from sleepd.core.units import GIB, Seconds
from sleepd.sim.host import SimCgroup, SimGpu, SimHost
from sleepd.sim.scenario.foreseen import Foreseen, draw_foreseen, rules_by_forecast
from sleepd.sim.scenario.rulebook import RULEBOOK, draw_rules
from sleepd.sim.vllm_types import EngineSpec, Timing

VERSIONS = ("0.10.2", "0.16.0", "0.22.1", "0.26.0", "0.28.0", "0.31.0", "0.32.0", "0.33.0")
FENCED_ONLY = ("0.10.2", "0.16.0")
"""Releases that die of a request while asleep: nobody puts them to sleep unless they are fenced."""


@dataclass(frozen=True, slots=True)
class CastModel:
    """One model: its server as it is, and what the configuration says of it. A new field needs a default, which is
    what the scripts in files mean that were recorded before it."""

    name: str
    version: str
    gpus: tuple[int, ...]
    weights_gib: int
    kv_gib: int
    first_sleep_factor: float = 1.0
    gpus_configured: bool = True
    max_level: int = 1
    min_awake_s: Seconds = 0.0
    priority: int = 0
    fenced: bool = False
    pinned_factor: float = 1.0
    residual_growth_mib: int = 0
    in_unit: bool = False
    unit_limit_gib: int | None = None
    prime: bool = False
    controlled: bool = False
    """Its unit is configured: sleepd may start, stop and restart it."""
    may_stop: bool = False
    kills_all: bool = True
    """Its unit starts again by itself, and leaves nothing behind; else what outlives its server stays."""
    load_s: Seconds = 2.0
    max_wait_s: Seconds = 120.0
    adapters: bool = False
    """LoRA adapters come and go as its server runs."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Cast:
    """The host and its models. New fields need defaults, as in CastModel."""

    gpus: int
    ram_gib: int
    models: tuple[CastModel, ...]
    nap_idle_s: Seconds = 60.0
    poll_every_s: Seconds = 2.0
    retries: int = field(default=2)
    slice_limit_gib: int | None = None
    """The limit of the slice that all units lie in."""
    tells_processes: bool = True
    """Whether NVML says who holds how much."""
    rules: tuple[str, ...] = ()
    """Rules of the rulebook, beside those that every host has."""
    group: tuple[str, ...] = ()
    """Models of which only `group_awake` are to be awake at once."""
    group_awake: int = 1
    drain_s: Seconds = 300.0
    """How long a model whose turn is over may finish its requests."""
    foreseen: Foreseen | None = None
    """The rules that go by forecasts, and what these are made of; None: a timeout puts models to sleep."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def draw_cast(random: Random) -> Cast:
    """One to four GPUs with two to five models on them that do not all fit, many of them on several."""
    gpus, tells = random.choice((1, 2, 2, 3, 4)), random.random() < 0.9
    names = [f"m{i}" for i in range(random.randint(2, 5))]
    group = random.sample(names, random.randint(2, len(names))) if random.random() < 0.25 else []
    return Cast(
        gpus,
        ram_gib=random.choice((128, 512)),
        models=tuple(_draw_model(random, name, gpus, tells=tells) for name in names),
        nap_idle_s=random.choice((20.0, 60.0, 180.0)),
        poll_every_s=random.choice((2.0, 4.0, 6.0)),
        slice_limit_gib=random.choice((None, None, 48, 96)),
        tells_processes=tells,
        rules=draw_rules(random),
        group=tuple(sorted(group)),
        group_awake=random.randint(1, len(group) - 1) if group else 1,
    )


def with_units(random: Random, cast: Cast) -> Cast:
    """The cast with units under control, for a part of all casts: drawn apart, so that the rest stays as it was."""
    if random.random() < 0.6:
        return cast
    models = tuple(
        replace(
            model,
            controlled=random.random() < 0.8,
            may_stop=random.random() < 0.6,
            kills_all=random.random() < 0.7,
            load_s=random.choice((1.0, 5.0, 20.0)),
        )
        for model in cast.models
    )
    rules = (*cast.rules, "retire") if random.random() < 0.4 else cast.rules
    return replace(cast, models=models, rules=rules)


def with_adapters(random: Random, cast: Cast) -> Cast:
    """The cast with servers that load adapters as they run, for a part of all casts: drawn apart, as above."""
    if random.random() < 0.7:
        return cast
    return replace(cast, models=tuple(replace(model, adapters=random.random() < 0.6) for model in cast.models))


def with_forecasts(random: Random, cast: Cast) -> Cast:
    """The cast with rules that go by forecasts, for a part of all casts: drawn apart as well."""
    if random.random() < 0.75:
        return cast
    return replace(cast, foreseen=draw_foreseen(random, (model.name for model in cast.models)))


def unit_name(model: CastModel) -> str:
    return f"{model.name}.service"


def _draw_model(random: Random, name: str, gpus: int, *, tells: bool) -> CastModel:
    version = random.choice(VERSIONS)
    wide = random.choice([n for n in (2, 2, 3, 4) if n <= gpus]) if gpus > 1 and random.random() < 0.4 else 1
    return CastModel(
        name,
        version,
        gpus=tuple(sorted(random.sample(range(gpus), wide))),
        weights_gib=random.choice((8, 16, 24)),
        kv_gib=random.choice((10, 20, 40)),
        first_sleep_factor=random.choice((1.0, 10.0)),
        gpus_configured=random.random() < 0.5 or not tells,
        max_level=random.choice((1, 1, 2)),
        min_awake_s=random.choice((0.0, 10.0, 60.0)),
        priority=random.choice((0, 0, 5)),
        fenced=version in FENCED_ONLY or random.random() < 0.3,
        pinned_factor=random.choice((1.0, 1.0, 1.4, 2.0)),
        residual_growth_mib=random.choice((0, 0, 0, 300)),
        in_unit=random.random() < 0.6,
        unit_limit_gib=random.choice((None, None, 20, 64)),
        prime=random.random() < 0.2,
    )


def host_of(cast: Cast) -> SimHost:
    gpus = [SimGpu(f"GPU-{i}", i, 80 * GIB) for i in range(cast.gpus)]
    return SimHost(gpus, ram_bytes=cast.ram_gib * GIB, tells_processes=cast.tells_processes)


def slice_of(cast: Cast) -> SimCgroup:
    limit = None if cast.slice_limit_gib is None else cast.slice_limit_gib * GIB
    return SimCgroup("system.slice", limit, base_bytes=GIB)


def unit_of(model: CastModel, parent: SimCgroup) -> SimCgroup | None:
    """The cgroup a supervisor starts this model's server in, each time the same; None: in none that is read."""
    if not model.in_unit:
        return None
    limit = None if model.unit_limit_gib is None else model.unit_limit_gib * GIB
    return SimCgroup(f"system.slice/{model.name}.service", limit, parent, base_bytes=3 * GIB, file_bytes=GIB)


def engine_of(model: CastModel) -> EngineSpec:
    """The server a supervisor starts for this model, each time the same."""
    return EngineSpec(
        version=model.version,
        name=model.name,
        weights_bytes=model.weights_gib * GIB,
        kv_bytes=model.kv_gib * GIB,
        residual_bytes=GIB,
        residual_growth_bytes=model.residual_growth_mib << 20,
        pinned_factor=model.pinned_factor,
        timing=Timing(first_sleep_factor=model.first_sleep_factor),
        tensor_parallel_size=len(model.gpus),
        pace_s=0.02,
        adapters=("x",) if model.adapters else (),
        loads_adapters=model.adapters,
    )


def settings_of(cast: Cast) -> Settings:
    """What the configuration file of this host says."""
    specs = {
        model.name: ModelSpec(
            name=model.name,
            url=f"http://127.0.0.1:80{i:02}",
            gpus=tuple(str(g) for g in model.gpus) if model.gpus_configured else (),
            max_level=model.max_level,
            min_awake_s=model.min_awake_s,
            priority=model.priority,
            max_wait_s=model.max_wait_s,
            fenced=model.fenced,
            prime=model.prime,
            unit=unit_name(model) if model.controlled else "",
            may_stop=model.may_stop,
        )
        for i, model in enumerate(cast.models)
    }
    pressure = HostAvailableBelow(Threshold(share=0.2), Threshold(share=0.3))
    rules: tuple[Rule, ...] = (Rule("nap", frozenset(specs), (IdleFor(cast.nap_idle_s),), SLEEP_1),)
    if cast.foreseen is not None:
        rules = rules_by_forecast(cast.foreseen, cast.nap_idle_s, frozenset(specs))
    rules += (Rule("host-ram-pressure", frozenset(specs), (pressure,), SLEEP_2, for_s=15.0),)
    rules += tuple(replace(RULEBOOK[name], applies_to=frozenset(specs)) for name in cast.rules)
    groups = (Group("drawn", frozenset(cast.group), cast.group_awake),) if cast.group else ()
    return Settings(
        specs, rules, groups, poll_every_s=cast.poll_every_s, retries=cast.retries, turn_drain_s=cast.drain_s
    )
