"""[webhooks.NAME]: which events are sent where, and what can be checked of it before anything is sent."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sleepd.config.compile_models import Written
from sleepd.config.errors import KeyPath, did_you_mean, show
from sleepd.config.rules import choose_models
from sleepd.config.schema import WebhookKeys
from sleepd.config.secrets import SecretError, read_webhook_secret
from sleepd.config.settings import WebhookSettings
from sleepd.config.validate import Findings, validate
from sleepd.config.values import MODEL_NAME
from sleepd.core.event_kinds import KINDS

WEBHOOKS_LIMIT = 32


def compile_webhooks(
    tree: Mapping[str, Any], models: Mapping[str, Written | None], findings: Findings
) -> tuple[WebhookSettings, ...]:
    """Return the webhooks that hold, by name. Reads the files that hold their secrets."""
    written = tree.get("webhooks", {})
    if not isinstance(written, dict) or len(written) > WEBHOOKS_LIMIT:
        found = f"{len(written)}" if isinstance(written, dict) else show(written)
        findings.refuse(("webhooks",), f"wanted at most {WEBHOOKS_LIMIT} tables [webhooks.NAME], found {found}")
        return ()
    compiled = []
    for name, value in written.items():
        path: KeyPath = ("webhooks", name)
        if not MODEL_NAME.fullmatch(name):
            findings.refuse(path, f"wanted a name of a-z, 0-9, '.', '_', '-', at most 63, found {show(name)}")
            continue
        keys = validate(WebhookKeys, value, path, findings)
        if keys is None:
            continue
        _check_url(keys.url, (*path, "url"), findings)
        for index, kind in enumerate(keys.kinds):
            if kind not in KINDS:
                guess = did_you_mean(kind, KINDS) or "; docs/events.md lists them"
                findings.refuse((*path, "kinds", index), f"there is no kind of event {show(kind)}{guess}")
        try:
            read_webhook_secret(keys.secret_file)
        except SecretError as error:
            findings.refuse((*path, "secret_file"), str(error))
        chosen = choose_models(keys.models, f"webhook {name}", models, path, findings)
        every = "*" in keys.models and not any(pattern.startswith("!") for pattern in keys.models)
        compiled.append(
            WebhookSettings(
                name, keys.url, keys.secret_file, frozenset(keys.kinds), None if every else chosen, keys.timeout
            )
        )
    return tuple(compiled)


def _check_url(url: str, path: KeyPath, findings: Findings) -> None:
    wanted = 'wanted an address such as "https://hooks.example.org/sleepd"'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        findings.refuse(path, f"{wanted}, found {show(url)}")
        return
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        findings.refuse(path, f"{wanted}, found {show(url)}")
    elif parts.username is not None or parts.fragment:
        findings.refuse(path, f"{wanted}, without a user and a #, found another (not shown)")
    elif parts.scheme == "http" and not _is_loopback(parts.hostname):
        findings.warn(path, "is not https: whoever is on the way can read what is told")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
