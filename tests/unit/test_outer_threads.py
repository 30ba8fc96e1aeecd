"""A disk that hangs holds up neither the stop nor the end of the process; a lost GPU hides no other."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pynvml
import pytest

from sleepd.adapters import nvml
from sleepd.adapters import store as store_module
from sleepd.adapters.nvml import REOPEN_AFTER_S, NvmlGpus
from sleepd.adapters.store import SqliteStore
from sleepd.adapters.threads import WorkThread
from sleepd.core.model import Known, Missing
from tests.unit.test_adapter_nvml import Driver, StillClock, driver

assert driver is not None  # a fixture, asked for by name

HANGS = """
import asyncio, threading
from sleepd.adapters.threads import WorkThread, in_thread

async def main():
    store = WorkThread("store")
    for future in (in_thread("nvml", threading.Event().wait), store.do(threading.Event().wait)):
        await asyncio.wait((future,), timeout=0.05)

asyncio.run(main())
print("ended")
"""


def test_a_process_ends_though_its_disk_and_its_driver_hang() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=5.0, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("ended\n", "", 0)


async def test_a_store_that_hangs_closes_within_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, left = threading.Event(), threading.Event()

    def hang(*args: object) -> None:
        hung.wait(10.0)
        left.set()

    monkeypatch.setattr(SqliteStore, "_write", hang)
    monkeypatch.setattr(store_module, "CLOSE_S", 0.05)
    store = SqliteStore(tmp_path / "state.db")
    await store.load()
    committing = asyncio.ensure_future(store.commit(()))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(2.0):
        await store.close()
    assert not committing.done()
    hung.set()
    await committing
    assert left.is_set()


async def test_work_is_done_in_order_and_dropped_where_nobody_waits_for_it_any_more() -> None:
    go, done = threading.Event(), []
    thread = WorkThread("t")
    first = thread.do(lambda: go.wait(5.0))
    dropped, last = thread.do(lambda: done.append("dropped")), thread.do(lambda: done.append("last"))
    dropped.cancel()
    go.set()
    assert await first
    await last
    thread.end()
    assert done == ["last"]


# NVML


def gpus_of(clock: StillClock) -> NvmlGpus:
    return NvmlGpus(clock, deadline_s=1.0)  # type: ignore[arg-type]


def fail_for(monkeypatch: pytest.MonkeyPatch, call: str, broken: set[int], code: int) -> None:
    plain = getattr(pynvml, call)

    def run(index: int) -> object:
        if index in broken:
            raise pynvml.NVMLError(code)
        return plain(index)

    monkeypatch.setattr(pynvml, call, run)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_GPU_IS_LOST),
        ("nvmlDeviceGetUUID", pynvml.NVML_ERROR_GPU_IS_LOST),
        ("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_RESET_REQUIRED),
        ("nvmlDeviceGetComputeRunningProcesses", pynvml.NVML_ERROR_UNKNOWN),
    ],
)
async def test_a_gpu_that_fails_is_left_out_until_it_answers_again(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    clock, broken = StillClock(), {0}
    fail_for(monkeypatch, call, broken, code)
    gpus = gpus_of(clock)
    reading = await gpus.read(processes=True)
    assert isinstance(reading, Known)
    assert [(gpu.uuid, gpu.index) for gpu in reading.value] == [("GPU-1", 1)]
    broken.clear()
    clock.mono_s += REOPEN_AFTER_S
    healed = await gpus.read(processes=True)
    assert isinstance(healed, Known)
    assert [gpu.index for gpu in healed.value] == [0, 1]


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"])
async def test_no_gpu_left_is_no_reading(driver: Driver, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    fail_for(monkeypatch, call, {0, 1}, pynvml.NVML_ERROR_GPU_IS_LOST)
    reading = await gpus_of(StillClock()).read(processes=False)
    assert isinstance(reading, Missing)
    assert nvml._ADVICE[pynvml.NVML_ERROR_GPU_IS_LOST] in reading.detail
