"""What sleepd costs while nothing happens: processor and memory of the daemon, by number of models.

The real `sleepd run` with its SQLite file, the real pynvml on a stand-in for NVIDIA's library, and as many servers as
wanted in another process, which answer with the page that a real vLLM 0.32.0 gave. Goals, at 20 awake models polled
once a second: 1 % of a core, of it 0.3 % for the looks at servers, and 80 MiB. `--vllm` adds what a look costs the
other side: a real vLLM (CPU build, `make test-vllm` installs it).
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from figures import describe_machine
from rig import ROOT, Failed, Wire, fooled_nvml, process, scratch, wait_until

HERE = Path(__file__).parent / "footprint_side"
MIB = 1 << 20
WARM_S = 4.0
STAT = (
    "anon",
    "file",
    "kernel",
    "shmem",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "slab",
    "sock",
)
"""The lines of memory.stat that are read stand among as many others."""
GOAL_CPU, GOAL_LOOKS, GOAL_MIB = 1.0, 0.3, 80


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process (schedstat: nanoseconds, no ticks)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mib(pid: int) -> tuple[float, float]:
    """Return resident and proportional memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def configure(folder: Path, count: int) -> None:
    (folder / "config").mkdir()
    text = f'[daemon]\nstate_dir = "{folder}/state"\n[api]\nsocket = "{folder}/api.sock"\n'
    text += f'[host]\nreserve = "1MiB"\ncgroup_root = "{folder}/cgroup"\n'
    text += '[model_defaults]\ngpus = ["0"]\nvram = "1GiB"\nhost_ram = "1MiB"\n'
    for number in range(count):
        text += f'[models.m{number}]\nurl = "unix:{folder}/m{number}.sock"\ncgroup = "vllm/m{number}"\n'
    (folder / "config" / "sleepd.toml").write_text(text)
    for number in range(count):
        group = folder / "cgroup" / "vllm" / f"m{number}"
        group.mkdir(parents=True)
        (group / "memory.current").write_text("17179869184\n")
        (group / "memory.stat").write_text("".join(f"{name} 4096\n" for name in STAT))
        (group / "memory.max").write_text("max\n")
        (group / "memory.high").write_text("max\n")
        (group / "cgroup.procs").write_text("")
    (folder / "cgroup" / "cgroup.controllers").write_text("memory\n")


def looks(wire: Wire) -> float:
    """Return how many looks at servers brought a reading until now."""
    page = wire.demand("GET", "/metrics")
    found = re.search(r'^sleepd_poll_duration_seconds_count\{outcome="known",source="server"\} (.+)$', page, re.M)
    if found is None:
        raise Failed(f"wanted the count of looks on /metrics, found {page[-500:]}")
    return float(found[1])


def measure(count: int, seconds: float, env: dict[str, str]) -> tuple[float, ...]:
    """Return the daemon's share of a core in percent, RSS and PSS in MiB, the CPU seconds of a /metrics page, looks at
    servers a second (fewer than models: the daemon got less of the processor than it wanted), and seconds until all
    were found awake."""
    with scratch(Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None) as folder:
        configure(folder, count)
        farm = (sys.executable, str(HERE / "farm.py"), str(folder), str(count))
        run = (sys.executable, "-m", "sleepd.cli.daemon", "run", "--config", str(folder / "config"))
        with process(*farm, stdout=subprocess.PIPE) as servers:
            assert servers.stdout is not None
            servers.stdout.readline()
            with (folder / "log").open("w") as log, process(*run, env=env, stderr=log) as daemon:
                wire = Wire(f"unix:{folder / 'api.sock'}")

                def awake() -> bool:
                    if daemon.poll() is not None:
                        raise Failed(f"the daemon ended: {(folder / 'log').read_text()[-2000:]}")
                    time.sleep(count / 500)  # a status of a thousand models is work, too
                    try:
                        models = wire.demand("GET", "/v1/status")["models"]
                    except OSError:
                        return False
                    return sum(model["state"] == "awake" for model in models) == count

                began_s = time.monotonic()
                wait_until(f"{count} models to be awake", awake, 60 + count / 10)
                up_s = time.monotonic() - began_s
                time.sleep(WARM_S)
                asked_s = time.monotonic()  # what a page tells was counted when it was asked for
                looked = looks(wire)
                before_s, began_s = cpu_s(daemon.pid), time.monotonic()
                time.sleep(seconds)
                passed_s = time.monotonic() - began_s
                share = 100 * (cpu_s(daemon.pid) - before_s) / passed_s
                asked_s = time.monotonic() - asked_s
                looks_per_s = (looks(wire) - looked) / asked_s
                rss, pss = memory_mib(daemon.pid)
                pages, before_s, began_s = 5, cpu_s(daemon.pid), time.monotonic()
                for _ in range(pages):
                    wire.demand("GET", "/metrics")
                passed_s = time.monotonic() - began_s
                page_s = (cpu_s(daemon.pid) - before_s - share / 100 * passed_s) / pages
                return share, rss, pss, page_s, looks_per_s, up_s


def look_costs(count: int) -> tuple[float, float, float]:
    """Return the CPU seconds of one look, in turns: ours at an unused server, at a busy one, and a plain one."""
    with scratch(Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None) as folder:
        farm = (sys.executable, str(HERE / "farm.py"), str(folder), "1")
        with process(*farm, stdout=subprocess.PIPE) as servers:
            assert servers.stdout is not None
            servers.stdout.readline()
            kinds = (("m0", "ours", count), ("busy", "ours", count), ("m0", "plain", count // 50))
            took: tuple[list[float], ...] = ([], [], [])
            for _ in range(3):
                for found, (name, how, times) in zip(took, kinds, strict=True):
                    words = (sys.executable, str(HERE / "looks.py"), str(folder / f"{name}.sock"), how, str(times))
                    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
                    found.append(float(done.stdout))
            idle_s, busy_s, plain_s = map(statistics.median, took)
            return idle_s, busy_s, plain_s


def vllm_costs() -> tuple[float, float]:
    """Return the CPU seconds that a real vLLM spends on a filtered page and on the full one."""
    sys.path.insert(0, str(ROOT))
    from sleepd.adapters.vllm_metrics import SERIES
    from sleepd.sim.ledger import Ledger, LedgerGpu
    from tests.realvllm.server import RealServer

    with scratch(None) as folder:
        server = RealServer("tiny-1", folder, Ledger.create(folder / "gpus", [LedgerGpu("GPU-0", 4000 * MIB)]))
        server.start()
        try:
            server.wait_healthy()
            server.chat("Hello")
            wire = Wire(server.url)
            query = "&".join(f"name%5B%5D={name}" for name in SERIES)
            took = []
            for target, times in ((f"/metrics/?{query}", 200), ("/metrics", 40), ("/health", 200)):
                wire.demand("GET", target)
                before_s = cpu_s(server.pid)
                for _ in range(times):
                    wire.call("GET", target)
                took.append((cpu_s(server.pid) - before_s) / times)
            print(f"  (an empty answer, /health, costs it {took[2] * 1e3:.2f} ms; connections included in all three)")
            return took[0], took[1]
        finally:
            server.stop()


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--models", type=int, nargs="*", default=[20, 100, 300])
    asked.add_argument("--seconds", type=float, default=10.0)
    asked.add_argument("--looks", type=int, default=3000)
    asked.add_argument("--vllm", action="store_true", help="also what a look costs a real vLLM")
    options = asked.parse_args()
    print(describe_machine())
    ours_s, busy_s, plain_s = look_costs(options.looks)
    looks_share = 20 * ours_s * 100
    print(f"one look: {ours_s * 1e6:.0f} µs of CPU, at a busy server {busy_s * 1e6:.0f} µs;", end=" ")
    print(f"whole page and prometheus_client's parser: {plain_s * 1e6:.0f} µs")
    print(f"  ratio 1 : {plain_s / ours_s:.0f}; 20 looks a second: {looks_share:.2f} % of a core (goal {GOAL_LOOKS} %)")
    met = looks_share <= GOAL_LOOKS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each server, at both ends
    with fooled_nvml() as (_, env):
        for count in options.models:
            share, rss, pss, page_s, looks_per_s, up_s = measure(count, options.seconds, env)
            each = share / count * 1e4
            print(
                f"{count:5} models: {share:6.2f} % of a core ({each:.0f} µs a model and second), "
                f"RSS {rss:.1f} MiB, PSS {pss:.1f} MiB, a /metrics page {page_s * 1e3:.1f} ms, "
                f"{looks_per_s:.0f} looks a second, all awake after {up_s:.0f} s"
            )
            if count == 20:
                met = met and share <= GOAL_CPU and rss <= GOAL_MIB
                print(f"  goals at 20: {GOAL_CPU} % and {GOAL_MIB} MiB")
    if options.vllm:
        filtered_s, full_s = vllm_costs()
        print(f"vLLM's own CPU: {filtered_s * 1e3:.2f} ms a filtered page, {full_s * 1e3:.2f} ms the full one")
    print("goals met" if met else "goals NOT met")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
