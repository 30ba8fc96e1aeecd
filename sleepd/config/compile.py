"""From the merged tree to what the core and the composition root need; everything that spans keys is checked here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sleepd.config.compile_models import Written, compile_models, read_models
from sleepd.config.crowded import warn_of_crowds
from sleepd.config.effective import list_effective
from sleepd.config.errors import ConfigError, KeyPath, Place, Problem, did_you_mean, show
from sleepd.config.listen import Listen, ListenError, parse_listen
from sleepd.config.rules import compile_rules
from sleepd.config.schema import (
    ApiKeys,
    DaemonKeys,
    GatewayKeys,
    GpuKeys,
    GroupKeys,
    HistoryKeys,
    HostKeys,
    MetricsKeys,
    ModelKeys,
    RecoveryKeys,
    TracingKeys,
    UiKeys,
)
from sleepd.config.schema_rules import Tree
from sleepd.config.secrets import SecretError, read_api_keys
from sleepd.config.settings import Config, GatewaySettings, GpuSettings, ServiceSettings, UiSettings
from sleepd.config.validate import Findings, S, keys_of, refuse_unknown, validate
from sleepd.config.values import MODEL_NAME
from sleepd.config.webhooks import compile_webhooks
from sleepd.core.model import Group, Mode, OnStop, Settings

GROUPS_LIMIT = 256


def compile_config(
    tree: Mapping[str, Any],
    places: Mapping[KeyPath, Place],
    problems: list[Problem],
    *,
    config_dir: Path,
    files: tuple[Path, ...],
    filled: frozenset[Path],
) -> Config:
    """Return the settings of a merged tree. Raises ConfigError with `problems` and everything wrong beside them.

    Reads the files that hold keys and certificates.
    """
    findings = Findings(places, str(config_dir), list(problems))
    for key in tree.keys() - Tree.model_fields.keys():
        refuse_unknown(key, keys_of(Tree), (), findings)
    daemon = _section(DaemonKeys, "daemon", tree, findings)
    recovery = _section(RecoveryKeys, "recovery", tree, findings)
    gateway = _section(GatewayKeys, "gateway", tree, findings)
    gpu = _section(GpuKeys, "gpu", tree, findings)
    host = _section(HostKeys, "host", tree, findings)
    service = _compile_service(daemon, gateway, gpu, host, tree, findings)
    written = read_models(tree, _section(ModelKeys, "model_defaults", tree, findings), findings)
    declared = service.gpu.capacity_bytes if gpu.backend == "none" else None
    models = compile_models(written, findings, max_wait_s=gateway.max_wait, mode=daemon.mode, capacity=declared)
    groups = _compile_groups(tree, written, findings)
    rules = compile_rules(tree.get("rules", []), written, models, findings)
    service = replace(service, webhooks=compile_webhooks(tree, written, findings))
    if findings.problems:
        raise ConfigError(findings.problems)
    if not models:
        findings.warn((), "no model is configured: nothing is managed; add a [models.NAME] with its url")
    warn_of_crowds(models, groups, declared or {}, gpu.margin, findings)
    settings = Settings(
        models=models,
        rules=rules,
        groups=groups,
        poll_every_s=daemon.poll_every,
        mode=Mode(daemon.mode),
        on_stop=OnStop(daemon.on_stop),
        gpu_margin_bytes=gpu.margin,
        host_reserve_bytes=host.reserve,
        retries=recovery.retries,
        restart_units=recovery.restart_units,
        max_restarts=recovery.max_restarts,
        stuck_after_s=None if recovery.stuck_after == "auto" else recovery.stuck_after,
        late_drain_s=recovery.late_drain,
        foreign_hold_down_s=recovery.foreign_hold_down,
        turn_drain_s=gateway.drain,
    )
    effective = list_effective(tree, written, findings)
    return Config(settings, service, tuple(sorted(set(findings.warnings))), files, filled, effective)


def _section(schema: type[S], name: str, tree: Mapping[str, Any], findings: Findings) -> S:
    """Return the section, or its defaults where it is wrong: the findings already say so."""
    return validate(schema, tree.get(name, {}), (name,), findings) or schema()


def _compile_service(
    daemon: DaemonKeys,
    gateway: GatewayKeys,
    gpu: GpuKeys,
    host: HostKeys,
    tree: Mapping[str, Any],
    findings: Findings,
) -> ServiceSettings:
    api = _section(ApiKeys, "api", tree, findings)
    history = _section(HistoryKeys, "history", tree, findings)
    metrics = _section(MetricsKeys, "metrics", tree, findings)
    if gpu.backend == "none" and not gpu.capacity:
        told = 'is required for backend = "none": capacity = { "0" = "80GiB" }'
        findings.refuse(("gpu", "capacity"), told)
    if gpu.backend == "nvml" and gpu.capacity:
        findings.warn(("gpu", "capacity"), 'has no effect with backend = "nvml": the driver tells')
    served = _compile_gateway(gateway, findings)
    listening = {"metrics": _compile_metrics(metrics, findings), "gateway": served.listen}
    return ServiceSettings(
        state_dir=Path(daemon.state_dir),
        socket_path=Path(api.socket),
        socket_mode=api.mode,
        roles={name: tuple(entries) for name, entries in api.roles},
        proc_root=Path(host.proc_root),
        cgroup_root=Path(host.cgroup_root),
        gateway=served,
        gpu=GpuSettings(gpu.backend, dict(gpu.capacity)),
        metrics_listen=listening["metrics"],
        history_keep_s=history.keep,
        ui=_compile_ui(_section(UiKeys, "ui", tree, findings), listening, findings),
        tracing_endpoint=_check_endpoint(_section(TracingKeys, "tracing", tree, findings).endpoint, findings),
    )


def _compile_metrics(keys: MetricsKeys, findings: Findings) -> tuple[Listen, ...]:
    listen = _compile_listen(keys.listen, ("metrics", "listen"), findings)
    for index, address in enumerate(listen):
        if not address.is_local:
            told = f"whoever reaches {address.text} reads there which models run here and how they are used; let a"
            findings.warn(("metrics", "listen", index), f"{told} firewall decide who does")
    return listen


def _compile_ui(keys: UiKeys, listening: Mapping[str, tuple[Listen, ...]], findings: Findings) -> UiSettings:
    for index, origin in enumerate(keys.origins):
        if origin.startswith("http://"):
            told = "without https:// whoever is on the way between reads the session, and may act with it"
            findings.warn(("ui", "origins", index), told)
    if keys.enabled and not any(listening[section] for section in keys.on):
        where = " and ".join(f"[{section}] listen = []" for section in keys.on)
        told = f"shows nothing while {where}; a socket that the service manager passes to the gateway would do"
        findings.warn(("ui", "enabled"), told)
    return UiSettings(frozenset(keys.on) if keys.enabled else frozenset(), tuple(keys.origins), keys.session)


def _compile_gateway(keys: GatewayKeys, findings: Findings) -> GatewaySettings:
    listen = _compile_listen(keys.listen, ("gateway", "listen"), findings)
    if keys.api_keys_file:
        try:
            findings.problems += read_api_keys(keys.api_keys_file)[1]
        except SecretError as error:
            findings.refuse(("gateway", "api_keys_file"), str(error))
    else:
        for index, address in enumerate(listen):
            if not address.is_local:
                findings.refuse(
                    ("gateway", "listen", index),
                    f"wanted a loopback or unix address, found {show(address.text)}: without api_keys_file whoever "
                    "reaches it may use every model",
                )
    return GatewaySettings(
        listen=listen,
        socket_mode=keys.socket_mode,
        max_wait_s=keys.max_wait,
        queue_limit=keys.queue,
        drain_s=keys.drain,
        api_keys_file=keys.api_keys_file,
        cors_origins=tuple(keys.cors_origins),
        heartbeat_s=keys.heartbeat,
    )


def _compile_listen(written: list[str], path: KeyPath, findings: Findings) -> tuple[Listen, ...]:
    found: list[Listen] = []
    for index, text in enumerate(written):
        try:
            address = parse_listen(text)
        except ListenError as error:
            findings.refuse((*path, index), str(error))
            continue
        if address in found:
            findings.refuse((*path, index), f"wanted each address once, found {show(address.text)} twice")
        found.append(address)
    return tuple(found)


def _check_endpoint(endpoint: str, findings: Findings) -> str:
    try:
        parts = urlsplit(endpoint)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        fine = False
    if endpoint and not fine:
        findings.refuse(
            ("tracing", "endpoint"), f'wanted an address such as "http://127.0.0.1:4318", found {show(endpoint)}'
        )
    return endpoint


def _compile_groups(
    tree: Mapping[str, Any], models: Mapping[str, Written | None], findings: Findings
) -> tuple[Group, ...]:
    written = tree.get("groups", {})
    if not isinstance(written, dict) or len(written) > GROUPS_LIMIT:
        found = f"{len(written)}" if isinstance(written, dict) else show(written)
        findings.refuse(("groups",), f"wanted at most {GROUPS_LIMIT} tables [groups.NAME], found {found}")
        return ()
    groups = []
    for name, value in written.items():
        path = ("groups", name)
        if not MODEL_NAME.fullmatch(name):
            findings.refuse(path, f"wanted a group name of a-z, 0-9, '.', '_', '-', at most 63, found {show(name)}")
            continue
        keys = validate(GroupKeys, value, path, findings)
        listed = value.get("models") if isinstance(value, dict) else None
        members = listed if isinstance(listed, list) else []
        for index, model in enumerate(members):
            if model not in models and isinstance(model, str):
                guess = did_you_mean(model, models) or f"; models: {', '.join(sorted(models)) or 'none'}"
                findings.refuse((*path, "models", index), f"there is no model {show(model)}{guess}")
            if model in members[:index]:
                findings.refuse((*path, "models", index), f"wanted each model once, found {show(model)} twice")
        if keys is None:
            continue
        if keys.max_awake >= len(set(keys.models)):
            findings.warn((*path, "max_awake"), "limits nothing: the group has no more models than that")
        groups.append(Group(name, frozenset(keys.models), keys.max_awake))
    return tuple(groups)
