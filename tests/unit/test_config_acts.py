"""Whether a key acts is no matter of opinion: what is compiled from it is read somewhere."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sleepd.config.settings import GatewaySettings, GpuSettings, ServiceSettings
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


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in CHECKED_AT_LOAD])
def test_what_is_compiled_is_read(name: str) -> None:
    assert re.search(rf"\.{name}\b", CODE), f"{name}: nothing acts on it"
