"""What several files of unit tests start from."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sleepd.core.turn import Turn
from sleepd.engine import loop as engine_loop
from tests.adapters.raw_server import serving
from tests.unit.vllm_bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "s")
    async with serving(bench.path, bench.answer) as bench.raw:
        yield bench
        await bench.vllm.close()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """The turns that `step` decides on, one after the other."""
    turns: list[Turn] = []
    monkeypatch.setattr(engine_loop, "step", lambda world, events, now: turns.pop(0))
    monkeypatch.setattr(engine_loop, "RETRY_COMMIT_S", 0.0)
    return turns


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """Another living process."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a configuration, with nothing in it, beside an empty one of shipped files."""
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    return tmp_path / "etc"
