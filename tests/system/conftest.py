"""The machine that these tests run in. Outside of one they fail: `make test-systemd` boots it and runs them there."""

from __future__ import annotations

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
        pytest.fail("wanted a throw-away machine, found this one; run: make test-systemd", pytrace=False)
    system = System()
    system.install()
    return system


@pytest.fixture
def system(installed: System) -> Iterator[System]:
    """The machine as it is after the installation."""
    installed.reset()
    yield installed
    installed.reset()
