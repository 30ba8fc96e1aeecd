"""Small adapters: host memory, processes, the clock, the instance lock, the service manager's socket."""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sleepd.adapters.clock import ScaledClock, SystemClock
from sleepd.adapters.host_memory import ProcHostMemory
from sleepd.adapters.instance_lock import AlreadyRunning, InstanceLock
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.systemd import SystemdNotifier, passed_descriptors, watchdog_interval_s
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec
from sleepd.core.seen import HostSeen

# host memory


def proc(root: Path, meminfo: str | None, pressure: str | None = None) -> ProcHostMemory:
    if meminfo is not None:
        (root / "meminfo").write_text(meminfo)
    if pressure is not None:
        (root / "pressure").mkdir()
        (root / "pressure" / "memory").write_text(pressure)
    return ProcHostMemory(root, SystemClock())


async def test_this_machines_own_memory() -> None:
    reading = await ProcHostMemory(Path("/proc"), SystemClock()).read()
    assert isinstance(reading, Known)
    assert 0 < reading.value.available_bytes < reading.value.total_bytes
    assert reading.asked_at_s <= reading.at_s


async def test_memory_and_pressure_are_read(tmp_path: Path) -> None:
    reading = await proc(
        tmp_path,
        "MemTotal:       1024 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n",
        "some avg10=12.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=99.00 avg60=0 avg300=0 total=0\n",
    ).read()
    assert isinstance(reading, Known)
    assert reading.value == HostSeen(1 << 20, 1 << 19, 0.125)


@pytest.mark.parametrize(
    "meminfo", [None, "", "MemTotal: 5 kB\n", "MemTotal: -5 kB\nMemAvailable: much kB\n", "\xff\0"]
)
async def test_unreadable_memory_is_missing_and_says_what_to_check(tmp_path: Path, meminfo: str | None) -> None:
    reading = await proc(tmp_path, meminfo).read()
    assert isinstance(reading, Missing)
    assert reading.reason is MissingReason.UNREADABLE
    assert str(tmp_path / "meminfo") in reading.detail
    assert "[host] proc_root" in reading.detail


@pytest.mark.parametrize("pressure", [None, "", "some avg10=a lot\n"])
async def test_no_pressure_is_no_opinion(tmp_path: Path, pressure: str | None) -> None:
    reading = await proc(tmp_path, "MemTotal: 2 kB\nMemAvailable: 1 kB\n", pressure).read()
    assert isinstance(reading, Known)
    assert reading.value.pressure_some_avg10 is None


async def test_a_kernel_without_psi_opens_the_file_and_refuses_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = proc(tmp_path, "MemTotal: 2 kB\nMemAvailable: 1 kB\n", "")
    read_text = Path.read_text

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        if self.name == "memory":
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return read_text(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    reading = await memory.read()
    assert isinstance(reading, Known)
    assert reading.value.pressure_some_avg10 is None


# processes


def cgroup(root: Path, path: str, *pids: int) -> None:
    directory = root / path
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


async def test_pids_of_a_cgroup_and_everything_below(tmp_path: Path) -> None:
    cgroup(tmp_path, "docker/ab12", 7)
    cgroup(tmp_path, "docker/ab12/engine", 9, 8)
    cgroup(tmp_path, "docker/other", 5)
    spec = ModelSpec("a", "http://127.0.0.1:1", cgroup="/docker/ab*")
    assert await ProcessFinder(tmp_path).find(spec) == (7, 8, 9)


@pytest.mark.parametrize(
    "path", ["vllm@a.service", "system.slice/vllm@a.service", "system.slice/system-vllm.slice/vllm@a.service"]
)
async def test_pids_of_a_unit_wherever_its_slice_is(tmp_path: Path, path: str) -> None:
    cgroup(tmp_path, path, 3)
    assert await ProcessFinder(tmp_path).find(ModelSpec("a", "http://127.0.0.1:1", unit="vllm@a.service")) == (3,)


_LISTENER = """
import socket, subprocess, sys
s = socket.socket(socket.AF_UNIX if sys.argv[1] else socket.AF_INET)
s.bind(sys.argv[1] or ("127.0.0.1", 0))
s.listen()
child = subprocess.Popen(["sleep", "60"])
print(child.pid, s.getsockname()[1] if not sys.argv[1] else "", flush=True)
sys.stdin.read()
child.kill(); child.wait()
"""


@pytest.mark.parametrize("unix", [False, True])
def test_pids_of_who_listens_at_the_address_and_its_children(tmp_path: Path, unix: bool) -> None:
    path = str(tmp_path / "s") if unix else ""
    command = [sys.executable, "-c", _LISTENER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        child, *port = listener.stdout.readline().split()
        spec = ModelSpec("a", f"unix:{path}" if unix else f"http://127.0.0.1:{port[0]}")
        assert set(asyncio.run(ProcessFinder(tmp_path).find(spec))) == {listener.pid, int(child)}
        listener.communicate("")
    assert asyncio.run(ProcessFinder(tmp_path).find(spec)) == ()


async def test_what_cannot_be_seen_is_empty(tmp_path: Path) -> None:
    finder = ProcessFinder(tmp_path / "gone")
    assert await finder.find(ModelSpec("a", "http://127.0.0.1:99999", unit="x.service")) == ()
    assert await finder.find(ModelSpec("a", "unix:/nowhere", cgroup="**/[")) == ()


# clock


async def test_a_scaled_clock_runs_and_sleeps_faster() -> None:
    clock, real = ScaledClock(1000.0), SystemClock()
    before, real_before = clock.now(), real.now()
    await asyncio.wait_for(clock.sleep(20.0), 5.0)
    after, real_after = clock.now(), real.now()
    assert after.mono_s - before.mono_s >= 20.0
    assert after.wall_s - before.wall_s == pytest.approx(after.mono_s - before.mono_s)
    assert real_after.mono_s - real_before.mono_s < 5.0


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_a_clock_cannot_stand_still(speed: float) -> None:
    with pytest.raises(ValueError, match="wanted a speed above 0"):
        ScaledClock(speed)


# instance lock


def test_one_daemon_per_state_directory(tmp_path: Path) -> None:
    first, second = InstanceLock(tmp_path / "state"), InstanceLock(tmp_path / "state")
    first.acquire()
    with pytest.raises(AlreadyRunning, match=rf"found another one \(pid {os.getpid()}\): stop it, or give this one"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()


def test_a_killed_daemon_leaves_no_lock_behind(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sleepd.adapters.instance_lock import InstanceLock;"
        "lock = InstanceLock(Path(sys.argv[1])); lock.acquire(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    lock = InstanceLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_state_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        InstanceLock(tmp_path / "file" / "state").acquire()


# the service manager


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications_reach_the_socket_once_each(tmp_path: Path, abstract: bool) -> None:
    address = f"\0sleepd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address)
        ear.settimeout(2.0)
        notifier = SystemdNotifier({"NOTIFY_SOCKET": address.replace("\0", "@")})
        notifier.ready()
        notifier.status("two\nlines")
        notifier.status("two\nlines")
        notifier.watchdog()
        notifier.reloading()
        notifier.stopping()
        heard = [ear.recv(4096).decode() for _ in range(5)]
        notifier.close()
    assert heard[:3] == ["READY=1", "STATUS=two lines", "WATCHDOG=1"]
    assert heard[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[4] == "STOPPING=1"


def test_a_manager_that_is_away_or_slow_hinders_nobody(tmp_path: Path) -> None:
    SystemdNotifier({}).ready()
    gone = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.ready()
    gone.close()
    gone.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "deaf"))
        deaf = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
        for _ in range(2000):
            deaf.watchdog()
        deaf.status("said once, not taken")
        ear.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ear.recv(4096)
        deaf.status("said once, not taken")
        assert ear.recv(4096) == b"STATUS=said once, not taken"
        deaf.close()


@pytest.mark.parametrize(
    ("environ", "wanted_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "42"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_interval(environ: dict[str, str], wanted_s: float | None) -> None:
    assert watchdog_interval_s(environ, 42) == wanted_s


_TAKER = """
import os, socket
from sleepd.adapters.systemd import passed_descriptors
found = passed_descriptors({**os.environ, "LISTEN_PID": str(os.getpid())}, os.getpid())
taken = {name: [socket.socket(fileno=fd) for fd in fds] for name, fds in found.items()}
print({name: [(s.getsockname(), os.get_inheritable(s.fileno())) for s in sockets] for name, sockets in taken.items()})
"""


def test_sockets_passed_by_the_manager_are_taken_by_name(tmp_path: Path) -> None:
    """In a process of its own: the numbers begin at 3, which here belongs to somebody else."""
    environ = {
        **os.environ,
        "LISTEN_FDS": "3",
        "LISTEN_FDNAMES": "gateway:gateway",
        **{name: str(tmp_path / name.lower()) for name in "ABC"},
    }
    code = f"""
import os, socket
for number, path in ((3, os.environ["A"]), (4, os.environ["B"]), (5, os.environ["C"])):
    s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()
    if s.fileno() != number: os.dup2(s.fileno(), number)
    s.detach()
{_TAKER}"""
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    a, b, c = ((str(tmp_path / name), False) for name in "abc")
    assert done.stdout.strip() == str({"gateway": [a, b], "unnamed-2": [c]})


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "x", "LISTEN_PID": "42"}]
)
def test_no_sockets_for_us(environ: dict[str, str]) -> None:
    assert passed_descriptors(environ, 42) == {}
