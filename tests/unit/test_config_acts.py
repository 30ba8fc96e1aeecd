"""Whether a key acts is no matter of opinion: what is compiled from it is read somewhere, or `check` warns of it."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sleepd.config.settings import GatewaySettings, GpuSettings, ServiceSettings
from sleepd.config.without_effect import WITHOUT_EFFECT
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.rules import Rule

PACKAGE = Path(__file__).parents[2] / "sleepd"
CODE = "\n".join(
    path.read_text()
    for path in PACKAGE.rglob("*.py")
    if "config" not in path.relative_to(PACKAGE).parts and path not in (PACKAGE / "core" / "model.py",)
)
FIELDS = sorted(
    {
        field.name
        for kind in (Settings, ModelSpec, Rule, ServiceSettings, GatewaySettings, GpuSettings)
        for field in fields(kind)
    }
)
CHECKED_AT_LOAD = {"allow_exposed", "labels", "drain_s"}
"""What has done its work once the configuration is compiled; the gateway's drain is the core's turn_drain_s."""
KEY_OF = {
    "on_stop": "daemon.on_stop",
    "turn_drain_s": "gateway.drain",
    "metrics_listen": "metrics.listen",
    "restart_units": "recovery.restart_units",
    "max_restarts": "recovery.max_restarts",
    "late_drain_s": "recovery.late_drain",
    "history_keep_s": "history",
    "may_stop": "models.may_stop",
}


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in CHECKED_AT_LOAD])
def test_what_is_compiled_is_read_or_warned_of(name: str) -> None:
    read = re.search(rf"\.{name}\b", CODE) is not None
    warned = KEY_OF.get(name) in WITHOUT_EFFECT
    assert read != warned, f"{name}: read {read}, said to have no effect {warned} (config/without_effect.py)"
