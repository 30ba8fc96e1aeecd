"""The make-believe host of the integration tests, and a terminal beside it."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import host, hosts, nvml_library, pytest_runtest_makereport
from tests.integration.harness import Host
from tests.terminal.tmux import Tmux

__all__ = ["host", "hosts", "nvml_library", "pytest_runtest_makereport", "tmux"]


@pytest.fixture
def tmux(host: Host) -> Iterator[Tmux]:
    with Tmux(host.root, SLEEPD_SOCKET=str(host.socket)) as terminal:
        yield terminal
