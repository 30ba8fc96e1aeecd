"""[models.X] over [model_defaults] to what the core manages; everything that spans several models is checked here."""

from collections.abc import Mapping
from typing import Any

from sleepd.config.errors import KeyPath, show
from sleepd.config.schema import ModelKeys
from sleepd.config.secrets import SecretError, check_ca, read_key
from sleepd.config.urls import ServerUrl, UrlError, parse_url
from sleepd.config.validate import Findings, validate
from sleepd.config.values import MODEL_NAME
from sleepd.core.model import Mode, ModelSpec, Verify

MODELS_LIMIT = 1024


class Written:
    """One model's keys over the defaults, and the place each came from."""

    def __init__(self, name: str, own: ModelKeys, defaults: ModelKeys, findings: Findings) -> None:
        self.name, self._own, self._defaults, self._findings = name, own, defaults, findings
        found = {key: getattr(keys, key) for keys in (defaults, own) for key in keys.model_fields_set}
        found["labels"] = {**defaults.labels, **own.labels}
        found["rules"] = _join_overrides(defaults.rules, own.rules)
        self.keys = ModelKeys().model_copy(update=found)

    def path(self, *key: str) -> tuple[str, ...]:
        """Where the key was written for this model: in its own table, or in the defaults."""
        inherited = key[0] not in self._own.model_fields_set and key[0] in self._defaults.model_fields_set
        return ("model_defaults", *key) if inherited else ("models", self.name, *key)

    def is_refused(self, *keys: str) -> bool:
        """Whether one of these keys was written and is wrong, which was said already."""
        tables: tuple[KeyPath, ...] = (("models", self.name), ("model_defaults",))
        return any((*table, key) in self._findings.refused for table in tables for key in keys)

    def refuse(self, key: str, message: str) -> None:
        self._findings.refuse(self.path(key), message + self._whose(key))

    def warn(self, key: str, message: str) -> None:
        self._findings.warn(self.path(key), message + self._whose(key))

    def _whose(self, key: str) -> str:
        return f" (for model {self.name})" if self.path(key)[0] == "model_defaults" else ""


def _join_overrides(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(defaults)
    for rule, change in own.items():
        inherited = joined.get(rule)
        joined[rule] = {**inherited, **change} if isinstance(inherited, dict) and isinstance(change, dict) else change
    return joined


def read_models(tree: Mapping[str, Any], defaults: ModelKeys, findings: Findings) -> dict[str, Written | None]:
    """Return every model that was written, None where its keys do not hold."""
    written = tree.get("models", {})
    if not isinstance(written, dict):
        findings.refuse(("models",), f"wanted tables [models.NAME], found {show(written)}")
        return {}
    if len(written) > MODELS_LIMIT:
        findings.refuse(("models",), f"wanted at most {MODELS_LIMIT} models, found {len(written)}")
        return {}
    found: dict[str, Written | None] = {}
    for name, value in written.items():
        path = ("models", name)
        if not isinstance(value, dict):
            findings.refuse(path, f"wanted tables [models.NAME], found {show(value)}")
            continue
        if not MODEL_NAME.fullmatch(name):
            wanted = "wanted a model name of a-z, 0-9, '.', '_', '-', beginning with a letter or digit, at most 63"
            findings.refuse(path, f"{wanted}, found {show(name)}")
            continue
        own = validate(ModelKeys, value, path, findings)
        meant = own is not None and (own.model_fields_set or not value)  # not a mistake from end to end
        found[name] = Written(name, own, defaults, findings) if own is not None and meant else None
    return found


def compile_models(
    written: Mapping[str, Written | None],
    findings: Findings,
    *,
    max_wait_s: float,
    mode: str,
    capacity: Mapping[str, int] | None,
) -> dict[str, ModelSpec]:
    """Return the models that hold. `max_wait_s` and `mode` stand where a model sets none; `capacity` names the GPUs
    that are declared, None where they are seen."""
    models: dict[str, ModelSpec] = {}
    by_identity: dict[str, str] = {}
    for name, model in written.items():
        if model is None:
            continue
        url = _read_url(model)
        _check_placement(model, capacity)
        _check_files(model, url)
        if url is None:
            continue
        twin = by_identity.setdefault(url.identity, name)
        if twin != name:
            first = written[twin]
            place = findings.place(first.path("url")) if first else ""
            model.refuse("url", f"{show(url.text)} is also the url of model {twin} ({place}); one server is one model")
            continue
        models[name] = _compile_model(model, url, max_wait_s, mode)
    _check_served_names(written)
    return models


def _read_url(model: Written) -> ServerUrl | None:
    if not model.keys.url:
        if model.is_refused("url"):
            return None
        model.refuse("url", 'is missing: wanted the server\'s address such as "http://127.0.0.1:8001"')
        return None
    try:
        url = parse_url(model.keys.url)
    except UrlError as error:
        model.refuse("url", str(error))
        return None
    if not url.local and not model.keys.allow_exposed:
        model.refuse(
            "url",
            f"wanted a loopback address or a unix socket, found {show(url.text)}: vLLM's control routes have no "
            "access control, so whoever reaches that address can put the model to sleep; listen on 127.0.0.1, "
            "or set allow_exposed = true",
        )
        return None
    return url


def _check_placement(model: Written, capacity: Mapping[str, int] | None) -> None:
    found = model.keys
    if model.is_refused("unit", "cgroup", "gpus"):
        return
    if found.unit and found.cgroup:
        model.refuse("cgroup", "wanted unit or cgroup, found both; keep the unit")
    if not found.unit and not found.cgroup and found.gpus == "auto":
        model.refuse("gpus", 'is needed where there is neither unit nor cgroup to find its processes: gpus = ["0"]')
    elif capacity is not None and found.gpus == "auto":
        model.refuse("gpus", 'is needed with [gpu] backend = "none": nobody sees where its processes hold memory')
    elif capacity is not None:
        if found.vram == "auto" and not model.is_refused("vram"):
            model.refuse("vram", 'is needed with [gpu] backend = "none": nobody measures what its wake takes')
        for gpu in found.gpus:
            if gpu not in capacity:
                model.refuse("gpus", f"wanted GPUs that [gpu] capacity declares ({', '.join(capacity)}), found {gpu}")
    if found.may_stop and not found.unit:
        model.warn("may_stop", "has no effect without a unit: there is nothing that could be stopped and started")


def _check_files(model: Written, url: ServerUrl | None) -> None:
    found = model.keys
    checks = (("api_key_file", found.api_key_file, read_key), ("ca_file", found.ca_file, check_ca))
    for key, path, check in checks:
        try:
            if path:
                check(path)
        except SecretError as error:
            model.refuse(key, str(error))
    tls = url is not None and url.text.startswith("https:")
    if url is not None and found.ca_file and not tls:
        model.warn("ca_file", f"has no effect: {show(url.text)} is not https")
    if url is not None and found.api_key_file and not url.local and not tls:
        model.warn("api_key_file", f"the key goes over the network in clear text to {show(url.text)}; use https")


def _check_served_names(written: Mapping[str, Written | None]) -> None:
    """One name is one model, whoever configures it."""
    owners = dict.fromkeys(written, "is its name")
    owner_of = {name: name for name in written}
    for name, model in written.items():
        if model is None:
            continue
        for served in model.keys.served_names:
            owner = owner_of.get(served)
            if owner == name and owners[served]:
                model.refuse("served_names", f"wanted each name once, found {show(served)}, which {owners[served]}")
            elif owner is not None:
                model.refuse("served_names", f"wanted a name of one model, found {show(served)}: it belongs to {owner}")
            owner_of.setdefault(served, name)
            owners.setdefault(served, "stands here twice")


def _compile_model(model: Written, url: ServerUrl, max_wait_s: float, mode: str) -> ModelSpec:
    found = model.keys
    return ModelSpec(
        name=model.name,
        url=url.text,
        api_key_file=found.api_key_file,
        ca_file=found.ca_file,
        allow_exposed=found.allow_exposed,
        unit=found.unit,
        cgroup=found.cgroup,
        fenced=found.fenced,
        wake_direct=found.wake_direct,
        served_names=tuple(found.served_names),
        gpus=() if found.gpus == "auto" else tuple(found.gpus),
        vram_bytes=None if found.vram == "auto" else int(found.vram),
        host_ram_bytes=None if found.host_ram == "auto" else int(found.host_ram),
        max_level=found.max_level,
        may_stop=found.may_stop,
        priority=found.priority,
        min_awake_s=found.min_awake,
        max_wait_s=max_wait_s if found.max_wait is None else found.max_wait,
        pinned=found.pinned,
        prime=found.prime,
        verify=Verify(found.verify),
        mode=Mode(found.mode or mode),
        labels=dict(found.labels),
    )
