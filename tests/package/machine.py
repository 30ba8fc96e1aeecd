"""A clean Debian with a real systemd, seen from outside: what is there came with the package, or as words from here.

What a machine without a GPU lacks is stood in for: the program `vllm`, by one that runs a simulated server with the
words it is given or the kit's real one (real_vllm.py), and NVIDIA's library. So is what differs from one machine around
it to another: host RAM as the daemon reads it, and whether the kernel was told that its clock is right (clock.c).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from sleepd.sim.ledger import Ledger, LedgerGpu
from tests.integration.ram import write_ram
from tests.system.run import LOT

GIB = 1 << 30
GPU_BYTES = 8 * GIB
"""Small: before a server was seen asleep, its backup in RAM is taken to be as large as it may get on its GPU."""
RAM_BYTES, AVAILABLE_BYTES = 64 * GIB, 48 * GIB
LIMIT_S = 300
"""Within which every script ends: two real servers load theirs in one."""
SCRIPT = Path(__file__).parents[1] / "system" / "machine.sh"
LEDGER = Path("/srv/gpus")
PROC = Path("/srv/proc")
"""Where the daemon finds the files of /proc on host RAM."""
CLOCK = Path("/opt/nvml/clock.so")

VLLM = r"""#!/bin/bash
# vllm serve MODEL [--served-model-name NAME] (--uds PATH | --port PORT) [--enable-sleep-mode]: a simulated server.
name=$2 where=() mode=(--no-sleep-mode) dev=(--no-dev-mode)
[ "${VLLM_SERVER_DEV_MODE:-0}" != 1 ] || dev=()
while [ $# -gt 0 ]; do
  case $1 in
    --served-model-name) name=$2; shift ;;
    --uds | --port) where=("$1" "$2"); shift ;;
    --enable-sleep-mode) mode=() ;;
  esac
  shift
done
exec sleepd fake-vllm "${where[@]}" --name "$name" "${mode[@]}" "${dev[@]}" --ledger /srv/gpus --gpu 0 \
  --weights 1GiB --kv 2GiB --residual 256MiB --sleep-seconds 0.05 --wake-seconds 0.05
"""
DRIVER = ("LD_LIBRARY_PATH=/opt/nvml", f"SLEEPD_FAKE_NVML={LEDGER}")
HOST = ("DEBIAN_FRONTEND=noninteractive", "HOME=/root", f"LD_PRELOAD={CLOCK}", *DRIVER)
"""What a shell there begins with: nobody who could be asked, a clock that is right, and the driver of the GPU of
paper."""
UNITS = "/etc/systemd/system"
PAPER = f"""[Service]
Environment={" ".join(DRIVER)} 'SLEEPD__HOST__PROC_ROOT="{PROC}"'
ReadWritePaths={LEDGER}
"""


class Machine:
    """One throw-away machine, running as long as the `with` lasts. What it sees of this one lies in /srv and /opt."""

    def __init__(
        self, tree: Path, libraries: Path, shared: Path, vllm: str = VLLM, drop_in: str = "", lent: Iterable[Path] = ()
    ) -> None:
        """`tree` is what it boots from; `libraries` becomes /opt/nvml there, `shared` /srv, and a GPU and host RAM of
        paper lie in it. `vllm` is the program of that name, `drop_in` what is added to vllm@.service for it, `lent`
        what it sees of this machine."""
        self._gpus, self._vllm, self._drop_in = shared / "gpus", vllm, drop_in
        binds = {shared: "/srv", libraries: "/opt/nvml:ro", **{path: f"{path}:ro" for path in lent}}
        self._environ = {
            **os.environ,
            "MACHINE": f"package-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}-{LOT}",
            "MACHINE_TREE": str(tree),
            "MACHINE_BIND": " ".join(f"{source}:{target}" for source, target in binds.items()),
            "MACHINE_LIMIT_S": "600",
        }
        write_ram(shared / PROC.name, AVAILABLE_BYTES, RAM_BYTES)
        self._gpus.mkdir()
        Ledger.create(self._gpus, [LedgerGpu("GPU-0000", GPU_BYTES)])
        for path in (shared, self._gpus):
            path.chmod(0o777)
        for path in self._gpus.iterdir():
            path.chmod(0o666)

    def __enter__(self) -> Machine:
        subprocess.run([SCRIPT, "up"], env=self._environ, check=True)
        self.write("/opt/vllm/bin/vllm", self._vllm, mode=0o755)
        self.write(f"{UNITS}/sleepd.service.d/paper.conf", PAPER)
        if self._drop_in:
            self.write(f"{UNITS}/vllm@.service.d/lent.conf", self._drop_in)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.sh("journalctl --no-pager -n 200 >&2", check=False)
        subprocess.run([SCRIPT, "down"], env=self._environ, check=False)

    def sh(self, script: str, *, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script as root, with bash; fails, with all it said, where it ends badly."""
        done = subprocess.run(
            [SCRIPT, "exec", *HOST, "bash", "-euo", "pipefail", "-c", script],
            env=self._environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{script}\n{done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def say(self, script: str, *, stdin: str = "") -> str:
        """What the script says on stdout, without the last line break."""
        return self.sh(script, stdin=stdin).stdout.removesuffix("\n")

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        self.sh(f"install -D -m {mode:o} /dev/stdin {path}", stdin=text)

    def install(self, deb: Path) -> None:
        """Install the package, which lies in /srv."""
        self.sh(f"apt-get -qq install -y --no-install-recommends /srv/{deb.name}")
        self.lend_gpus()

    def lend_gpus(self) -> None:
        """What servers leave on the GPU of paper is the daemon's to read, once there is one."""
        self.sh("chgrp sleepd /srv/gpus; chmod 2777 /srv/gpus")

    def status(self, name: str) -> dict[str, Any]:
        """The model as the API shows it."""
        found: dict[str, Any] = json.loads(self.say(f"sleepctl --json status {name}"))["models"][0]
        return found

    def is_sleeping(self, name: str) -> bool:
        """The word of the server itself."""
        return '"is_sleeping":true' in self.say(f"curl -fs --unix-socket /run/vllm/{name}.sock http://a/is_sleeping")


def repacked(deb: Path, version: str, folder: Path) -> Path:
    """The package with a later version, in which one line of its configuration file is another."""
    tree = folder / "repacked"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control, settings = tree / "DEBIAN" / "control", tree / "etc" / "sleepd" / "sleepd.toml"
    lines = control.read_text().splitlines()
    control.write_text("\n".join([*(f"Version: {version}" if x.startswith("Version:") else x for x in lines), ""]))
    settings.write_text(f"# of {version}\n{settings.read_text()}")
    made = folder / f"sleepd_{version}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, made], check=True, stdout=subprocess.PIPE)
    shutil.rmtree(tree)
    return made
