"""Puts prometheus and promtool into a folder: Debian's package, unpacked, so that no service is installed or started.

`python install.py DIR`; returns at once where they are there, or where the system has both already. Needs apt; root
only where its lists are missing.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("prometheus", "promtool")


def install(target: Path) -> None:
    """Make `target` hold both programs."""
    if all((target / name).exists() for name in PROGRAMS):
        return
    target.mkdir(parents=True, exist_ok=True)
    found = [shutil.which(name) for name in PROGRAMS]
    if all(found):
        for name, path in zip(PROGRAMS, found, strict=True):
            (target / name).symlink_to(str(path))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if _download(scratch).returncode:
            subprocess.run(["apt-get", "update", "-qq"], check=True)
            _download(scratch).check_returncode()
        (package,) = Path(scratch).glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), scratch], check=True)
        for name in PROGRAMS:
            shutil.copy2(Path(scratch) / "usr" / "bin" / name, target / name)


def _download(scratch: str) -> "subprocess.CompletedProcess[bytes]":
    # As root apt hands downloads to a user of its own, who may not write here: that is a warning only.
    return subprocess.run(["apt-get", "download", "-qq", "prometheus"], cwd=scratch)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
