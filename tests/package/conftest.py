"""The package as it was built, and a clean Debian to install it in: `make test-package` makes both and runs this."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakenvml.build import build
from tests.package.machine import CLOCK, Machine
from tests.package.real_vllm import DROP_IN, lend, program
from tests.system.run import find_missing, find_package

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "package"
LIBRARIES = CACHE / "nvml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("package")


@pytest.fixture(scope="session")
def deb() -> Path:
    return find_package()


@pytest.fixture
def shared(deb: Path, tmp_path: Path) -> Path:
    """What becomes /srv: the package lies in it."""
    assert not (missing := find_missing()), missing
    (shared := tmp_path / "srv").mkdir()
    shutil.copy(deb, shared)
    return shared


@pytest.fixture(scope="session")
def libraries() -> Path:
    """What becomes /opt/nvml: the driver's library, and a clock that is kept right."""
    build(LIBRARIES, source=HERE / "clock.c", name=CLOCK.name)
    return build(LIBRARIES).parent


@pytest.fixture
def machine(shared: Path, libraries: Path) -> Iterator[Machine]:
    """A machine on which nothing of sleepd is, but for the package in /srv."""
    with Machine(CACHE / "tree", libraries, shared) as machine:
        yield machine


@pytest.fixture
def real_machine(shared: Path, libraries: Path, tmp_path: Path) -> Iterator[Machine]:
    """The same, whose vLLM is a real one."""
    vllm = program(tmp_path / "unset")
    with Machine(CACHE / "tree", libraries, shared, vllm, DROP_IN, lend(shared)) as machine:
        yield machine
