"""Hosts to play on: GPUs, RAM, watts, and what each model takes in bytes and seconds. Declared, in TOML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from sleepd.config.errors import ConfigError, KeyPath, Place, show
from sleepd.config.load import Layer, parse_layer, read_layer
from sleepd.config.schema import Section
from sleepd.config.validate import Findings, keys_of, refuse_unknown, validate
from sleepd.config.values import read_duration, read_size
from sleepd.core.units import Bytes, Seconds

DEFAULT_HOST = "default_host.toml"
GPUS_LIMIT = 64

_Size = Annotated[int, BeforeValidator(read_size)]
_Lasts = Annotated[float, BeforeValidator(read_duration(0.001, 3600.0))]
_Watts = Annotated[float, Field(ge=0, le=10_000)]
_Rate = Annotated[float, Field(gt=0, le=1_000_000)]


class _HostKeys(Section):
    ram: _Size = 2 << 40
    used: _Size = 16 << 30


class _PowerKeys(Section):
    asleep: _Watts = 70.0
    awake: _Watts = 110.0
    busy: _Watts = 450.0


class _GpuKeys(Section):
    memory: _Size
    uuid: str = ""


class _ModelKeys(Section):
    awake: _Size | None = None
    asleep: _Size | None = None
    backup: _Size | None = None
    sleep1: _Lasts | None = None
    sleep2: _Lasts | None = None
    wake1: _Lasts | None = None
    wake2: _Lasts | None = None
    gpus: Annotated[int, Field(ge=1, le=GPUS_LIMIT)] | None = None
    prompt_tokens_per_s: _Rate | None = None
    output_tokens_per_s: _Rate | None = None
    slowdown: Annotated[float, Field(ge=0, le=10)] | None = None
    slots: Annotated[int, Field(ge=1, le=10_000)] | None = None


_SECTIONS = ("host", "power", "gpus", "model_defaults", "models")


@dataclass(frozen=True, slots=True)
class Costs:
    """What one model takes. `awake_bytes` and `asleep_bytes` are of each of its GPUs, `backup_bytes` of host RAM. A
    request takes its prompt's tokens and its output's, each at its rate, and longer by `slowdown` for each other one
    that runs when it begins."""

    awake_bytes: Bytes
    asleep_bytes: Bytes
    backup_bytes: Bytes
    sleep1_s: Seconds
    sleep2_s: Seconds
    wake1_s: Seconds
    wake2_s: Seconds
    gpus: int
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    slowdown: float
    slots: int

    def sleep_s(self, level: int) -> Seconds:
        return self.sleep2_s if level == 2 else self.sleep1_s

    def wake_s(self, level: int) -> Seconds:
        return self.wake2_s if level == 2 else self.wake1_s

    def request_s(self, prompt_tokens: int, output_tokens: int, beside: int) -> Seconds:
        """Seconds that a request takes which begins while `beside` others run."""
        alone_s = prompt_tokens / self.prompt_tokens_per_s + output_tokens / self.output_tokens_per_s
        return alone_s * (1.0 + self.slowdown * beside)


@dataclass(frozen=True, slots=True)
class Watts:
    """Of one GPU by what its models do: declared, never measured here."""

    asleep: float
    awake: float
    busy: float


@dataclass(frozen=True, slots=True)
class HostGpu:
    uuid: str
    index: int
    total_bytes: Bytes


@dataclass(frozen=True, slots=True)
class Host:
    """`costs_of` names the models that differ from `default`; `places_of` those whose GPUs (uuids) are known."""

    gpus: tuple[HostGpu, ...]
    ram_bytes: Bytes
    used_bytes: Bytes
    watts: Watts
    default: Costs
    costs_of: Mapping[str, Costs]
    places_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def costs(self, model: str) -> Costs:
        return self.costs_of.get(model, self.default)


def bundled_host() -> Host:
    """Return the host to play on where nobody describes one. Reads a file of the package."""
    layer = _bundled()
    return _compile(layer, layer)


def described_host(path: Path) -> Host:
    """Return the host that a TOML file describes. What it leaves out is as bundled, but for the GPUs: they are all of
    them or none. Raises ConfigError with all that is wrong. Reads the file."""
    return _compile(_bundled(), read_layer(path))


def _bundled() -> Layer:
    return parse_layer(DEFAULT_HOST, (files(__package__) / DEFAULT_HOST).read_text("utf-8"))


def _compile(bundled: Layer, layer: Layer) -> Host:
    places: dict[KeyPath, Place] = {path: layer.place(path) for path in (*layer.lines, *layer.inline)}
    findings = Findings(places, layer.source)
    for key in layer.values.keys() - set(_SECTIONS):
        refuse_unknown(key, _SECTIONS, (), findings)
    given = layer.values
    host = validate(_HostKeys, given.get("host", {}), ("host",), findings) or _HostKeys()
    power = validate(_PowerKeys, given.get("power", {}), ("power",), findings) or _PowerKeys()
    gpus = _compile_gpus(given.get("gpus", bundled.values["gpus"]), findings)
    default = _ModelKeys.model_validate(bundled.values["model_defaults"])
    default = _over(default, given.get("model_defaults", {}), ("model_defaults",), findings)
    tables = given.get("models", {})
    if not isinstance(tables, dict):
        findings.refuse(("models",), "wanted tables [models.NAME]")
        tables = {}
    models = {name: _over(default, table, ("models", name), findings) for name, table in tables.items()}
    if host.used >= host.ram:
        findings.refuse(("host", "used"), "wanted less than ram")
    if not power.asleep <= power.awake <= power.busy:
        findings.refuse(("power",), "wanted asleep, awake and busy in rising order: what a GPU draws with more to do")
    for path, keys in ((("model_defaults",), default), *((("models", n), k) for n, k in models.items())):
        _check(path, keys, len(gpus), findings)
    if findings.problems:
        raise ConfigError(findings.problems)
    return Host(
        gpus,
        host.ram,
        host.used,
        Watts(power.asleep, power.awake, power.busy),
        _costs(default),
        {name: _costs(keys) for name, keys in models.items()},
    )


def _compile_gpus(tables: Any, findings: Findings) -> tuple[HostGpu, ...]:
    if not isinstance(tables, list) or not 1 <= len(tables) <= GPUS_LIMIT:
        findings.refuse(("gpus",), f"wanted 1 to {GPUS_LIMIT} tables [[gpus]] with memory")
        return ()
    gpus = []
    for index, table in enumerate(tables):
        keys = validate(_GpuKeys, table, ("gpus", index), findings)
        if keys is not None:
            gpus.append(HostGpu(keys.uuid or f"GPU-{index}", index, keys.memory))
    uuids = [gpu.uuid for gpu in gpus]
    for gpu in gpus:
        if gpu.uuid in uuids[: gpu.index]:
            findings.refuse(("gpus", gpu.index, "uuid"), f"wanted another for each GPU, found {show(gpu.uuid)} again")
    return tuple(gpus)


def _over(default: _ModelKeys, table: Any, path: KeyPath, findings: Findings) -> _ModelKeys:
    own = validate(_ModelKeys, table, path, findings) or _ModelKeys()
    return default.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})


def _check(path: KeyPath, keys: _ModelKeys, gpus: int, findings: Findings) -> None:
    assert keys.awake is not None
    assert keys.asleep is not None
    assert keys.gpus is not None
    if keys.asleep >= keys.awake:
        findings.refuse((*path, "asleep"), "wanted less than awake: a sleep must give something back")
    if keys.gpus > gpus > 0:
        findings.refuse((*path, "gpus"), f"wanted at most the {gpus} that [[gpus]] describes, found {keys.gpus}")


def _costs(keys: _ModelKeys) -> Costs:
    """Every key is set by now: those of the bundled host are below all others."""
    found = {name: getattr(keys, name) for name in keys_of(_ModelKeys)}
    return Costs(
        awake_bytes=found["awake"],
        asleep_bytes=found["asleep"],
        backup_bytes=found["backup"],
        sleep1_s=found["sleep1"],
        sleep2_s=found["sleep2"],
        wake1_s=found["wake1"],
        wake2_s=found["wake2"],
        gpus=found["gpus"],
        prompt_tokens_per_s=found["prompt_tokens_per_s"],
        output_tokens_per_s=found["output_tokens_per_s"],
        slowdown=found["slowdown"],
        slots=found["slots"],
    )
