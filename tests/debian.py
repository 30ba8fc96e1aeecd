"""Puts programs of Debian packages into a folder: the packages unpacked, so that no service is installed or started.

`python debian.py DIR PACKAGE:PROGRAM[,PROGRAM] ...`; returns at once where they are there, and takes those that the
system has already. Needs apt; root only where its lists are missing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")


def install(target: Path, package: str, programs: Iterable[str]) -> None:
    """Make `target` hold all programs of the package."""
    missing = [name for name in programs if not (target / name).exists()]
    if not missing:
        return
    target.mkdir(parents=True, exist_ok=True)
    found = [shutil.which(name, path=":".join(PLACES)) for name in missing]
    if all(found):
        for name, path in zip(missing, found, strict=True):
            (target / name).symlink_to(str(path))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if _download(package, scratch).returncode:
            subprocess.run(["apt-get", "update", "-qq"], check=True)
            _download(package, scratch).check_returncode()
        (archive,) = Path(scratch).glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), scratch], check=True)
        for name in missing:
            (unpacked,) = (path for folder in PLACES if (path := Path(scratch) / folder[1:] / name).exists())
            shutil.copy2(unpacked, target / name)


def _download(package: str, scratch: str) -> subprocess.CompletedProcess[bytes]:
    # As root apt hands downloads to a user of its own, who may not write here: that is a warning only.
    return subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch)


if __name__ == "__main__":
    for _wanted in sys.argv[2:]:
        _package, _, _programs = _wanted.partition(":")
        install(Path(sys.argv[1]), _package, _programs.split(","))
