"""A daemon's host for each test; when a test fails, what the daemon logged is part of the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.realvllm.daemon_host import DaemonHost
from tests.realvllm.fixtures import RealPair


@pytest.fixture
def host(real_servers: RealPair, fake_nvml: Path) -> Iterator[DaemonHost]:
    """Both servers known to be right, the first awake, the second asleep at level 1, and no daemon yet."""
    host = DaemonHost(real_servers, fake_nvml)
    try:
        yield host
    finally:
        host.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and isinstance(host, DaemonHost):
        report.sections.append(("log of sleepd", host.told()[-20_000:]))
