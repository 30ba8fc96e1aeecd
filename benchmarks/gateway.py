"""What the gateway costs, beside no proxy, nginx and a plain aiohttp proxy, interleaved in one run; medians of rounds.

Main figure: CPU of the proxy's processes (/proc/PID/task/*/schedstat) per request and per streamed event. Load and
server are C (`gateway_side/`), pinned with each other to one CPU, the proxy to another. Exit status: 0 every goal met,
1 some missed, 2 could not measure.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import describe_machine
from gateway_side.serve import KEY

SIDE = Path(__file__).resolve().parent / "gateway_side"
LOAD_CPU, PROXY_CPU = "0", "1"
STREAMS, EVENTS, INTERVAL_US = 128, 100, 20_000
PHASES = ("uniform", "burst")
NGINX = """
worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_requests 100000000;
  {servers}
}}
"""
NGINX_SERVER = """
  upstream u{port} {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://u{port}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
"""


@dataclass
class Proxy:
    """One contender: where it is reached for each phase, whose CPU counts, and what was measured."""

    name: str
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> Iterator[int]:
    """Yield a process and its children."""
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        yield from family(int(child))


def cpu_us(proxy: Proxy) -> float:
    """Return the CPU time that a proxy's processes have used."""
    if proxy.process is None:
        return 0.0
    tasks = [task for pid in family(proxy.process.pid) for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def pss_kib(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


class Bench:
    """Everything that runs; `with Bench() as bench`, and nothing is left behind."""

    def __enter__(self) -> "Bench":
        self._open = ExitStack()
        self.root = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="sleepd-bench-")))
        for program in ("upstream", "load"):
            built = ["cc", "-O2", "-Wall", "-o", str(self.root / program), str(SIDE / f"{program}.c")]
            subprocess.run(built, check=True)
        self.upstreams = {phase: free_port() for phase in PHASES}
        for phase, port in self.upstreams.items():
            self.start(LOAD_CPU, str(self.root / "upstream"), str(port), phase, str(EVENTS), str(INTERVAL_US))
        self.proxies = [Proxy("direct", self.upstreams)]
        self._start_nginx()
        self.proxies += [self._start_python("sleepd", "serve.py"), self._start_python("aiohttp", "aiohttp_proxy.py")]
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def start(self, cpu: str, *command: str, ready: bool = True) -> "subprocess.Popen[bytes]":
        """Return a process pinned to one CPU, once it said a line."""
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(["taskset", "-c", cpu, *command], env=environ, **pipes)  # type: ignore[call-overload]
        self._open.callback(process.wait)
        self._open.callback(process.terminate)  # nginx takes its workers along
        if ready:
            process.stdout.readline()
        return process  # type: ignore[no-any-return]

    def _start_nginx(self) -> None:
        if shutil.which("nginx") is None:
            print("nginx is missing (Debian: apt-get install nginx-light): ratios to it cannot be told")
            return
        ports = {phase: free_port() for phase in PHASES}
        servers = "".join(NGINX_SERVER.format(port=ports[p], upstream=self.upstreams[p]) for p in PHASES)
        (self.root / "nginx.conf").write_text(NGINX.format(root=self.root, servers=servers))
        command = ("nginx", "-e", f"{self.root}/error.log", "-c", f"{self.root}/nginx.conf")
        self.proxies.append(Proxy("nginx", ports, self.start(PROXY_CPU, *command, ready=False)))
        time.sleep(0.5)

    def _start_python(self, name: str, script: str) -> Proxy:
        port = free_port()
        models = [f"{model}={self.upstreams[phase]}" for phase in PHASES for model in (phase, f"asleep-{phase}")]
        more = [f"asleep-{n}={self.upstreams['burst']}" for n in range(8)] if name == "sleepd" else []
        process = self.start(PROXY_CPU, sys.executable, str(SIDE / script), str(port), *models, *more)
        return Proxy(name, dict.fromkeys(PHASES, port), process)

    def request(self, model: str, *, stream: bool = False) -> Path:
        """Return the file of a request: 884 bytes of body, `model` behind `messages`, as the OpenAI SDK sends it."""
        told = {"messages": [{"role": "user", "content": "x" * 780}], "model": model, "stream": stream, "n": 1}
        body = json.dumps(told).encode()
        fields = {
            "Host": "127.0.0.1:8800",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Content-Type": "application/json",
            "User-Agent": "OpenAI/Python 3.51.0",
            "X-Stainless-Lang": "python",
            "X-Stainless-Retry-Count": "0",
            "Authorization": f"Bearer {KEY}",
            "Content-Length": str(len(body)),
        }
        head = "POST /v1/chat/completions HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n"
        path = self.root / f"{model}-{stream}.http"
        path.write_bytes(head.encode() + body)
        return path

    def load(self, port: int, request: Path, *mode: object) -> dict[str, Any]:
        command = ["taskset", "-c", LOAD_CPU, str(self.root / "load"), str(port), str(request), *map(str, mode)]
        told = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
        found: dict[str, Any] = json.loads(told)
        if found["errors"] or found["different"]:
            raise RuntimeError(f"{mode}: {found}")
        return found


def measure(bench: Bench, proxy: Proxy, seconds: float) -> None:
    """Take one round of every figure but the wake's."""
    plain = bench.request("burst")
    before = cpu_us(proxy)
    found = bench.load(proxy.ports["burst"], plain, "closed", 64, seconds)
    proxy.note("us/request", (cpu_us(proxy) - before) / found["done"])
    proxy.note("requests/s", found["done"] / found["seconds"])
    found = bench.load(proxy.ports["burst"], plain, "open", 256, seconds, 1000)
    proxy.note("p50 us at 1000/s", found["p50_us"])
    proxy.note("p99 us at 1000/s", found["p99_us"])
    for phase in PHASES:
        before = cpu_us(proxy)
        found = bench.load(proxy.ports[phase], bench.request(phase, stream=True), "stream", STREAMS)
        wanted = STREAMS * EVENTS
        if found["samples"] != wanted:
            raise RuntimeError(f"{proxy.name} {phase}: wanted {wanted} events, found {found['samples']}")
        proxy.note(f"us/event {phase}", (cpu_us(proxy) - before) / wanted)
        proxy.note(f"event p50 us {phase}", found["p50_us"])
        proxy.note(f"together {phase}", found["together"] / wanted)


@dataclass(frozen=True)
class Wake:
    """From the gate's opening to the first answer, for each further one (and the gateway's CPU), and held meanwhile."""

    first_ms: float
    each_us: float
    each_cpu_us: float
    held_kib: float


def measure_wake(bench: Bench, proxy: Proxy, model: str, waiters: int) -> Wake:
    """Let requests wait, open the gate, and see them answered."""
    assert proxy.process is not None
    before = pss_kib(proxy.process.pid)
    request = bench.request(model)
    command = (str(bench.root / "load"), str(proxy.ports["burst"]), str(request), "hold", str(waiters), "60")
    load = bench.start(LOAD_CPU, *command)

    def order(line: str) -> int:
        proxy.process.stdin.write(f"{line}\n".encode())  # type: ignore[union-attr]
        proxy.process.stdin.flush()  # type: ignore[union-attr]
        return int(proxy.process.stdout.readline())  # type: ignore[union-attr]

    while order(f"held {model}") < waiters:
        time.sleep(0.05)
    each_kib = (pss_kib(proxy.process.pid) - before) / waiters
    used_us = cpu_us(proxy)
    opened_ns = order(f"wake {model}")
    assert load.stdout is not None
    found = json.loads(load.stdout.readline())
    if found["done"] != waiters or found["errors"]:
        raise RuntimeError(f"wake: {found}")
    first_ms = (found["first_ns"] - opened_ns) / 1e6
    each_us = (found["last_ns"] - found["first_ns"]) / 1e3 / (waiters - 1)
    return Wake(first_ms, each_us, (cpu_us(proxy) - used_us) / waiters, each_kib)


def print_table(proxies: list[Proxy]) -> None:
    names = list(proxies[0].figures)
    print("\n| | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for proxy in proxies:
        print(f"| {proxy.name} | " + " | ".join(f"{proxy.median(name):.4g}" for name in names) + " |")


def goals(bench: Bench, wakes: list[Wake], held_kib: float) -> Iterator[tuple[str, float, float]]:
    """Yield each goal: what, found, at most."""
    found = {proxy.name: proxy for proxy in bench.proxies}
    ours, direct = found["sleepd"], found["direct"]
    if "nginx" in found:
        nginx = found["nginx"]
        yield "CPU per request, 64 connections, of nginx's", ours.median("us/request") / nginx.median("us/request"), 2.0
        p50 = "p50 us at 1000/s"
        added = (ours.median(p50) - direct.median(p50)) / (nginx.median(p50) - direct.median(p50))
        yield "added p50 at 1000/s, of nginx's", added, 1.3
        for phase in PHASES:
            name = f"us/event {phase}"
            yield f"CPU per streamed event, {phase}, of nginx's", ours.median(name) / nginx.median(name), 1.25
    yield "first of 512 waiters answered, ms", statistics.median(w.first_ms for w in wakes), 1.0
    yield "each further of 512, us", statistics.median(w.each_us for w in wakes), 10.0
    yield "KiB per held request, 1000 held", held_kib, 40.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each closed and open loop")
    args = parser.parse_args()
    missing = [program for program in ("cc", "taskset") if shutil.which(program) is None]
    if missing:
        print(f"cannot measure: {' and '.join(missing)} missing")
        return 2
    print(describe_machine())
    with Bench() as bench:
        for number in range(args.rounds):
            for proxy in bench.proxies:
                measure(bench, proxy, args.seconds)
            print(f"round {number + 1} of {args.rounds}", flush=True)
        sleepd = next(proxy for proxy in bench.proxies if proxy.name == "sleepd")
        wakes = [measure_wake(bench, sleepd, f"asleep-{n}", 512) for n in range(5)]
        wakes_of_1000 = measure_wake(bench, sleepd, "asleep-7", 1000)
        print_table(bench.proxies)
        for w in (*wakes, wakes_of_1000):
            each = f"each further {w.each_us:.1f} us ({w.each_cpu_us:.1f} of CPU)"
            print(f"wake: first after {w.first_ms:.2f} ms, {each}, {w.held_kib:.1f} KiB held each")
        missed = 0
        print()
        for what, found, most in goals(bench, wakes, wakes_of_1000.held_kib):
            missed += found > most
            print(f"{'missed' if found > most else 'met':>6}  {what}: {found:.2f}, wanted at most {most:g}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
