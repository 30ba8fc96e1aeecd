"""A daemon's host for each test; when a test fails, what the daemon logged is part of the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.realvllm.daemon_host import DaemonHost
from tests.realvllm.daemon_log import pytest_runtest_makereport
from tests.realvllm.fixtures import RealPair

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture
def host(real_servers: RealPair, fake_nvml: Path) -> Iterator[DaemonHost]:
    """Both servers known to be right, the first awake, the second asleep at level 1, and no daemon yet."""
    host = DaemonHost(real_servers, fake_nvml)
    try:
        yield host
    finally:
        host.close()
