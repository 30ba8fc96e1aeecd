"""NVML through pynvml, in threads of its own, one at a time and with a deadline: a hung driver must hang nobody else.

Sources: NVML API reference (return codes, nvmlDeviceGetMemoryInfo, nvmlDeviceGetComputeRunningProcesses).
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pynvml

from sleepd.adapters.nvml_energy import EnergyMeter
from sleepd.adapters.threads import in_thread
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.seen import MIG_INDICES, GpuSeen, GpusSeen
from sleepd.core.units import Seconds
from sleepd.ports import Clock

DEADLINE_S = 5.0
RETRY_AFTER_S = 10.0
"""After an error that needs a new session, not before this long: initialising can take seconds."""
REOPEN_AFTER_S = 60.0
"""How long a GPU that gave no handle is left out before the session is opened anew for it."""

_ADVICE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "install the NVIDIA driver (libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "load the NVIDIA driver (modprobe nvidia)",
    pynvml.NVML_ERROR_NO_PERMISSION: "allow the daemon's user to open /dev/nvidiactl and /dev/nvidia*",
    pynvml.NVML_ERROR_NOT_SUPPORTED: 'it has no memory but the host\'s to tell of: [gpu] backend = "none"',
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU fell off the bus: reboot",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU must be reset",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was upgraded under us: reboot or reload its module",
}
_NOT_TOLD = frozenset(
    {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
)
"""A capability that is missing for good: what it would tell stays unknown, the rest goes on."""


_In = TypeVar("_In")
_Out = TypeVar("_Out")


class NoGpu(Exception):
    """NVML works and lists nothing."""


@dataclass(frozen=True, slots=True)
class _Device:
    handle: object
    uuid: str
    index: int
    mig_of: int | None = None


class NvmlGpus:
    """Every GPU that NVML lists. One call at a time; one that hangs makes readings missing until it returns."""

    def __init__(self, clock: Clock, deadline_s: Seconds = DEADLINE_S) -> None:
        self._clock, self._deadline_s = clock, deadline_s
        self._one_at_a_time = threading.Lock()
        self._hanging: asyncio.Future[GpusSeen] | None = None
        self._devices: tuple[_Device, ...] | None = None
        self._retry_at_s = 0.0
        self._partial_since_s: float | None = None
        self._last_error = ""
        self._energy = EnergyMeter(lambda: clock.now().mono_s)

    async def read(self, *, processes: bool) -> Reading[GpusSeen]:
        """Return every GPU, waiting `deadline_s` at most. With `processes` also who holds how much."""
        asked_s = self._clock.now().mono_s
        if self._hanging is not None and not self._hanging.done():
            return self._missing(MissingReason.TIMED_OUT, "NVML: an earlier call has not returned", asked_s)
        if self._devices is None and asked_s < self._retry_at_s:
            return self._missing(MissingReason.UNREADABLE, self._last_error, asked_s)
        if self._partial_since_s is not None and asked_s - self._partial_since_s >= REOPEN_AFTER_S:
            self._devices, self._partial_since_s = None, None
        call = in_thread("nvml", partial(self._read, processes))
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

    async def read_energy(self) -> Mapping[str, float]:
        """Return the joules that each GPU has taken, counted from some moment of its own; none where nothing tells.

        Total energy (Volta and later) where the driver has it, else power added up from one reading to the next.
        Waits `deadline_s` at most, and not at all while memory cannot be read either.
        """
        return await self._read_beside(self._read_energy) or {}

    async def read_names(self) -> tuple[str, ...]:
        """Return what the GPUs that were read are called; none where that is not told. Waits `deadline_s` at most."""
        return await self._read_beside(self._read_names) or ()

    async def _read_beside(self, read: Callable[[], _Out]) -> _Out | None:
        """None where nothing is told in time. Memory is read the same way: what is wrong is told there."""
        if self._devices is None or (self._hanging is not None and not self._hanging.done()):
            return None
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.shield(in_thread("nvml", read))
        except (TimeoutError, pynvml.NVMLError):
            return None

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

    def _read_energy(self) -> Mapping[str, float]:
        with self._one_at_a_time:
            return self._energy.read((d.uuid, d.handle) for d in self._devices or ())

    def _read_names(self) -> tuple[str, ...]:
        with self._one_at_a_time:
            return _that_answer(lambda device: str(pynvml.nvmlDeviceGetName(device.handle)), self._devices or ())

    def _read(self, processes: bool) -> GpusSeen:
        with self._one_at_a_time:
            if self._devices is None:
                self._devices, whole = _open_devices()
                self._partial_since_s = None if whole else self._clock.now().mono_s
            seen = _that_answer(lambda device: _see(device, processes), self._devices)
            if len(seen) < len(self._devices) and self._partial_since_s is None:
                # It may come back, or other MIG devices in its place: with new handles.
                self._partial_since_s = self._clock.now().mono_s
            return seen


def _open_devices() -> tuple[tuple[_Device, ...], bool]:
    """A new session, its handles, and whether every GPU gave one; old handles are void after a driver reload."""
    with contextlib.suppress(pynvml.NVMLError):  # there was none
        pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    count = pynvml.nvmlDeviceGetCount()
    if not count:
        raise NoGpu("wanted at least one GPU, found none")
    opened = _that_answer(_open_gpu, range(count))
    devices = tuple(device for of_gpu in opened for device in of_gpu)
    if not devices:
        raise NoGpu("every GPU is in MIG mode and has no MIG device: create some (nvidia-smi mig -cgi … -C)")
    return devices, len(opened) == count


def _open_gpu(index: int) -> tuple[_Device, ...]:
    """The GPU, or in MIG mode the MIG devices it is divided into, and not the GPU itself: CUDA computes on those alone,
    and only the privileged are told of the whole (NVML reference, "Multi Instance GPU Management")."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    if not _is_divided(handle):
        return (_Device(handle, str(pynvml.nvmlDeviceGetUUID(handle)), index),)
    found = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                raise
            continue  # numbers need not follow one another
        uuid = str(pynvml.nvmlDeviceGetUUID(part))
        found.append(_Device(part, uuid, MIG_INDICES * (index + 1) + number, index))
    return tuple(found)


def _is_divided(handle: object) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value in _NOT_TOLD:
            return False  # a GPU or a driver without MIG
        raise
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _that_answer(ask: Callable[[_In], _Out], of: Iterable[_In]) -> tuple[_Out, ...]:
    """The answers of those GPUs that give one: one that fell off the bus or needs a reset hides no other.

    Where none gives one the last error is raised, for then it is the driver or the session.
    """
    answers: list[_Out] = []
    failed: pynvml.NVMLError | None = None
    for one in of:
        try:
            answers.append(ask(one))
        except pynvml.NVMLError as error:
            failed = error
    if failed is not None and not answers:
        raise failed
    return tuple(answers)


def _see(device: _Device, processes: bool) -> GpuSeen:
    memory = pynvml.nvmlDeviceGetMemoryInfo(device.handle)
    used = _processes(device) if processes else None
    return GpuSeen(device.uuid, device.index, int(memory.total), int(memory.free), used, device.mig_of)


def _processes(device: _Device) -> dict[int, int] | None:
    """Bytes by pid; None where the driver does not tell them (WSL, MIG, permissions). Pids are the host's."""
    used: dict[int, int] = {}
    graphics = pynvml.nvmlDeviceGetGraphicsRunningProcesses
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, graphics):
        try:
            listed = ask(device.handle)
        except pynvml.NVMLError as error:
            if error.value not in _NOT_TOLD:
                raise
            if ask is graphics:
                continue  # a card without displays
            return None
        for process in listed:
            if process.usedGpuMemory is None:
                return None
            used[process.pid] = max(used.get(process.pid, 0), int(process.usedGpuMemory))
    return used
