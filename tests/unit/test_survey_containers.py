"""Servers in containers found from this host: Docker's and Podman's forwarders, a made-up /proc, mounted sockets."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from sleepd.adapters.owners import Owners
from sleepd.core.seen import EngineFacts
from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.vllm_types import EngineSpec
from sleepd.survey.arguments import ServerArguments
from sleepd.survey.asking import ask_all
from sleepd.survey.containers import Forward, addresses_of, find_forwards, path_here, ports_into
from sleepd.survey.processes import FoundProcess, survey_processes
from sleepd.survey.table import ProcessRow, ProcessTable

ONE, OTHER = "a1" * 32, "b2" * 32
DOCKER = "system.slice/docker-{}.scope"
ROOTLESS = "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{}.scope/container"
USER = "user.slice/user-1000.slice/user@1000.service"
POD = "podd5e3a8f0_4d51_4b0e_8e3d_2a1c4f5a8b9c"
CONTAINERS = {
    "Docker, systemd driver": DOCKER.format(ONE),
    "Docker, cgroupfs driver": f"docker/{ONE}",
    "Docker, cgroupfs driver, --cgroup-parent": f"llm/{ONE}",
    "Docker, --cgroup-parent": f"vllm.slice/vllm-a.slice/docker-{ONE}.scope",
    "Docker without root": f"{USER}/user.slice/docker-{ONE}.scope",
    "Podman": f"machine.slice/libpod-{ONE}.scope/container",
    "Podman, cgroupfs manager": f"libpod_parent/libpod-{ONE}",
    "Podman without root": ROOTLESS.format(ONE),
    "Podman without root, in a pod": f"{USER}/user.slice/user-libpod_pod_{OTHER}.slice/libpod-{ONE}.scope/container",
    "a quadlet of a user's": f"{USER}/app.slice/vllm.service/libpod-payload-{ONE}",
    "containerd, systemd driver": f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{POD}.slice/"
    f"cri-containerd-{ONE}.scope",
    "containerd, cgroupfs driver": f"kubepods/burstable/{POD.replace('_', '-')}/{ONE}",
    "containerd, whose driver is another than kubelet's": "system.slice/containerd.service/"
    f"kubepods-burstable-{POD}.slice:cri-containerd:{ONE}",
    "CRI-O": f"kubepods.slice/kubepods-{POD}.slice/crio-{ONE}.scope/container",
    "Kubernetes in Docker": f"docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{POD}.slice/"
    f"cri-containerd-{ONE}.scope",
    "nerdctl, cgroupfs driver": f"default/{ONE}",
    # Units of a service manager in there, of which this host's knows nothing, or another of that name.
    "a unit in Docker": f"{DOCKER.format(ONE)}/system.slice/vllm@a.service",
    "a unit in LXC": "lxc.payload.web/system.slice/vllm@a.service",
    "a unit in nspawn": "machine.slice/systemd-nspawn@web.service/payload/system.slice/vllm@a.service",
    "a unit in a machine": "machine.slice/machine-web.scope/payload/system.slice/vllm@a.service",
}
PROXY = "/usr/bin/{}docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port {} -container-ip {} -container-port 8000"
FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
Local:
           |-- 127.0.0.1
              /32 host LOCAL
           |-- {}
              /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in ("containers", "processes"):
        monkeypatch.setattr(f"sleepd.survey.{module}.PROC", tmp_path)
    return tmp_path


def add(proc: Path, pid: int | str, **files: str) -> None:
    for name, text in files.items():
        path = proc / str(pid) / {"fib": "net/fib_trie"}.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_container_is_told_from_another_by_its_address(proc: Path) -> None:
    add(proc, 7, fib=FIB.format("172.17.0.2"))
    commands = {
        1: PROXY.format("", 8001, "172.17.0.2").split(),
        2: PROXY.format("rootlesskit-", 8002, "172.17.0.3").split(),
        3: ["docker-proxy", "-host-port"],
    }
    forwards = find_forwards(commands, Owners())
    assert forwards == (Forward(8001, 8000, "172.17.0.2"), Forward(8002, 8000, "172.17.0.3"))
    assert addresses_of(7) == {"127.0.0.1", "172.17.0.2"}
    assert ports_into(7, DOCKER.format(ONE), 8000, forwards) == (8001,)
    assert ports_into(7, DOCKER.format(ONE), 9000, forwards) == (), "another port of that container"
    # Where its addresses are not shown every port may be the one.
    assert ports_into(8, DOCKER.format(ONE), 8000, forwards) == (8001, 8002)


@pytest.mark.parametrize("cgroup", CONTAINERS.values(), ids=CONTAINERS)
def test_a_container_is_known_by_its_cgroup_and_is_no_unit_of_this_host(cgroup: str) -> None:
    found = FoundProcess(7, "root", ServerArguments(()), cgroup=cgroup)
    assert (found.in_container, found.unit, found.own_cgroup) == (True, "", cgroup)


@pytest.mark.parametrize(
    ("cgroup", "unit", "own"),
    [
        ("system.slice/system-vllm.slice/vllm@a.service", "vllm@a.service", True),
        ("system.slice/docker.service", "docker.service", True),
        (f"{USER}/app.slice/vllm.service", "", True),
        ("user.slice/user-0.slice/session-3.scope", "", False),
        ("system.slice/run-p7-i8.scope", "", False),
    ],
)
def test_what_is_no_container(cgroup: str, unit: str, own: bool) -> None:
    found = FoundProcess(7, "root", ServerArguments(()), cgroup=cgroup)
    assert (found.in_container, found.unit, found.own_cgroup) == (False, unit, cgroup if own else "")


def test_dockers_proxies_as_they_are_started_today(proc: Path) -> None:
    """One for each family, and a flag without a value (Docker 28); ports of UDP are none of a server's."""
    command = "/usr/bin/docker-proxy -proto {} -host-ip {} -host-port {} -container-ip 172.17.0.2 -container-port 8000"
    lines = [command.format("tcp", ip, 8001) for ip in ("0.0.0.0", "::")] + [command.format("udp", "0.0.0.0", 8002)]
    forwards = find_forwards({n: [*line.split(), "-use-listen-fd"] for n, line in enumerate(lines)}, Owners())
    assert forwards == (Forward(8001, 8000, "172.17.0.2"),)


def test_podman_with_root_holds_ports_in_conmon_which_names_its_container(proc: Path) -> None:
    commands = {
        5: ["/usr/bin/conmon", "--api-version", "1", "-c", ONE, "-n", "vllm"],
        6: ["/usr/bin/conmon", "-c", OTHER],
        7: ["/usr/bin/conmon"],
    }
    forwards = find_forwards(commands, Owners(ports={8001: {5}, 8002: {6}, 22: {1}}))
    assert ports_into(9, f"machine.slice/libpod-{ONE}.scope", 8000, forwards) == (8001,)
    assert ports_into(9, f"machine.slice/libpod-{OTHER}.scope", 8000, forwards) == (8002,)


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ("-t 8001-8001:8000-8000", {8000: (8001,)}),
        ("-t 127.0.0.1/8001:8000 --tcp-ports 8005", {8000: (8001,), 8005: (8005,)}),
        ("-t 9000-9002:8000-8002", {8001: (9001,)}),
        ("-t auto -u none -T none", {8000: ()}),
    ],
)
def test_podman_without_root_says_its_ports_to_pasta(
    proc: Path, specs: str, expected: dict[int, tuple[int, ...]]
) -> None:
    command = f"/usr/bin/pasta --config-net {specs} --quiet --netns /run/user/1000/netns/netns-1"
    forwards = find_forwards({4: command.split()}, Owners())
    assert {port: ports_into(9, ROOTLESS.format(ONE), port, forwards) for port in expected} == expected


def test_what_rootlessport_holds_may_lead_anywhere(proc: Path) -> None:
    forwards = find_forwards({4: ["rootlessport"], 5: ["rootlessport-child"]}, Owners(ports={8001: {4}, 9: {8}}))
    assert ports_into(9, ROOTLESS.format(ONE), 8000, forwards) == (8001,)


def test_a_socket_in_a_mounted_folder_is_found_where_that_lies_here(proc: Path) -> None:
    add(proc, "self", mountinfo="22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:20 / /run rw - tmpfs tmpfs rw\n")
    inside = "90 1 0:50 / / rw - overlay overlay rw\n91 90 8:1 /srv/my\\040models /sockets rw - ext4 /dev/sda1 rw\n"
    add(
        proc,
        7,
        mountinfo=f"{inside}92 90 0:20 /vllm /run/vllm rw - tmpfs tmpfs rw\n93 90 0:77 / /tmp rw - tmpfs t rw\n",
    )
    assert path_here(7, "/sockets/a.sock") == "/srv/my models/a.sock"
    assert path_here(7, "/run/vllm/a.sock") == "/run/vllm/a.sock"
    assert path_here(7, "/tmp/a.sock") == "", "a file system of the container's own"
    assert path_here(7, "/etc/a.sock") == "", "its own files"
    assert path_here(8, "/a.sock") == "/a.sock", "nobody says how its mounts lie"


def test_the_survey_puts_it_together(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers with the same port of their own, by either driver, a third with a socket in a mounted folder, a
    quadlet's unit, and one in a pod, which nothing leads to."""
    serve = ["python3", "/usr/bin/vllm", "serve"]
    rows = {
        1: PROXY.format("", 8001, "172.17.0.2").split(),
        2: PROXY.format("", 8002, "172.17.0.3").split(),
        11: [*serve, "one"],
        12: [*serve, "two"],
        13: [*serve, "three", "--uds", "/sockets/three.sock"],
        14: ["vllm", "serve", "four", "--port", "8080"],
    }
    add(proc, 11, cgroup=f"0::/{DOCKER.format(ONE)}\n", fib=FIB.format("172.17.0.2"))
    add(proc, 12, cgroup=f"0::/docker/{OTHER}\n", fib=FIB.format("172.17.0.3"))
    add(proc, 14, cgroup=f"0::/{CONTAINERS['containerd, systemd driver']}\n", fib=FIB.format("10.244.0.7"))
    add(proc, 13, cgroup=f"0::/system.slice/three.service/libpod-payload-{ONE}\n")
    add(proc, 13, mountinfo="91 90 8:1 /srv/s /sockets rw - ext4 /dev/sda1 rw\n")
    add(proc, "self", mountinfo="22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    this = psutil.Process()
    monkeypatch.setattr(psutil, "Process", lambda _: this)
    monkeypatch.setattr("sleepd.survey.processes.look_around", lambda parents: Owners())
    table = ProcessTable({pid: ProcessRow(pid, 0, words[0], words) for pid, words in rows.items()})
    one, two, three, four = survey_processes(table).servers
    assert (one.urls[0], two.urls[0]) == ("http://127.0.0.1:8001", "http://127.0.0.1:8002")
    assert (three.urls, three.unit) == (("unix:/srv/s/three.sock",), "three.service")
    assert (four.urls, four.unit, four.in_container) == (("http://127.0.0.1:8080",), "", True)


async def test_a_port_that_leads_to_another_container_is_not_taken_for_its_own(tmp_path: Path) -> None:
    def container(name: str) -> FoundProcess:
        urls = tuple(f"unix:{tmp_path}/{socket}" for socket in ("a", "b"))
        return FoundProcess(7, "root", ServerArguments((name,)), {}, DOCKER.format(ONE), urls=urls)

    spec_a, spec_b = EngineSpec(name="one"), EngineSpec(name="two")
    async with FakeVllm(spec_a, uds=tmp_path / "a"), FakeVllm(spec_b, uds=tmp_path / "b"):
        told = await ask_all([container("two"), container("one"), container("three")])
        # Two of one name: each has an address of its own.
        same = await ask_all([container(""), container(""), container("")])
    assert [one.url[-2:] for one in told] == ["/b", "/a", ""]
    assert "serves other models" in told[2].silent
    assert isinstance(told[0].facts, EngineFacts)
    assert [one.url[-2:] for one in same] == ["/a", "/b", ""]
    assert "is the address of another server" in same[2].silent
