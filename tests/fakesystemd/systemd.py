"""Units that are real processes, started, stopped and started again as systemd does it, told over a real bus."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dbus_fast import Message, Variant

from tests.fakesystemd.bus import ROOT, Bus, Refusal, Reply

_DENIED = "org.freedesktop.DBus.Error.AccessDenied"
RESTART_S = 0.3


def job_path(number: int) -> str:
    return f"{ROOT}/job/{number}"


def _is_dead(process: Process | None) -> bool:
    return process is not None and process.poll() is not None


class Process(Protocol):
    """What a unit needs of its main process: subprocess.Popen, or whatever behaves so."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


@dataclass
class Unit:
    """One unit; `spawn` makes its main process. `leftovers`: what outlives the main process in its cgroup."""

    name: str
    spawn: Callable[[], Process]
    restarts: bool = True
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    file_state: str = "enabled"
    wanted_by: Sequence[str] = ()
    process: Process | None = None
    starts: int = 0
    job: tuple[int, str] | None = None
    began_s: float = 0.0
    left_s: float = 0.0
    """When it last began to start, and last left the active state, by the wall clock."""
    stop_s: float = 0.0
    """How long its stop takes before the process is killed."""
    leftovers: list[Process] = field(default_factory=list)
    stop_usec: int = 30_000_000
    kept_most: int = 0
    """FileDescriptorStoreMax="""
    kill_mode: str = "control-group"
    """KillMode=, as it is told: what a stop leaves behind is `leftovers`."""
    oom_policy: str = "stop"
    sends_sigkill: bool = True

    @property
    def path(self) -> str:
        return f"{ROOT}/unit/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in self.name)

    @property
    def pids(self) -> list[int]:
        alive = [p for p in (self.process, *self.leftovers) if p is not None and p.poll() is None]
        return [p.pid for p in alive]


class FakeSystemd:
    """A manager on a bus of its own. `denied`: (verb, unit) that polkit would refuse."""

    def __init__(self, socket_path: Path) -> None:
        self.units: dict[str, Unit] = {}
        self.denied: set[tuple[str, str]] = set()
        self.mute_signals = False
        self._lock = threading.RLock()
        self._jobs = 0
        self._ended = False
        self.bus = Bus(socket_path, self._handle)
        threading.Thread(target=self._watch, daemon=True).start()

    def add(self, name: str, spawn: Callable[[], Process], **keys: Any) -> Unit:
        unit = self.units[name] = Unit(name, spawn, **keys)
        return unit

    def close(self) -> None:
        """Nothing is left running."""
        self._ended = True
        self.bus.close()
        with self._lock:
            for unit in self.units.values():
                for process in (unit.process, *unit.leftovers):
                    if process is not None and process.poll() is None:
                        process.kill()
                        process.wait()

    def start(self, unit: Unit) -> None:
        """systemctl start, in its own thread's time."""
        with self._lock:
            if unit.active in ("active", "activating") and unit.process is not None:
                return
            unit.process = unit.spawn()
            unit.starts += 1
            unit.began_s = time.time()
            unit.active, unit.sub, unit.result = "active", "running", "success"

    def stop(self, unit: Unit, result: str = "success") -> None:
        """systemctl stop: SIGTERM, then SIGKILL of everything in the cgroup."""
        with self._lock:
            if unit.active in ("inactive", "failed"):
                return
            if unit.active == "active":
                unit.left_s = time.time()
            unit.active, unit.sub = "deactivating", "stop-sigterm"
            process = unit.process
        time.sleep(unit.stop_s)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with self._lock:
            unit.process = None
            unit.active, unit.sub, unit.result = "inactive" if result == "success" else "failed", "dead", result

    def _watch(self) -> None:
        """What systemd does by itself: a main process that ended is started again, or its unit fails."""
        while not self._ended:
            time.sleep(0.02)
            with self._lock:
                dead = [
                    u
                    for u in self.units.values()
                    if u.active == "active" and u.process and u.process.poll() is not None
                ]
                for unit in dead:
                    unit.process, unit.result, unit.left_s = None, "signal", time.time()
                    unit.active, unit.sub = ("activating", "auto-restart") if unit.restarts else ("failed", "failed")
                    if unit.restarts:
                        threading.Timer(RESTART_S, self._restart, (unit,)).start()

    def _restart(self, unit: Unit) -> None:
        with self._lock:
            if unit.sub == "auto-restart" and not self._ended:
                unit.active = "inactive"
                self.start(unit)

    # what is asked over the bus

    def _handle(self, message: Message) -> Reply:
        with self._lock:
            if message.member == "Get":
                return "v", [self._property(str(message.path), *message.body)]
            if message.member == "ListUnitsByNames":
                return "a(ssssssouso)", [[self._row(name) for name in message.body[0]]]
            if message.member == "GetUnitByPID":
                return "o", [self._path_of(message.body[0])]
            if message.member == "GetUnitProcesses":
                return "a(sus)", [self._processes(message)]
            if message.member in ("StartUnit", "StopUnit"):
                return "o", [self._job(message)]
            if message.member == "KillUnit":
                return self._kill(message)
        return "", []

    def _processes(self, message: Message) -> list[list[Any]]:
        unit = self._unit(message)
        if unit.active == "inactive" and not unit.pids:
            # systemd unloads a unit of which nothing runs (seen on 252).
            raise Refusal("org.freedesktop.systemd1.NoSuchUnit", f"Unit {unit.name} not loaded.")
        return [[f"/system.slice/{unit.name}", pid, "vllm"] for pid in unit.pids]

    def _unit(self, message: Message) -> Unit:
        name = message.body[0]
        if name not in self.units:
            raise Refusal("org.freedesktop.systemd1.NoSuchUnit", f"Unit {name} not found.")
        return self.units[name]

    def _row(self, name: str) -> list[Any]:
        unit = self.units.get(name)
        if unit is None:
            return [name, name, "not-found", "inactive", "dead", "", f"{ROOT}/unit/none", 0, "", "/"]
        job, kind = unit.job or (0, "")
        state = [unit.load, unit.active, unit.sub, ""]
        return [name, name, *state, unit.path, job, kind, job_path(job) if job else "/"]

    def _path_of(self, pid: int) -> str:
        for unit in self.units.values():
            if unit.process is not None and unit.process.pid == pid:
                return unit.path
        raise Refusal("org.freedesktop.systemd1.NoUnitForPID", f"PID {pid} does not belong to any loaded unit.")

    def _property(self, path: str, interface: str, name: str) -> Variant:
        if name == "JobType":
            return Variant("s", next(u.job[1] for u in self.units.values() if u.job and path == job_path(u.job[0])))
        unit = next(u for u in self.units.values() if u.path == path)
        main = unit.process.pid if unit.process is not None and unit.active == "active" else 0
        known = {
            "Result": ("s", unit.result),
            "UnitFileState": ("s", unit.file_state),
            "WantedBy": ("as", list(unit.wanted_by)),
            "InvocationID": ("ay", bytes([unit.starts]) * 16 if unit.starts else b""),
            "MainPID": ("u", main),
            "InactiveExitTimestamp": ("t", int(unit.began_s * 1e6)),
            "ActiveExitTimestamp": ("t", int(unit.left_s * 1e6)),
            "ControlGroup": ("s", f"/system.slice/{unit.name}" if main else ""),
            "Job": ("(uo)", [unit.job[0], job_path(unit.job[0])] if unit.job else [0, "/"]),
            "TimeoutStopUSec": ("t", unit.stop_usec),
            "Restart": ("s", "always" if unit.restarts else "no"),
            "KillMode": ("s", unit.kill_mode),
            "OOMPolicy": ("s", unit.oom_policy),
            "SendSIGKILL": ("b", unit.sends_sigkill),
            "FileDescriptorStoreMax": ("u", unit.kept_most),
        }
        return Variant(*known[name])

    def _permit(self, verb: str, unit: Unit) -> None:
        if (verb, unit.name) in self.denied:
            raise Refusal(_DENIED, "Access denied")

    def _job(self, message: Message) -> str:
        unit, verb = self._unit(message), "start" if message.member == "StartUnit" else "stop"
        self._permit(verb, unit)
        if unit.load == "masked" and verb == "start":
            raise Refusal("org.freedesktop.systemd1.UnitMasked", f"Unit {unit.name} is masked.")
        self._jobs += 1
        number = self._jobs
        unit.job = (number, verb)
        threading.Thread(target=self._carry_out, args=(unit, verb, number), daemon=True).start()
        return job_path(number)

    def _carry_out(self, unit: Unit, verb: str, number: int) -> None:
        result = "done"
        try:
            self.start(unit) if verb == "start" else self.stop(unit)
        except OSError:
            result = "failed"
        with self._lock:
            unit.job = None
        if not self.mute_signals:
            self.bus.signal("JobRemoved", "uoss", [number, job_path(number), unit.name, result])

    def _kill(self, message: Message) -> Reply:
        unit = self._unit(message)
        self._permit("kill", unit)
        for process in unit.leftovers:
            process.kill()
            process.wait()
        unit.leftovers.clear()
        return "", []
