"""Servers in containers: where their ports and sockets are on this host, from the programs that stand between.

Docker's docker-proxy and Podman's pasta say it in their arguments; Podman's conmon and rootlessport hold the ports of
this host open. Where the kernel alone forwards (Docker with userland-proxy off, Kubernetes' hostPort) nothing tells it.
Sources: docker-proxy(-proto -host-ip -host-port -container-ip -container-port), passt(1) (--tcp-ports), conmon(8) (-c),
proc_pid_mountinfo(5), systemd.resource-control of `podman run --cgroups=split` (libpod-payload-ID below the unit).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from sleepd.adapters.owners import Owners

PROC = Path("/proc")
_ID = "[0-9a-f]{12,}"
_CONTAINER = re.compile(
    rf"(docker-|libpod-(payload-)?|crio-|cri-containerd-|nerdctl-){_ID}|/[0-9a-f]{{64}}(/|$)|/(docker|lxc)/|/lxc\.payload"
    r"|kubepods|/machine\.slice/(machine-[^/]+\.scope|systemd-nspawn@[^/]+\.service)/"
)
"""By runtime and cgroup driver: with systemd's a scope that names both, with cgroupfs a bare id below a folder that may
be chosen (--cgroup-parent), which is Kubernetes' kubepods for its pods."""
_UNIT = re.compile(r"[\w:.@\\-]+\.service", re.ASCII)
_SPLIT = re.compile(rf"(?P<unit>[^/]+\.service)/libpod-payload-{_ID}(/.*)?$")
_RANGE = r"(\d{1,5})(?:-(\d{1,5}))?"
_PASTA = re.compile(rf"(?:[^/]*/)?{_RANGE}(?::{_RANGE})?")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_MOST_PORTS = 100
"""Of a published range; nobody runs more servers than that in one container."""


def is_in_container(cgroup: str) -> bool:
    return _CONTAINER.search(f"/{cgroup}") is not None


def unit_of(cgroup: str) -> str:
    """The system's unit that a cgroup is, or in which Podman runs a container of a unit's own (a quadlet); empty in a
    session, another container (a unit there is of a service manager in it), or a unit of a user's own manager."""
    split = _SPLIT.search(cgroup)
    if cgroup.startswith("user.slice/") or (is_in_container(cgroup) and not split):
        return ""
    last = split["unit"] if split else cgroup.rpartition("/")[2]
    return last if _UNIT.fullmatch(last) else ""


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this host that leads into a container. `inner` is the port there, None where that is not told;
    `address` and `container` tell which container it is, as far as anything does."""

    outer: int
    inner: int | None = None
    address: str = ""
    container: str = ""


def find_forwards(commands: Mapping[int, Sequence[str]], owners: Owners) -> tuple[Forward, ...]:
    """Return them all. `commands`: command lines by pid."""
    found: list[Forward] = []
    for pid, words in commands.items():
        program = PurePosixPath(words[0]).name if words else ""
        if program.endswith("docker-proxy"):
            found += _of_docker_proxy(words)
        elif program in ("pasta", "pasta.avx2"):
            found += _of_pasta(words)
        elif program in ("conmon", "rootlessport", "rootlessport-child"):
            container = dict(pairwise(words)).get("-c", "") if program == "conmon" else ""
            held = sorted(port for port, pids in owners.ports.items() if pid in pids)
            found += [Forward(port, container=container) for port in held]
    return tuple(dict.fromkeys(found))


def _of_docker_proxy(words: Sequence[str]) -> Iterator[Forward]:
    told = dict(pairwise(words))
    try:
        outer, inner = int(told["-host-port"]), int(told["-container-port"])
    except (KeyError, ValueError):
        return
    if told.get("-proto") == "udp":
        return
    yield Forward(outer, inner, address=told.get("-container-ip", ""))


def _of_pasta(words: Sequence[str]) -> Iterator[Forward]:
    for flag, specs in pairwise(words):
        if flag not in ("-t", "--tcp-ports"):
            continue
        for spec in specs.split(","):
            if (told := _PASTA.fullmatch(spec)) is None:
                continue
            first, last = int(told[1]), int(told[2] or told[1])
            inner = int(told[3] or first)
            for offset in range(min(last - first + 1, _MOST_PORTS)):
                yield Forward(first + offset, inner + offset)


def ports_into(pid: int, cgroup: str, port: int, forwards: Sequence[Forward]) -> tuple[int, ...]:
    """Ports of this host that may lead to this port of a container's process: if any is known to, those alone."""
    addresses = addresses_of(pid)
    sure, perhaps = [], []
    for one in forwards:
        if one.inner not in (None, port):
            continue
        if one.container:
            sure += [one.outer] if one.container in cgroup else []
        elif one.address and addresses:
            sure += [one.outer] if one.address in addresses else []
        else:
            perhaps.append(one.outer)
    return tuple(sorted(set(sure or perhaps)))


def addresses_of(pid: int) -> frozenset[str]:
    """IPv4 addresses of a process's network namespace; none where the kernel does not show them."""
    lines = _lines(pid, "net/fib_trie")
    local = (before.split()[-1] for before, line in pairwise(lines) if "/32 host LOCAL" in line and before.split())
    return frozenset(local)


def path_here(pid: int, path: str) -> str:
    """Where a path of a container's process is on this host; empty where it lies in the container's own files, or on
    something that is not mounted here."""
    for folder, inner, device in _mounts(str(pid)):
        if (below := _below(path, folder)) is not None:
            if folder == "/":
                return ""
            return next(
                (
                    str(PurePosixPath(mount) / rest)
                    for mount, root, same in _mounts("self")
                    if same == device and (rest := _below(str(PurePosixPath(inner) / below), root)) is not None
                ),
                "",
            )
    return path


def _mounts(pid: str) -> list[tuple[str, str, str]]:
    """(where, which folder of the device, device), the deepest and latest first."""
    found = []
    for line in _lines(pid, "mountinfo"):
        words = line.split()
        if len(words) > 4:
            found.append((_unescaped(words[4]), _unescaped(words[3]), words[2]))
    found.reverse()
    found.sort(key=lambda mount: -len(PurePosixPath(mount[0]).parts))
    return found


def _below(path: str, folder: str) -> str | None:
    try:
        return str(PurePosixPath(path).relative_to(folder))
    except ValueError:
        return None


def _unescaped(word: str) -> str:
    return _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), word)


def _lines(pid: int | str, file: str) -> list[str]:
    try:
        return (PROC / str(pid) / file).read_text(errors="replace").splitlines()
    except OSError:
        return []
