"""What a benchmark measures: a real daemon, a server, and the wire to both. It stops whatever it started."""

import http.client
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sleepd.sim.ledger import Ledger, LedgerGpu

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
START_S = 60.0
CALL_S = 600.0
MODEL = "bench"


class Failed(Exception):
    """What was wanted, what was found."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any


class Wire:
    """Blocking HTTP, a new connection for each call as curl makes one; `address` is http://… or unix:PATH."""

    def __init__(self, address: str) -> None:
        self.address = address

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """Return the answer, parsed where it is JSON. Waits `CALL_S` for each read at most."""
        connection = self._connection()
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            raw = response.read()
            return Answer(response.status, json.loads(raw) if raw[:1] in (b"{", b"[") else raw.decode())
        finally:
            connection.close()

    def demand(self, method: str, path: str, body: object = None) -> Any:
        """Return the body of a 200, or raise Failed."""
        answer = self.call(method, path, body)
        if answer.status != 200:
            raise Failed(f"wanted 200 of {method} {path} at {self.address}, found {answer.status}: {answer.body}")
        return answer.body

    def _connection(self) -> http.client.HTTPConnection:
        if not self.address.startswith("unix:"):
            where = urlsplit(self.address)
            return http.client.HTTPConnection(where.hostname or "", where.port, timeout=CALL_S)
        connection = http.client.HTTPConnection("localhost", timeout=CALL_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(CALL_S)
        connection.sock.connect(self.address.removeprefix("unix:"))
        return connection


def wait_until(what: str, holds: Callable[[], bool], within_s: float = START_S) -> None:
    """Return when `holds()`; raise Failed after `within_s`."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise Failed(f"wanted {what} within {within_s:g} s")
        time.sleep(0.01)


@contextmanager
def process(*words: str, env: dict[str, str] | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command for the length of the block: told to end, and after 10 s made to."""
    running = subprocess.Popen(words, env={**os.environ, **(env or {})}, text=True, **options)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        if running.stdout:
            running.stdout.close()


@contextmanager
def fake_server(ledger: Path) -> Iterator[str]:
    """A simulated vLLM 0.32 whose calls take no time of their own; the value is its address."""
    words = ("fake-vllm", "--port", "0", "--name", MODEL, "--ledger", str(ledger), "--gpu", "0", "--pace-ms", "0")
    quick = ("--sleep-seconds", "0", "--wake-seconds", "0", "--reload-seconds", "0")
    with process(sys.executable, "-m", "sleepd.cli.daemon", *words, *quick, stdout=subprocess.PIPE) as server:
        yield _first_line(server).rpartition(" on ")[2]


def _first_line(running: subprocess.Popen[str]) -> str:
    """The line by which a process tells that it is ready. Waits `START_S` at most."""
    assert running.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda read=running.stdout.readline: lines.put(read()), daemon=True).start()
    try:
        line = lines.get(timeout=START_S)
    except queue.Empty:
        line = ""
    if not line:
        raise Failed(f"wanted {' '.join(running.args[:4])} to say where it listens, found nothing")
    return line.strip()


@contextmanager
def fooled_nvml() -> Iterator[tuple[Path, dict[str, str]]]:
    """A new ledger of one 80 GiB GPU, and the environment in which NVML is the stand-in that reads it.

    In memory: the simulated server maps by writing there, and a GPU is no disk.
    """
    with scratch(Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None) as folder:
        ledger = folder / "ledger"
        Ledger.create(ledger, [LedgerGpu("GPU-bench-0", 80 * GIB)])
        build = [sys.executable, str(ROOT / "tests" / "fakenvml" / "build.py"), str(folder / "nvml")]
        library = Path(subprocess.run(build, check=True, capture_output=True, text=True, timeout=300).stdout.strip())
        yield ledger, {"LD_LIBRARY_PATH": str(library.parent), "SLEEPD_FAKE_NVML": str(ledger)}


def configuration(url: str, state: Path, api: Path, poll_every: str, max_level: int, vram: str, gpu: str) -> str:
    """A daemon that does nothing by itself, and takes a server back at once after somebody else used it."""
    return f"""
[daemon]
state_dir  = "{state}"
poll_every = "{poll_every}"
[api]
socket = "{api}"
[host]
reserve = "1MiB"
[recovery]
foreign_hold_down = "0s"
[models.{MODEL}]
url       = "{url}"
gpus      = ["{gpu}"]
vram      = "{vram}"
host_ram  = "1MiB"
min_awake = "0s"
max_level = {max_level}
"""


@contextmanager
def daemon(text: str, folder: Path, env: dict[str, str]) -> Iterator[Wire]:
    """`sleepd run` with this configuration; the value speaks to its socket once the model is awake."""
    masked = folder / "config" / "conf.d"
    masked.mkdir(parents=True)
    for shipped in ("10-idle.toml", "20-ram-pressure.toml"):
        (masked / shipped).touch()
    (folder / "config" / "sleepd.toml").write_text(text)
    log = folder / "daemon.log"
    command = (sys.executable, "-m", "sleepd.cli.daemon", "run", "--config", str(folder / "config"))
    with log.open("w") as lines, process(*command, env=env, stderr=lines) as running:
        wire = Wire(f"unix:{folder / 'api.sock'}")

        def ready() -> bool:
            if running.poll() is not None:
                raise Failed(f"the daemon ended with status {running.returncode}: {log.read_text()[-2000:]}")
            try:
                return model(wire)["state"] == "awake"
            except OSError:
                return False

        try:
            wait_until("the daemon to find the server awake", ready)
            yield wire
        except Failed as failure:
            raise Failed(f"{failure}\n{log.read_text()[-3000:]}") from failure


def model(wire: Wire) -> Any:
    return wire.demand("GET", f"/v1/models/{MODEL}")


@contextmanager
def scratch(under: Path | None) -> Iterator[Path]:
    """A folder on a real disk, gone afterwards."""
    base = under or ROOT / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
