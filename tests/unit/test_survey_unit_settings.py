"""What systemd is told to do with units, read over real D-Bus from a stand-in for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sleepd.doctor.units import UnitSettings
from sleepd.survey.unit_settings import read_units
from tests.fakesystemd.systemd import FakeSystemd


def never() -> Any:
    raise AssertionError("nothing is to be started")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeSystemd]:
    manager = FakeSystemd(tmp_path / "bus")
    yield manager
    manager.close()


async def test_settings_are_read_and_a_unit_that_is_not_there_is_told(systemd: FakeSystemd) -> None:
    systemd.add("vllm@a.service", never)
    systemd.add("vllm@b.service", never, restarts=False, kill_mode="process", file_state="static")
    systemd.add("vllm@c.service", never, oom_policy="continue", sends_sigkill=False, file_state="enabled-runtime")
    systemd.add("quadlet.service", never, file_state="generated", wanted_by=["multi-user.target"])
    systemd.add("lone.service", never, file_state="generated")
    systemd.add("gone.service", never, load="not-found")
    found = await read_units(
        [f"{name}.service" for name in ("vllm@a", "vllm@b", "vllm@c", "quadlet", "lone", "gone")],
        address=systemd.bus.address,
    )
    assert found == (
        UnitSettings("vllm@a.service", "always", "control-group", "stop", enabled=True),
        UnitSettings("vllm@b.service", "no", "process", "stop"),
        UnitSettings("vllm@c.service", "always", "control-group", "continue", sends_sigkill=False, enabled=True),
        UnitSettings("quadlet.service", "always", "control-group", "stop", enabled=True),
        UnitSettings("lone.service", "always", "control-group", "stop"),
        UnitSettings("gone.service", missing="it is not-found"),
    )


async def test_without_a_bus_that_is_what_is_missing(tmp_path: Path) -> None:
    (found,) = await read_units(["a.service"], address=f"unix:path={tmp_path}/none")
    assert found.missing.startswith("no system bus: ")
    assert await read_units([]) == ()
