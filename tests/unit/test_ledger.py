"""The make-believe GPU host: nobody gets bytes that are not there, and the dead hold none."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sleepd.sim.ledger import Ledger, LedgerGpu, OutOfMemory

GPU_BYTES = 1000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "gpus", [LedgerGpu("GPU-a", GPU_BYTES), LedgerGpu("GPU-b", 2 * GPU_BYTES)])


def test_a_new_host_is_empty(ledger):
    assert [(gpu.index, gpu.uuid, gpu.total_bytes, gpu.used_by_pid) for gpu in ledger.read()] == [
        (0, "GPU-a", GPU_BYTES, {}),
        (1, "GPU-b", 2 * GPU_BYTES, {}),
    ]


def test_a_claim_sets_what_a_process_holds_on_one_gpu(ledger, neighbour):
    ledger.claim(0, os.getpid(), 300)
    ledger.claim(0, neighbour.pid, 200)
    ledger.claim(0, os.getpid(), 400)
    first, second = ledger.read()
    assert first.used_by_pid == {os.getpid(): 400, neighbour.pid: 200}
    assert (first.used_bytes, first.free_bytes) == (600, 400)
    assert second.used_by_pid == {}


def test_what_does_not_fit_changes_nothing(ledger, neighbour):
    ledger.claim(0, neighbour.pid, 700)
    ledger.claim(0, os.getpid(), 100)
    with pytest.raises(OutOfMemory, match=r"CUDA Error: out of memory at") as caught:
        ledger.claim(0, os.getpid(), 301)
    assert (caught.value.wanted_bytes, caught.value.free_bytes, caught.value.total_bytes) == (201, 200, GPU_BYTES)
    assert ledger.read()[0].used_by_pid == {os.getpid(): 100, neighbour.pid: 700}
    ledger.claim(0, os.getpid(), 300)
    assert ledger.read()[0].free_bytes == 0


def test_bytes_can_be_given_back_on_a_gpu_that_is_overfull(ledger):
    ledger.claim(0, os.getpid(), 900)
    (ledger.directory / "gpus").write_text("0 GPU-a 500\n")
    ledger.claim(0, os.getpid(), 800)
    assert (ledger.read()[0].used_bytes, ledger.read()[0].free_bytes) == (800, 0)


def test_claiming_zero_or_forgetting_leaves_no_entry(ledger, neighbour):
    for index in (0, 1):
        ledger.claim(index, os.getpid(), 10)
        ledger.claim(index, neighbour.pid, 20)
    ledger.claim(0, os.getpid(), 0)
    ledger.forget(neighbour.pid)
    assert [gpu.used_by_pid for gpu in ledger.read()] == [{}, {os.getpid(): 10}]


def test_the_dead_hold_nothing_and_their_entries_go(ledger, neighbour):
    ledger.claim(0, neighbour.pid, GPU_BYTES)
    neighbour.kill()
    os.waitid(os.P_PID, neighbour.pid, os.WEXITED | os.WNOWAIT)  # a zombie now: nobody has collected it
    assert ledger.read()[0].used_by_pid == {}
    assert not (ledger.directory / f"0.{neighbour.pid}").exists()
    ledger.claim(0, os.getpid(), GPU_BYTES)


def test_racing_processes_never_get_more_than_there_is(ledger):
    claimer = (
        "import os, sys; from sleepd.sim.ledger import Ledger, OutOfMemory\n"
        "ledger, got = Ledger(sys.argv[1]), 0\n"
        "try:\n"
        "    while True:\n"
        "        ledger.claim(0, os.getpid(), got + 7)\n"
        "        got += 7\n"
        "except OutOfMemory:\n"
        "    print(got, flush=True)\n"
        "sys.stdin.read()\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", claimer, ledger.directory],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        got = {racer.pid: int(racer.stdout.readline()) for racer in racers}
        use = ledger.read()[0]
        assert use.used_by_pid == {pid: bytes_ for pid, bytes_ in got.items() if bytes_}
        assert GPU_BYTES - 7 < use.used_bytes <= GPU_BYTES
    finally:
        for racer in racers:
            racer.communicate()


def test_creating_again_starts_over(ledger):
    ledger.claim(0, os.getpid(), 10)
    (ledger.directory / "nvml_error").write_text("999")
    fresh = Ledger.create(ledger.directory, [LedgerGpu("GPU-c", 5)])
    assert [(gpu.uuid, gpu.used_by_pid) for gpu in fresh.read()] == [("GPU-c", {})]
    assert not (ledger.directory / "nvml_error").exists()


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ([LedgerGpu("GPU a", 1)], "without spaces"),
        ([LedgerGpu("", 1)], "without spaces"),
        ([LedgerGpu("GPU-a", 0)], "above 0 bytes"),
        ([LedgerGpu("GPU-a", 1), LedgerGpu("GPU-a", 2)], "one twice"),
    ],
)
def test_impossible_hosts_are_refused(tmp_path, gpus, message):
    with pytest.raises(ValueError, match=message):
        Ledger.create(tmp_path, gpus)


def test_wrong_use_is_told(ledger, tmp_path):
    with pytest.raises(LookupError, match="wanted GPU 2"):
        ledger.claim(2, os.getpid(), 1)
    with pytest.raises(ValueError, match="found -1"):
        ledger.claim(0, os.getpid(), -1)
    with pytest.raises(FileNotFoundError, match="wanted a GPU ledger"):
        Ledger(tmp_path / "nowhere")


def test_out_of_memory_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(OutOfMemory(3, 2, 1)))
    assert (error.wanted_bytes, error.free_bytes, error.total_bytes) == (3, 2, 1)
