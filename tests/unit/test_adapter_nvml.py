"""NVML: what it tells, how it fails, and that one that hangs hangs nobody else. pynvml's calls are replaced here; the
integration tests run the real pynvml."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from sleepd.adapters.nvml import REOPEN_AFTER_S, RETRY_AFTER_S, NvmlGpus
from sleepd.core.model import Known, Missing, MissingReason, Now
from sleepd.core.seen import GpuSeen

TOTAL, FREE = 80 << 30, 30 << 30


class StillClock:
    """A clock that a test moves."""

    mono_s = 1000.0

    def now(self) -> Now:
        return Now(self.mono_s, 0.0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Driver:
    """Stands in for the library; `fail` makes a call raise that code."""

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.uuids = ["GPU-0", "GPU-1"]
        self.processes: list[tuple[int, int | None]] = [(10, 5), (11, 7)]
        self.mig: dict[int, dict[int, str]] = {}
        """By GPU in MIG mode: the UUIDs of its MIG devices by their numbers."""
        self.hang: threading.Event | None = None
        self.reached, self.left = threading.Event(), threading.Event()

    def call(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.calls.append(name)
            if self.hang is not None and name == "nvmlDeviceGetMemoryInfo":
                self.reached.set()
                self.hang.wait(5.0)
                self.left.set()
            if name in self.fail:
                raise pynvml.NVMLError(self.fail[name])
            return answer(*args)

        return run


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()

    def listed(_: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in driver.processes]

    def mig_mode(index: int) -> list[int]:
        if index not in driver.mig:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def mig_device(index: int, number: int) -> str:
        if number not in driver.mig[index]:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return driver.mig[index][number]

    answers: dict[str, Callable[..., Any]] = {
        "nvmlDeviceGetMigMode": mig_mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda _: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": mig_device,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(driver.uuids),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: handle if isinstance(handle, str) else driver.uuids[handle],
        "nvmlDeviceGetName": lambda _: "NVIDIA H100",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=TOTAL, free=FREE, used=TOTAL - FREE),
        "nvmlDeviceGetComputeRunningProcesses": listed,
        "nvmlDeviceGetGraphicsRunningProcesses": lambda _: [],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, driver.call(name, answer))
    yield driver
    if driver.hang is not None:
        driver.hang.set()


@pytest.fixture
async def gpus(driver: Driver) -> Any:
    gpus = NvmlGpus(StillClock(), deadline_s=0.1)  # type: ignore[arg-type]
    yield gpus
    await gpus.close()


def missing(reading: Any) -> Missing:
    assert isinstance(reading, Missing), reading
    return reading


async def test_every_gpu_is_read_and_processes_only_when_asked_for(driver: Driver, gpus: NvmlGpus) -> None:
    reading = await gpus.read(processes=False)
    assert isinstance(reading, Known)
    assert reading.value == (GpuSeen("GPU-0", 0, TOTAL, FREE), GpuSeen("GPU-1", 1, TOTAL, FREE))
    assert not [call for call in driver.calls if "Processes" in call]
    reading = await gpus.read(processes=True)
    assert isinstance(reading, Known)
    assert reading.value[0].used_by_pid == {10: 5, 11: 7}
    assert driver.calls.count("nvmlInit") == 1


async def test_a_gpu_in_mig_mode_is_its_mig_devices(driver: Driver, gpus: NvmlGpus) -> None:
    """The GPU itself is not asked: only the privileged are told of the whole, and nothing computes on it."""
    driver.mig = {1: {0: "MIG-aa", 3: "MIG-bb"}}
    reading = await gpus.read(processes=True)
    assert isinstance(reading, Known)
    assert [(g.uuid, g.index, g.mig_of) for g in reading.value] == [
        ("GPU-0", 0, None),
        ("MIG-aa", 2000, 1),
        ("MIG-bb", 2003, 1),
    ]
    assert reading.value[2].used_by_pid == {10: 5, 11: 7}


async def test_mig_mode_without_mig_devices_leaves_nothing_and_says_what_to_do(driver: Driver, gpus: NvmlGpus) -> None:
    driver.mig = {0: {}, 1: {}}
    assert "has no MIG device: create some (nvidia-smi mig -cgi" in missing(await gpus.read(processes=False)).detail
    driver.mig = {0: {}}
    gpus._clock.mono_s += RETRY_AFTER_S  # type: ignore[attr-defined]
    reading = await gpus.read(processes=False)
    assert isinstance(reading, Known)
    assert [g.uuid for g in reading.value] == ["GPU-1"]


async def test_mig_devices_that_were_made_anew_are_found_after_a_while(driver: Driver, gpus: NvmlGpus) -> None:
    driver.mig = {1: {0: "MIG-aa", 1: "MIG-bb"}}
    await gpus.read(processes=False)
    asked = pynvml.nvmlDeviceGetMemoryInfo

    def gone(handle: object) -> Any:
        if handle == "MIG-aa":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return asked(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", gone)
        driver.mig = {1: {1: "MIG-bb", 2: "MIG-cc"}}
        reading = await gpus.read(processes=False)
        assert isinstance(reading, Known)
        assert [g.uuid for g in reading.value] == ["GPU-0", "MIG-bb"]
        gpus._clock.mono_s += REOPEN_AFTER_S  # type: ignore[attr-defined]
        reading = await gpus.read(processes=False)
    assert isinstance(reading, Known)
    assert [g.uuid for g in reading.value] == ["GPU-0", "MIG-bb", "MIG-cc"]


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND])
async def test_a_driver_that_knows_no_mig_has_whole_gpus(driver: Driver, gpus: NvmlGpus, code: int) -> None:
    driver.fail["nvmlDeviceGetMigMode"] = code
    reading = await gpus.read(processes=False)
    assert isinstance(reading, Known)
    assert [g.uuid for g in reading.value] == ["GPU-0", "GPU-1"]


async def test_bytes_that_the_driver_does_not_tell_are_unknown_not_zero(driver: Driver, gpus: NvmlGpus) -> None:
    driver.processes = [(10, 5), (11, None)]
    reading = await gpus.read(processes=True)
    assert isinstance(reading, Known)
    assert reading.value[0].used_by_pid is None
    assert reading.value[0].free_bytes == FREE


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND]
)
async def test_a_process_list_that_is_refused_is_unknown_not_empty(driver: Driver, gpus: NvmlGpus, code: int) -> None:
    """An empty one would say that nobody holds anything: then nothing ever moved, and a broken engine looked whole."""
    driver.fail["nvmlDeviceGetComputeRunningProcesses"] = code
    reading = await gpus.read(processes=True)
    assert isinstance(reading, Known)
    assert reading.value[0].used_by_pid is None


async def test_no_graphics_processes_takes_the_compute_ones_along(driver: Driver, gpus: NvmlGpus) -> None:
    driver.fail["nvmlDeviceGetGraphicsRunningProcesses"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    reading = await gpus.read(processes=True)
    assert isinstance(reading, Known)
    assert reading.value[0].used_by_pid == {10: 5, 11: 7}


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        ("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install the NVIDIA driver"),
        ("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe nvidia"),
        ("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "driver was upgraded"),
        ("nvmlDeviceGetCount", pynvml.NVML_ERROR_NO_PERMISSION, "/dev/nvidiactl"),
        ("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_GPU_IS_LOST, "reboot"),
        ("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_UNKNOWN, "nvidia-smi -L"),
        ("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NOT_SUPPORTED, '[gpu] backend = "none"'),
        ("nvmlDeviceGetUUID", 12345, "nvidia-smi -L"),
    ],
)
async def test_errors_say_what_to_do_and_are_recovered_from(
    driver: Driver, gpus: NvmlGpus, call: str, code: int, told: str
) -> None:
    clock = gpus._clock
    assert isinstance(clock, StillClock)
    driver.fail[call] = code
    failed = missing(await gpus.read(processes=False))
    assert failed.reason is MissingReason.UNREADABLE
    assert failed.detail.startswith("NVML: ")
    assert told in failed.detail
    begun = driver.calls.count("nvmlInit")
    driver.fail.clear()
    assert missing(await gpus.read(processes=False)).detail == failed.detail
    assert driver.calls.count("nvmlInit") == begun, "initialised again before its time"
    clock.mono_s += RETRY_AFTER_S + 1
    assert isinstance(await gpus.read(processes=False), Known)


async def test_no_gpu_is_said(driver: Driver, gpus: NvmlGpus) -> None:
    driver.uuids = []
    assert "wanted at least one GPU, found none" in missing(await gpus.read(processes=False)).detail


@pytest.mark.parametrize("turns", range(6))
async def test_a_read_cancelled_in_the_moment_it_ends_is_cancelled(driver: Driver, gpus: NvmlGpus, turns: int) -> None:
    """Whoever stops waits for it: asyncio.wait_for of Python 3.11 swallows such a cancellation."""
    driver.hang = threading.Event()
    reading = asyncio.create_task(gpus.read(processes=False))
    await asyncio.to_thread(driver.reached.wait, 2.0)
    driver.hang.set()
    driver.left.wait(2.0)
    threading.Event().wait(0.02)  # the loop's own thread: the call ends meanwhile, and the loop is not told yet
    for _ in range(turns):
        await asyncio.sleep(0)
    if reading.cancel():
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_call_that_hangs_is_told_once_and_no_other_is_queued_behind_it(driver: Driver, gpus: NvmlGpus) -> None:
    driver.hang = threading.Event()
    first = missing(await gpus.read(processes=False))
    assert (first.reason, first.detail) == (MissingReason.TIMED_OUT, "NVML: no answer in 0.1 s")
    calls = len(driver.calls)
    for _ in range(20):
        again = missing(await gpus.read(processes=False))
        assert (again.reason, again.detail) == (MissingReason.TIMED_OUT, "NVML: an earlier call has not returned")
    assert len(driver.calls) == calls
    hanging = gpus._hanging
    assert hanging is not None
    driver.hang.set()
    driver.hang = None
    await asyncio.wait_for(asyncio.shield(hanging), 2.0)
    assert isinstance(await gpus.read(processes=False), Known)


async def test_readers_at_the_same_time_share_one_session(driver: Driver, gpus: NvmlGpus) -> None:
    """The observer and a running step both read; handles of a session that another ends are void."""
    readings = await asyncio.gather(*(gpus.read(processes=True) for _ in range(8)))
    assert all(isinstance(reading, Known) for reading in readings)
    assert driver.calls.count("nvmlInit") == 1


async def test_names_are_told_of_gpus_that_were_read(driver: Driver, gpus: NvmlGpus) -> None:
    assert await gpus.read_names() == (), "nothing is asked before there is a session"
    await gpus.read(processes=False)
    assert await gpus.read_names() == ("NVIDIA H100", "NVIDIA H100")
    driver.fail["nvmlDeviceGetName"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert await gpus.read_names() == ()


async def test_energy_is_the_drivers_count_or_power_added_up(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    clock = StillClock()
    gpus = NvmlGpus(clock)  # type: ignore[arg-type]
    assert await gpus.read_energy() == {}, "nothing is asked before there is a session"
    await gpus.read(processes=False)
    total_mj, watts = {"GPU-0": 5000}, {"GPU-1": 100.0}

    def total(handle: str) -> int:
        if handle not in total_mj:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return total_mj[handle]

    def power(handle: str) -> int:
        return round(watts[handle] * 1000)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: total(driver.uuids[handle]))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda handle: power(driver.uuids[handle]))
    assert await gpus.read_energy() == {"GPU-0": 5.0, "GPU-1": 0.0}
    clock.mono_s += 10
    total_mj["GPU-0"], watts["GPU-1"] = 9000, 300.0
    assert await gpus.read_energy() == {"GPU-0": 9.0, "GPU-1": 2000.0}
    clock.mono_s += 1000  # what it took meanwhile nobody knows
    assert await gpus.read_energy() == {"GPU-0": 9.0, "GPU-1": 2000.0}
