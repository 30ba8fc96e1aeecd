"""What sleepd reads of a GPU is what NVIDIA's own program says of it."""

from __future__ import annotations

import asyncio
import subprocess
import time

import pytest

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.nvml import NvmlGpus
from sleepd.core.model import Known
from sleepd.core.seen import GpuSeen
from tests.gpu.gpu_host import GpuPair
from tests.gpu.gpu_server import GIB, MIB, Gpu, Job

pytestmark = pytest.mark.gpu

ROUNDED_BYTES = 2 * MIB
"""nvidia-smi prints whole MiB, and total, used and reserved are rounded one by one."""


def ask_smi(query: str, gpu: Gpu) -> list[list[str]]:
    """The lines that nvidia-smi prints for this GPU, split."""
    command = ["nvidia-smi", f"--id={gpu.uuid}", f"--query-{query}", "--format=csv,noheader,nounits"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [[word.strip() for word in line.split(",")] for line in printed.splitlines()]


def read_gpu(gpu: Gpu) -> GpuSeen:
    """As the daemon reads it."""

    async def read() -> GpuSeen:
        reading = await NvmlGpus(SystemClock()).read(processes=True)
        assert isinstance(reading, Known), reading
        return next(seen for seen in reading.value if seen.uuid == gpu.uuid)

    return asyncio.run(read())


def test_bytes_names_and_processes_are_those_of_nvidia_smi(pair: GpuPair) -> None:
    seen = read_gpu(pair.gpu)
    [[index, uuid, total, free]] = ask_smi("gpu=index,uuid,memory.total,memory.free", pair.gpu)
    assert (str(seen.index), seen.uuid) == (index, uuid)
    assert abs(seen.total_bytes - int(total) * MIB) <= ROUNDED_BYTES
    assert abs(seen.free_bytes - int(free) * MIB) <= ROUNDED_BYTES
    listed = {int(pid): int(used) * MIB for pid, used in ask_smi("compute-apps=pid,used_memory", pair.gpu)}
    assert seen.used_by_pid is not None
    assert set(seen.used_by_pid) == set(listed) == {server.engine_pid for server in pair.servers}
    for pid, held in listed.items():
        assert abs(seen.used_by_pid[pid] - held) <= ROUNDED_BYTES


def test_a_foreign_process_is_seen_with_its_bytes_and_gone_when_it_ends(pair: GpuPair) -> None:
    free_before_bytes = read_gpu(pair.gpu).free_bytes
    with Job(pair.vllm, pair.gpu, 2 * GIB) as job:
        seen = read_gpu(pair.gpu)
        assert seen.used_by_pid is not None
        assert 2 * GIB < seen.used_by_pid[job.pid] < 3 * GIB
        assert abs(free_before_bytes - seen.free_bytes - seen.used_by_pid[job.pid]) < 128 * MIB
    seen = read_gpu(pair.gpu)
    assert job.pid not in (seen.used_by_pid or {})
    assert abs(free_before_bytes - seen.free_bytes) < 16 * MIB


def test_energy_is_counted(gpu: Gpu) -> None:
    async def read() -> tuple[float, float]:
        gpus = NvmlGpus(SystemClock())
        await gpus.read(processes=False)
        first = await gpus.read_energy()
        await asyncio.sleep(1.0)
        return first[gpu.uuid], (await gpus.read_energy())[gpu.uuid]

    before_j, after_j = asyncio.run(read())
    assert 5 < after_j - before_j < 2000, "a data centre GPU draws tens of watts idle"


def test_asking_takes_milliseconds(gpu: Gpu, record_property) -> None:
    async def ask(processes: bool) -> list[float]:
        gpus, took = NvmlGpus(SystemClock()), []
        for _ in range(50):
            began = time.perf_counter()
            assert isinstance(await gpus.read(processes=processes), Known)
            took.append(1000 * (time.perf_counter() - began))
        return sorted(took[1:])

    for processes in (False, True):
        took_ms = asyncio.run(ask(processes))
        record_property(
            "reported",
            f"NVML {'with' if processes else 'without'} processes: p50 {took_ms[24]:.2f} ms, most {took_ms[-1]:.2f} ms",
        )
        assert took_ms[24] < 500
