"""A make-believe host per test; on failure, what its processes wrote is part of the report."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakenvml.build import build
from tests.integration.harness import Host


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for NVIDIA's library, compiled once."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def host(nvml_library: Path) -> Iterator[Host]:
    # pytest's own directories are too deep for the 107 bytes of a unix socket's path.
    root = Path(tempfile.mkdtemp(prefix="sleepd-"))
    host = Host(root, nvml_library)
    try:
        yield host
    finally:
        host.close()
        shutil.rmtree(root)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and isinstance(host, Host):
        report.sections += [(f"log of {name}", text) for name, text in host.logs()]
