"""For a conftest: a test that fails comes with the log of its daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.realvllm.daemon_host import DaemonFolder


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and isinstance(host, DaemonFolder):
        report.sections.append(("log of sleepd", host.read_log()[-20_000:]))
