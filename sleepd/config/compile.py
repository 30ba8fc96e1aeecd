"""From the merged tree to what the core and the composition root need; everything that spans keys is checked here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sleepd.config.errors import ConfigError, KeyPath, Place, Problem, show
from sleepd.config.rules import compile_rules
from sleepd.config.schema import (
    MODEL_NAME,
    ApiKeys,
    DaemonKeys,
    GpuKeys,
    HostKeys,
    ModelKeys,
    RecoveryKeys,
    Tree,
)
from sleepd.config.settings import Config, ServiceSettings
from sleepd.config.urls import ServerUrl, UrlError, parse_url
from sleepd.config.validate import Findings, S, keys_of, refuse_unknown, validate
from sleepd.core.model import ModelSpec, Settings

MODELS_LIMIT = 1024


def compile_config(
    tree: Mapping[str, Any],
    places: Mapping[KeyPath, Place],
    problems: list[Problem],
    *,
    config_dir: Path,
    files: tuple[Path, ...],
) -> Config:
    """Return the settings of a merged tree. Raises ConfigError with `problems` and everything wrong beside them."""
    findings = Findings(places, str(config_dir), list(problems))
    for key in tree.keys() - Tree.model_fields.keys():
        refuse_unknown(key, keys_of(Tree), (), findings)
    daemon = _section(DaemonKeys, "daemon", tree, findings)
    api = _section(ApiKeys, "api", tree, findings)
    gpu = _section(GpuKeys, "gpu", tree, findings)
    host = _section(HostKeys, "host", tree, findings)
    recovery = _section(RecoveryKeys, "recovery", tree, findings)
    models, known = _compile_models(tree, findings)
    rules = compile_rules(tree.get("rules", []), models, known, findings)
    if findings.problems:
        raise ConfigError(findings.problems)
    if not models:
        findings.warn((), "no model is configured: nothing is managed; add a [models.NAME] with its url")
    settings = Settings(
        models=models,
        rules=rules,
        poll_every_s=daemon.poll_every,
        gpu_margin_bytes=gpu.margin,
        host_reserve_bytes=host.reserve,
        retries=recovery.retries,
        stuck_after_s=None if recovery.stuck_after == "auto" else recovery.stuck_after,
        foreign_hold_down_s=recovery.foreign_hold_down,
    )
    service = ServiceSettings(
        state_dir=Path(daemon.state_dir),
        socket_path=Path(api.socket),
        socket_mode=api.mode,
        roles={name: tuple(entries) for name, entries in api.roles},
        proc_root=Path(host.proc_root),
        cgroup_root=Path(host.cgroup_root),
    )
    return Config(settings, service, tuple(sorted(findings.warnings)), files)


def _section(schema: type[S], name: str, tree: Mapping[str, Any], findings: Findings) -> S:
    """Return the section, or its defaults where it is wrong: the findings already say so."""
    return validate(schema, tree.get(name, {}), (name,), findings) or schema()


def _compile_models(tree: Mapping[str, Any], findings: Findings) -> tuple[dict[str, ModelSpec], frozenset[str]]:
    """Return the models that hold, and every name that was written (so that rules are checked against all)."""
    defaults = _section(ModelKeys, "model_defaults", tree, findings)
    written = tree.get("models", {})
    if not isinstance(written, dict):
        findings.refuse(("models",), f"wanted tables [models.NAME], found {show(written)}")
        return {}, frozenset()
    if len(written) > MODELS_LIMIT:
        findings.refuse(("models",), f"wanted at most {MODELS_LIMIT} models, found {len(written)}")
        return {}, frozenset()
    models: dict[str, ModelSpec] = {}
    by_identity: dict[str, str] = {}
    for name, value in written.items():
        path = ("models", name)
        if not MODEL_NAME.fullmatch(name):
            wanted = "wanted a model name of a-z, 0-9, '.', '_', '-', beginning with a letter or digit, at most 63"
            findings.refuse(path, f"{wanted}, found {show(name)}")
            continue
        own = validate(ModelKeys, value, path, findings)
        if own is None:
            continue
        keys = _Keys(name, own, defaults, findings)
        url = _read_url(keys)
        _check_placement(keys)
        if url is None:
            continue
        twin = by_identity.setdefault(url.identity, name)
        if twin != name:
            twin_place = findings.place(("models", twin, "url"))
            keys.refuse(
                "url", f"{show(url.text)} is also the url of model {twin} ({twin_place}); one server is one model"
            )
            continue
        models[name] = _compile_model(keys, url)
    return models, frozenset(written)


class _Keys:
    """One model's keys over the defaults, and the place each came from."""

    def __init__(self, name: str, own: ModelKeys, defaults: ModelKeys, findings: Findings) -> None:
        self.name = name
        self._own = own
        self._findings = findings
        written = {**defaults.model_dump(exclude_none=True), **own.model_dump(exclude_none=True)}
        written["labels"] = {**(defaults.labels or {}), **(own.labels or {})}
        self.keys = ModelKeys.model_construct(**written)

    def refuse(self, key: str, message: str) -> None:
        inherited = getattr(self._own, key) is None and getattr(self.keys, key) is not None
        path = ("model_defaults", key) if inherited else ("models", self.name, key)
        suffix = f" (for model {self.name})" if inherited else ""
        self._findings.refuse(path, message + suffix)


def _read_url(keys: _Keys) -> ServerUrl | None:
    if keys.keys.url is None:
        keys.refuse("url", 'is missing: wanted the server\'s address such as "http://127.0.0.1:8001"')
        return None
    try:
        url = parse_url(keys.keys.url)
    except UrlError as error:
        keys.refuse("url", str(error))
        return None
    if not url.local and not keys.keys.allow_exposed:
        keys.refuse(
            "url",
            f"wanted a loopback address or a unix socket, found {show(url.text)}: vLLM's control routes have no "
            "access control, so whoever reaches that address can put the model to sleep; listen on 127.0.0.1, "
            "or set allow_exposed = true",
        )
        return None
    return url


def _check_placement(keys: _Keys) -> None:
    found = keys.keys
    if found.unit and found.cgroup:
        keys.refuse("cgroup", "wanted unit or cgroup, found both; keep the unit")
    if not found.unit and not found.cgroup and found.gpus in (None, "auto"):
        keys.refuse("gpus", 'is needed where there is neither unit nor cgroup to find its processes: gpus = ["0"]')


def _compile_model(keys: _Keys, url: ServerUrl) -> ModelSpec:
    found = keys.keys
    fallback = ModelSpec(keys.name, url.text)
    return ModelSpec(
        name=keys.name,
        url=url.text,
        unit=found.unit or "",
        cgroup=found.cgroup or "",
        gpus=() if found.gpus in (None, "auto") else tuple(found.gpus),
        vram_bytes=None if found.vram in (None, "auto") else int(found.vram),
        host_ram_bytes=None if found.host_ram in (None, "auto") else int(found.host_ram),
        max_level=fallback.max_level if found.max_level is None else found.max_level,
        priority=found.priority or 0,
        min_awake_s=fallback.min_awake_s if found.min_awake is None else found.min_awake,
        pinned=bool(found.pinned),
        fenced=bool(found.fenced),
        labels=dict(found.labels or {}),
    )
