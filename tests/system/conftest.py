"""The machine that these tests run in. Outside of one they are skipped: `make test-systemd` boots it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.inside import System, is_inside

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("systemd")


@pytest.fixture(scope="session")
def installed() -> System:
    if not is_inside():
        told = "not within a throw-away machine: make test-systemd"
        pytest.fail(told) if os.environ.get("SLEEPD_SYSTEMD") == "required" else pytest.skip(told)
    system = System()
    system.install()
    return system


@pytest.fixture
def system(installed: System) -> Iterator[System]:
    """The machine as it is after the installation."""
    installed.reset()
    yield installed
    installed.reset()
