"""NVML through pynvml, in threads of its own, one at a time and with a deadline: a hung driver must hang nobody else.

Sources: NVML API reference (return codes, nvmlDeviceGetMemoryInfo, nvmlDeviceGetComputeRunningProcesses).
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pynvml

from sleepd.core.model import GpuSeen, GpusSeen, Known, Missing, MissingReason, Reading
from sleepd.core.units import Seconds
from sleepd.ports import Clock

DEADLINE_S = 5.0
RETRY_AFTER_S = 10.0
"""After an error that needs a new session, not before this long: initialising can take seconds."""

_ADVICE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "install the NVIDIA driver (libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "load the NVIDIA driver (modprobe nvidia)",
    pynvml.NVML_ERROR_NO_PERMISSION: "allow the daemon's user to open /dev/nvidiactl and /dev/nvidia*",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU fell off the bus: reboot",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU must be reset",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was upgraded under us: reboot or reload its module",
}
_NOT_TOLD = frozenset(
    {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
)
"""A capability that is missing for good: what it would tell stays unknown, the rest goes on."""


class NoGpu(Exception):
    """NVML works and lists nothing."""


@dataclass(frozen=True, slots=True)
class _Device:
    handle: object
    uuid: str
    index: int


class NvmlGpus:
    """Every GPU that NVML lists. One call at a time; one that hangs makes readings missing until it returns."""

    def __init__(self, clock: Clock, deadline_s: Seconds = DEADLINE_S) -> None:
        self._clock, self._deadline_s = clock, deadline_s
        self._one_at_a_time = threading.Lock()
        self._hanging: asyncio.Future[GpusSeen] | None = None
        self._devices: tuple[_Device, ...] | None = None
        self._retry_at_s = 0.0
        self._last_error = ""

    async def read(self, *, processes: bool) -> Reading[GpusSeen]:
        """Return every GPU, waiting `deadline_s` at most. With `processes` also who holds how much."""
        asked_s = self._clock.now().mono_s
        if self._hanging is not None and not self._hanging.done():
            return self._missing(MissingReason.TIMED_OUT, "NVML: an earlier call has not returned", asked_s)
        if self._devices is None and asked_s < self._retry_at_s:
            return self._missing(MissingReason.UNREADABLE, self._last_error, asked_s)
        call = _in_thread(partial(self._read, processes))
        try:
            # Not wait_for: Python 3.11's swallows a cancellation that comes as the call ends, and the stop hangs.
            async with asyncio.timeout(self._deadline_s):
                seen = await asyncio.shield(call)
        except TimeoutError:
            self._hanging = call
            return self._missing(MissingReason.TIMED_OUT, f"NVML: no answer in {self._deadline_s:g} s", asked_s)
        except (pynvml.NVMLError, NoGpu) as error:
            return self._failed(error, asked_s)
        return Known(seen, asked_s, self._clock.now().mono_s)

    async def close(self) -> None:
        """A hung call is left behind: nothing can end it, and its thread keeps nobody from ending."""

    def _failed(self, error: Exception, asked_s: float) -> Missing:
        self._devices = None
        self._retry_at_s = asked_s + RETRY_AFTER_S
        advice = _ADVICE.get(getattr(error, "value", None) or 0, "nvidia-smi -L tells more")
        self._last_error = f"NVML: {error}; {advice}"
        return self._missing(MissingReason.UNREADABLE, self._last_error, asked_s)

    def _missing(self, reason: MissingReason, detail: str, asked_s: float) -> Missing:
        return Missing(reason, detail, asked_s)

    # in the thread

    def _read(self, processes: bool) -> GpusSeen:
        with self._one_at_a_time:
            if self._devices is None:
                self._devices = _open_devices()
            return tuple(_see(device, processes) for device in self._devices)


def _in_thread(work: Callable[[], GpusSeen]) -> asyncio.Future[GpusSeen]:
    """Return what becomes of `work` in a thread of its own. An executor's would be joined when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[GpusSeen] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # read, so that nobody misses it

    def settle(seen: GpusSeen | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif seen is not None:
            future.set_result(seen)

    def run() -> None:
        seen, failed = None, None
        try:
            seen = work()
        except Exception as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
            loop.call_soon_threadsafe(settle, seen, failed)

    threading.Thread(target=run, name="nvml", daemon=True).start()
    return future


def _open_devices() -> tuple[_Device, ...]:
    """A new session and its handles; those of an old one are void after a driver reload."""
    with contextlib.suppress(pynvml.NVMLError):  # there was none
        pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    if not handles:
        raise NoGpu("wanted at least one GPU, found none")
    return tuple(_Device(h, str(pynvml.nvmlDeviceGetUUID(h)), i) for i, h in enumerate(handles))


def _see(device: _Device, processes: bool) -> GpuSeen:
    memory = pynvml.nvmlDeviceGetMemoryInfo(device.handle)
    used = _processes(device) if processes else None
    return GpuSeen(device.uuid, device.index, int(memory.total), int(memory.free), used)


def _processes(device: _Device) -> dict[int, int] | None:
    """Bytes by pid; None where the driver does not tell them (WSL, MIG, permissions). Pids are the host's."""
    used: dict[int, int] = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            listed = ask(device.handle)
        except pynvml.NVMLError as error:
            if error.value in _NOT_TOLD:
                continue
            raise
        for process in listed:
            if process.usedGpuMemory is None:
                return None
            used[process.pid] = max(used.get(process.pid, 0), int(process.usedGpuMemory))
    return used
