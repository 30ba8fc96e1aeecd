"""A real Prometheus beside a make-believe host; both end with the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import host, hosts, nvml_library, pytest_runtest_makereport

PROGRAMS = Path(__file__).parents[2] / ".cache" / "prometheus"

__all__ = ["host", "hosts", "nvml_library", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def programs() -> Path:
    """Where prometheus and promtool lie (make test-prometheus puts them there)."""
    assert (PROGRAMS / "promtool").exists(), "run: make test-prometheus"
    return PROGRAMS
