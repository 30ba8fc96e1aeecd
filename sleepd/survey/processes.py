"""vLLM servers among the processes of this host, as far as the caller may see them.

Command lines and cgroups anybody may read; environments, sockets and namespaces only the same user or root (proc(5)). A
server in a container has ports and paths of its own: containers.py.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from sleepd.adapters.owners import Owners, look_around
from sleepd.adapters.sock_diag import tcp_sockets
from sleepd.config.urls import UrlError, parse_url
from sleepd.survey.arguments import ServerArguments, read_command
from sleepd.survey.containers import Forward, find_forwards, is_in_container, path_here, ports_into, unit_of
from sleepd.survey.table import ProcessTable

PROC = Path("/proc")
_EVERYWHERE = ("", "0.0.0.0", "::", "*")  # noqa: S104 - compared with, not bound to
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
DAEMON_GROUP = "sleepd"


@dataclass(frozen=True, slots=True)
class FoundProcess:
    """One API server as a process. `environ` is None where the caller may not read it; `urls` are addresses to try, the
    likeliest first; `open_ports`: their ports at which somebody is seen to listen, and whether other hosts may reach
    them; `cgroup` is its path below the root of cgroup v2, empty where it is not known; `apart`: whether it has a
    network namespace of its own, None where the caller may not see that."""

    pid: int
    user: str
    arguments: ServerArguments
    environ: Mapping[str, str] | None = None
    cgroup: str = ""
    urls: tuple[str, ...] = ()
    pids: frozenset[int] = frozenset()
    open_ports: Mapping[int, bool] = field(default_factory=dict)
    apart: bool | None = False

    @property
    def unit(self) -> str:
        """The system's unit it runs in; empty in a session, a container or a unit of a user's own manager."""
        return unit_of(self.cgroup)

    @property
    def in_container(self) -> bool:
        return is_in_container(self.cgroup)

    @property
    def own_cgroup(self) -> str:
        """Its cgroup; empty where that is a session's, which holds whatever else somebody runs."""
        in_session = self.cgroup.endswith(".scope") and not self.in_container
        return "" if in_session else self.cgroup


@dataclass(frozen=True, slots=True)
class Survey:
    """The servers found, how many processes were looked at, and whether all of them could be seen."""

    servers: tuple[FoundProcess, ...]
    seen: int
    whole: bool


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands beside the processes: who owns which sockets, which ports lead into containers, which out of here."""

    owners: Owners = field(default_factory=Owners)
    forwards: Sequence[Forward] = ()
    open_ports: Mapping[int, bool] = field(default_factory=dict)


def find_open_ports() -> Mapping[int, bool]:
    """Ports at which somebody listens here, and whether more than this host may reach them; none where the kernel does
    not list its sockets."""
    found: dict[int, bool] = {}
    try:
        for socket in tcp_sockets():
            if socket.listens:
                address, port = socket.local
                found[port] = found.get(port, False) or not ip_address(address).is_loopback
    except OSError:
        return {}
    return found


def survey_processes(table: ProcessTable) -> Survey:
    """Return every vLLM server among the processes. Reads who owns which socket, where there is a server: some hundred
    milliseconds on a busy host."""
    commands: dict[int, tuple[int, ServerArguments]] = {}
    for row in table:
        arguments = read_command(row.command)
        if arguments is not None:
            commands[row.pid] = (row.parent, arguments)
    # A process that was forked off and not named yet has its parent's words: it is a part of that server.
    first = {pid: said for pid, (parent, said) in commands.items() if commands.get(parent, (0, None))[1] != said}
    around = _Around()
    if first:
        owners = look_around({row.pid: row.parent for row in table})
        forwards = find_forwards({row.pid: row.command for row in table}, owners)
        around = _Around(owners, forwards, find_open_ports())
    found = (_read(pid, arguments, around) for pid, arguments in sorted(first.items()))
    servers = tuple(one for one in found if one is not None)
    return Survey(_without_others(servers, around.owners), len(table), os.geteuid() == 0)


def _without_others(servers: Sequence[FoundProcess], owners: Owners) -> tuple[FoundProcess, ...]:
    """Each without the addresses at which another of them is seen to listen: a port that a server in a container has
    there may be another server's here."""

    def is_others(url: str, one: FoundProcess) -> bool:
        listening = owners.of(url)
        return listening.isdisjoint(one.pids) and any(not listening.isdisjoint(other.pids) for other in servers)

    return tuple(replace(one, urls=tuple(u for u in one.urls if not is_others(u, one))) for one in servers)


def _read(pid: int, arguments: ServerArguments, around: _Around) -> FoundProcess | None:
    try:
        process = psutil.Process(pid)
        user, folder = process.username(), _folder(process)
    except psutil.Error:
        return None  # it has ended meanwhile
    cgroup = _cgroup(pid)
    pids = frozenset(around.owners.descending({pid}))
    found = FoundProcess(pid, user, arguments, _environ(process), cgroup, pids=pids, apart=_is_apart(pid))
    told = (url for url in _told(found, folder, around.forwards) if _is_address(url))
    urls = dict.fromkeys([*told, *around.owners.listening(pids)])
    ports = {urlsplit(url).port for url in urls if not url.startswith("unix:")}
    return replace(found, urls=tuple(urls), open_ports={p: o for p, o in around.open_ports.items() if p in ports})


def _is_address(url: str) -> bool:
    """Whether there can be such an address: anybody may run a program of this name, with whatever arguments."""
    try:
        parse_url(url)
    except UrlError:
        return False
    return True


def _told(found: FoundProcess, folder: Path | None, forwards: Sequence[Forward]) -> Iterator[str]:
    """Where its arguments say that it listens."""
    arguments = found.arguments
    if path := arguments.value("--uds"):
        socket = str((folder or Path("/")) / path)
        yield f"unix:{path_here(found.pid, socket) if found.in_container else socket}"
        return
    scheme = "https" if arguments.value("--ssl-certfile") else "http"
    if found.in_container:
        ports = ports_into(found.pid, found.cgroup, arguments.port, forwards)
        yield from (f"{scheme}://127.0.0.1:{port}" for port in ports)
    host = arguments.value("--host")
    if found.apart and not found.in_container and host in (*_EVERYWHERE, *_LOOPBACK):
        return  # our port of this number is another one
    shown = "127.0.0.1" if host in (*_EVERYWHERE, *_LOOPBACK) else f"[{host}]" if ":" in host else host
    yield f"{scheme}://{shown}:{arguments.port}"


def is_exposed(process: FoundProcess, url: str) -> bool | None:
    """Whether other hosts may reach this address of the server's; None where nobody is seen to listen there: the kernel
    does not list its sockets, or forwards the port, or the server still loads."""
    if not url or url.startswith("unix:"):
        return False
    if not parse_url(url).local:
        return True
    # What was told to listen at loopback does; in a container that is another one.
    if process.arguments.value("--host") not in _EVERYWHERE and not process.in_container:
        return False
    return process.open_ports.get(urlsplit(url).port or 0)


def is_fenced(url: str) -> bool:
    """Whether only the daemon's group may enter the folder of this socket, so that nobody else reaches the server."""
    if not url.startswith("unix:"):
        return False
    try:
        folder = Path(url.removeprefix("unix:")).parent.stat()
        group = grp.getgrgid(folder.st_gid).gr_name
    except (OSError, KeyError):
        return False
    return group == DAEMON_GROUP and not folder.st_mode & 0o007


def _folder(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None


def _environ(process: psutil.Process) -> Mapping[str, str] | None:
    """None too of a process that wrote its title over it: then nothing is left to read."""
    try:
        return process.environ() or None
    except (psutil.Error, OSError):
        return None


def _is_apart(pid: int) -> bool | None:
    try:
        return (PROC / str(pid) / "ns/net").readlink() != (PROC / "self/ns/net").readlink()
    except OSError:
        return None


def _cgroup(pid: int) -> str:
    """proc(5): the line of cgroup v2 begins "0::". Outside this cgroup namespace it climbs, and then says nothing."""
    try:
        lines = (PROC / str(pid) / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "").strip("/")
    return "" if ".." in path.split("/") else path
