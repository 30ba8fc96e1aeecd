"""Two real servers on one GPU, and a daemon's host for each test; a test that fails comes with the daemon's log."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu.gpu_host import GpuHost, GpuPair
from tests.gpu.gpu_server import Gpu, GpuServer, Vllm
from tests.realvllm.daemon_log import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    return Gpu.find()


@pytest.fixture(scope="session")
def vllm(gpu: Gpu) -> Vllm:
    return Vllm.find(gpu)


@pytest.fixture(scope="session")
def running_pair(gpu: Gpu, vllm: Vllm) -> Iterator[GpuPair]:
    """Both servers running, one awake; a start takes half a minute and needs the other asleep."""
    directory = Path(tempfile.mkdtemp(prefix="sleepd-gpu-", dir="/tmp"))  # short, for the sockets' sake
    pair = GpuPair(gpu, vllm, *(GpuServer(seed, directory, gpu, vllm) for seed in ("1", "2")), {})
    try:
        yield pair
    finally:
        for server in pair.servers:
            server.stop()
        shutil.rmtree(directory)


@pytest.fixture
def pair(running_pair: GpuPair) -> GpuPair:
    """The first awake and right, the second asleep at level 1, nobody else on the GPU."""
    running_pair.settle()
    return running_pair


@pytest.fixture
def host(pair: GpuPair) -> Iterator[GpuHost]:
    """The pair and no daemon yet."""
    host = GpuHost(pair)
    try:
        yield host
    finally:
        host.close()
