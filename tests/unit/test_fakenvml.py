"""The stand-in for libnvidia-ml.so.1, asked by the real pynvml in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sleepd.sim.ledger import Ledger, LedgerGpu
from tests.fakenvml import build as fakenvml

GIB = 1024**3

LOOK = """
import json, pynvml
pynvml.nvmlInit()
gpus = []
for index in range(pynvml.nvmlDeviceGetCount()):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    v1, v2 = pynvml.nvmlDeviceGetMemoryInfo(gpu), pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2)
    uuid = pynvml.nvmlDeviceGetUUID(gpu)
    compute = pynvml.nvmlDeviceGetComputeRunningProcesses
    again = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    gpus.append({
        "uuid": uuid,
        "index": pynvml.nvmlDeviceGetIndex(again),
        "name": pynvml.nvmlDeviceGetName(gpu),
        "milliwatts": pynvml.nvmlDeviceGetPowerUsage(gpu),
        "v1": [v1.total, v1.free, v1.used],
        "v2": [v2.total, v2.free, v2.used, v2.reserved],
        "compute": {p.pid: p.usedGpuMemory for p in compute(gpu)},
        "compute_v2": {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses_v2(gpu)},
        "graphics": [p.pid for p in pynvml.nvmlDeviceGetGraphicsRunningProcesses(gpu)],
    })
print(json.dumps({"driver": pynvml.nvmlSystemGetDriverVersion(), "gpus": gpus}))
pynvml.nvmlShutdown()
"""

TRY_EACH = """
import json, pynvml
codes = {}
def attempt(name, *arguments):
    try:
        answer = getattr(pynvml, name)(*arguments)
        codes[name] = 0
        return answer
    except pynvml.NVMLError as error:
        codes[name] = error.value
attempt("nvmlInit")
gpu = attempt("nvmlDeviceGetHandleByIndex", 0)
attempt("nvmlDeviceGetCount")
if gpu is not None:
    attempt("nvmlDeviceGetMemoryInfo", gpu)
    attempt("nvmlDeviceGetComputeRunningProcesses", gpu)
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return fakenvml.build(tmp_path_factory.mktemp("fakenvml"))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger.create(tmp_path / "gpus", [LedgerGpu("GPU-aaaa", 80 * GIB), LedgerGpu("GPU-bbbb", 24 * GIB)])


def ask(library: Path, directory: Path | None, script: str):
    """What the script printed, run under the stand-in."""
    environment = {**os.environ, **fakenvml.fool(directory or Path(), library)}
    if directory is None:
        del environment["SLEEPD_FAKE_NVML"]
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_tells_what_the_ledger_says(library, ledger, neighbour):
    ledger.claim(0, os.getpid(), 30 * GIB)
    ledger.claim(0, neighbour.pid, 5 * GIB)
    ledger.claim(1, neighbour.pid, 1)
    first, second = ask(library, ledger.directory, LOOK)["gpus"]
    assert (first["uuid"], first["index"], first["name"]) == ("GPU-aaaa", 0, "Make-believe GPU")
    assert first["v1"] == [80 * GIB, 45 * GIB, 35 * GIB]
    assert first["v2"] == [*first["v1"], 0]
    assert first["compute"] == {str(os.getpid()): 30 * GIB, str(neighbour.pid): 5 * GIB}
    assert first["compute_v2"] == first["compute"]
    assert first["graphics"] == []
    assert (second["uuid"], second["index"], second["compute"]) == ("GPU-bbbb", 1, {str(neighbour.pid): 1})


def test_an_empty_gpu_has_no_processes(library, ledger):
    first, _ = ask(library, ledger.directory, LOOK)["gpus"]
    assert (first["compute"], first["v1"]) == ({}, [80 * GIB, 80 * GIB, 0])


def test_the_list_holds_more_processes_than_the_first_call_has_room_for(library, ledger):
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(7)]
    try:
        for process in processes:
            ledger.claim(0, process.pid, process.pid)
        first, _ = ask(library, ledger.directory, LOOK)["gpus"]
        assert first["compute"] == {str(process.pid): process.pid for process in processes}
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_dead_and_zombies_hold_nothing(library, ledger, neighbour):
    ledger.claim(0, neighbour.pid, GIB)
    neighbour.kill()
    os.waitid(os.P_PID, neighbour.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert (ledger.directory / f"0.{neighbour.pid}").exists()
    first, _ = ask(library, ledger.directory, LOOK)["gpus"]
    assert (first["compute"], first["v1"][2]) == ({}, 0)


def test_a_host_without_gpus_is_no_error(library, tmp_path):
    host = Ledger.create(tmp_path / "none", [])
    host.read()
    assert ask(library, host.directory, LOOK) == {"driver": "make-believe", "gpus": []}


@pytest.mark.parametrize(
    ("injected", "failing"),
    [
        ("999", {"nvmlDeviceGetHandleByIndex", "nvmlDeviceGetCount"}),
        ("999 nvmlDeviceGetMemoryInfo", {"nvmlDeviceGetMemoryInfo"}),
        ("999 nvmlDeviceGetComputeRunningProcesses", {"nvmlDeviceGetComputeRunningProcesses"}),
        ("999 nvmlDeviceGetComputeRunningProcesses_v3", {"nvmlDeviceGetComputeRunningProcesses"}),
        ("999 nvmlDeviceGetCount_v2", {"nvmlDeviceGetCount"}),
    ],
)
def test_injected_errors_strike_what_they_name(library, ledger, injected, failing):
    ledger.claim(0, os.getpid(), GIB)
    (ledger.directory / "nvml_error").write_text(injected)
    codes = ask(library, ledger.directory, TRY_EACH)
    assert {name for name, code in codes.items() if code} == failing
    assert set(codes.values()) == {0, 999}


def test_init_fails_only_when_named(library, ledger):
    (ledger.directory / "nvml_error").write_text("9 nvmlInit")
    assert ask(library, ledger.directory, TRY_EACH)["nvmlInit"] == 9


def test_without_a_ledger_there_is_no_driver(library, tmp_path):
    assert ask(library, None, TRY_EACH)["nvmlInit"] == 9  # NVML_ERROR_DRIVER_NOT_LOADED
    assert ask(library, tmp_path / "nowhere", TRY_EACH)["nvmlInit"] == 9


def test_a_gpu_that_vanishes_is_lost(library, ledger):
    script = (
        "import json, pynvml\n"
        "pynvml.nvmlInit()\n"
        "gpu = pynvml.nvmlDeviceGetHandleByIndex(1)\n"
        f"open({str(ledger.directory / 'gpus')!r}, 'w').write('0 GPU-aaaa 5')\n"
        "try:\n"
        "    pynvml.nvmlDeviceGetMemoryInfo(gpu)\n"
        "except pynvml.NVMLError as error:\n"
        "    print(json.dumps([error.value, str(error)]))\n"
    )
    assert ask(library, ledger.directory, script) == [15, "GPU is lost"]


def test_a_missing_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fakenvml.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(fakenvml.BuildFailed, match="found neither 'cc' nor the ziglang wheel"):
        fakenvml.build(tmp_path)


MIG = """
import json, pynvml
pynvml.nvmlInit()
found = {"count": pynvml.nvmlDeviceGetCount(), "modes": [], "parts": {}}
for index in range(found["count"]):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        found["modes"].append(pynvml.nvmlDeviceGetMigMode(gpu)[0])
    except pynvml.NVMLError as error:
        found["modes"].append(-error.value)
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
        except pynvml.NVMLError as error:
            found["last"] = error.value
            continue
        held = pynvml.nvmlDeviceGetComputeRunningProcesses(part)
        memory = pynvml.nvmlDeviceGetMemoryInfo(part)
        found["parts"][pynvml.nvmlDeviceGetUUID(part)] = [memory.total, memory.free, [p.usedGpuMemory for p in held]]
    if found["modes"][-1] == 1:
        try:
            pynvml.nvmlDeviceGetMemoryInfo(gpu)
        except pynvml.NVMLError as error:
            found["whole"] = error.value
print(json.dumps(found))
"""


def test_mig_devices_are_found_through_their_gpu_and_measured_by_themselves(library, tmp_path) -> None:
    gpus = [LedgerGpu("GPU-aaaa", 80 * GIB), LedgerGpu("GPU-bbbb", 80 * GIB)]
    ledger = Ledger.create(tmp_path / "mig", [*gpus, *(LedgerGpu(f"MIG-{n}", 20 * GIB, mig_of=1) for n in "xy")])
    ledger.claim(3, os.getpid(), 5 * GIB)
    environ = {**os.environ, **fakenvml.fool(ledger.directory, library)}
    done = subprocess.run(
        [sys.executable, "-c", MIG], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == {
        "count": 2,
        "modes": [-3, 1],
        "parts": {"MIG-x": [20 * GIB, 20 * GIB, []], "MIG-y": [20 * GIB, 15 * GIB, [5 * GIB]]},
        "last": 6,
        "whole": 4,
    }
