"""What a sleep and a wake of a real vLLM cost on this GPU, by level: seconds, GPU memory that stays, host RAM.

`python -m benchmarks.gpu_sleep [--rounds 5]` starts one server alone on the GPU (tests/gpu/gpu_server.py says what it
needs and which variables it reads), sends vLLM's own calls, and prints a table. The page cache holds the model's files.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pynvml

from tests.gpu.gpu_host import agree, answer, order
from tests.gpu.gpu_server import GIB, Gpu, GpuServer, Vllm


def timed(act: Callable[[], None]) -> float:
    """How many seconds it took."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def weigh(vllm: Vllm, name: str) -> float:
    """GiB of the model's weights, as files."""
    return sum(file.stat().st_size for file in (vllm.models / name).glob("*.safetensors")) / GIB


def tell(what: str, took_s: list[float], gib: float) -> None:
    middle_s = statistics.median(took_s)
    print(f"| {what} | {middle_s:.2f} s | {min(took_s):.2f} - {max(took_s):.2f} s | {gib / middle_s:.1f} GiB/s |")


def measure(server: GpuServer, gib: float, rounds: int) -> None:
    """Print the table. Raises ServerFailed for an answer that is not 200."""
    first, available = answer(server), psutil.virtual_memory().available
    print(f"awake {server.used_bytes() / GIB:.2f} GiB")
    print("| what | middle | least - most | weights by time |\n|---|---|---|---|")
    tell("first sleep, level 1", [timed(lambda: order(server, "/sleep?level=1"))], gib)
    left_1 = server.used_bytes()
    tell("first wake", [timed(lambda: order(server, "/wake_up"))], gib)
    backup = available - psutil.virtual_memory().available
    slept, woke = [], []
    for _ in range(rounds):
        slept.append(timed(lambda: order(server, "/sleep?level=1")))
        woke.append(timed(lambda: order(server, "/wake_up")))
    tell("later sleeps, level 1", slept, gib)
    tell("later wakes, level 1", woke, gib)
    right = [agree(answer(server), first)]
    slept, weights, reloads, kv = [], [], [], []
    for _ in range(rounds):
        slept.append(timed(lambda: order(server, "/sleep?level=2")))
        left_2 = server.used_bytes()
        weights.append(timed(lambda: order(server, "/wake_up?tags=weights")))
        reloads.append(timed(lambda: order(server, "/collective_rpc", {"method": "reload_weights"})))
        order(server, "/reset_prefix_cache")
        kv.append(timed(lambda: order(server, "/wake_up?tags=kv_cache")))
        right.append(agree(answer(server), first))
    tell("sleep, level 2", slept, gib)
    tell("wake of the weights' memory", weights, gib)
    tell("reload of the weights", reloads, gib)
    tell("wake of the KV cache", kv, gib)
    print(f"left asleep: level 1 {left_1 / GIB:.2f} GiB, level 2 {left_2 / GIB:.2f} GiB")
    print(f"host RAM of the first backup: {backup / GIB:.1f} GiB for {gib:.1f} GiB of weights")
    print(f"answers right after waking: {sum(right)} of {len(right)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    gpu = Gpu.find()
    vllm = Vllm.find(gpu)
    name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(gpu.index))
    with tempfile.TemporaryDirectory(prefix="sleepd-gpu-", dir="/tmp") as directory:
        server = GpuServer("1", Path(directory), gpu, vllm)
        try:
            started_s = timed(lambda: (server.start(), server.wait_healthy()))
            version = server.request("GET", "/version").body["version"]
            gib = weigh(vllm, server.name)
            print(f"{name}, driver {pynvml.nvmlSystemGetDriverVersion()}, vLLM {version}, {gib:.1f} GiB of weights")
            print(f"started in {started_s:.1f} s")
            measure(server, gib, rounds)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
