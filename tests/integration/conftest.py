"""A make-believe host per test; on failure, what its processes wrote is part of the report."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakenvml.build import build
from tests.integration.harness import Host
from tests.integration.nursery import open_nursery


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits long is begun first: nobody waits for it alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("waits_long") is None)


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for NVIDIA's library, compiled once, and found by every process that these tests start."""
    library = build(tmp_path_factory.mktemp("nvml"))
    open_nursery({"LD_LIBRARY_PATH": str(library.parent)})
    return library


@pytest.fixture
def hosts(nvml_library: Path) -> Iterator[Callable[[], Host]]:
    """Make-believe hosts, one at a time: making the next one ends the last."""
    current: list[Host] = []

    def end() -> None:
        for host in current:
            host.close()
            shutil.rmtree(host.root)
        current.clear()

    def make() -> Host:
        end()
        # pytest's own directories are too deep for the 107 bytes of a unix socket's path.
        current.append(Host(Path(tempfile.mkdtemp(prefix="sleepd-")), nvml_library))
        return current[0]

    make.current = current  # type: ignore[attr-defined]
    try:
        yield make
    finally:
        end()


@pytest.fixture
def host(hosts: Callable[[], Host]) -> Host:
    return hosts()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    hosts = getattr(item, "funcargs", {}).get("hosts")
    if report.when == "call" and report.failed and hosts is not None:
        report.sections += [(f"log of {name}", text) for host in hosts.current for name, text in host.logs()]
