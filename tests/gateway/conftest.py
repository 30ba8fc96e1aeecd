"""The gateway's tests run on uvloop, as the daemon does."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="sleepd-g-", dir="/tmp") as found:
        yield Path(found)
