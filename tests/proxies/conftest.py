"""Real proxies beside a make-believe host; both end with the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import host, hosts, nvml_library, pytest_runtest_makereport

PROGRAMS = Path(__file__).parents[2] / ".cache" / "proxies"

__all__ = ["host", "hosts", "nvml_library", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def programs() -> Path:
    """Where nginx and caddy lie (make test-proxies puts them there)."""
    assert (PROGRAMS / "caddy").exists(), "run: make test-proxies"
    return PROGRAMS
