"""Runs the tests of this folder within a real systemd: `run.py [--real-vllm] [-- WORDS FOR PYTEST]`.

Boots throw-away machines (machine.sh), one with this system's own systemd and one with a newer one, puts into each what
`make install` installs (with real servers: the package of `make deb`), and runs pytest in there. Needs root, unshare
with cgroup2, and Debian 12's packages systemd, dbus, polkitd, iproute2 and procps; without them it says why and ends
with 0, or with 1 where SLEEPD_SYSTEMD=required.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from tests.fakenvml.build import build  # noqa: E402 - found through the line above

CACHE = ROOT / ".cache" / "systemd"
MACHINE = HERE / "machine.sh"
PROGRAMS = ("unshare", "nsenter", "setpriv", "systemctl", "systemd-analyze", "dbus-daemon", "pkcheck", "ip", "pgrep")
PYTHON = "/usr/bin/python3"
LIMIT_S = 900
LOT = f"{zlib.crc32(str(ROOT).encode()):08x}"
"""Tells this checkout's machines from those of another one beside it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real-vllm", action="store_true", help="with real vLLM servers, on its own systemd alone")
    parser.add_argument("--only", choices=("own", "newer"), help="one systemd alone")
    parser.add_argument("words", nargs="*", help="for pytest")
    options = parser.parse_args()
    if missing := find_missing():
        print(f"system tests cannot run here: {missing}", file=sys.stderr)
        return 1 if os.environ.get("SLEEPD_SYSTEMD") == "required" else 0
    installed = find_package() if options.real_vllm else install()
    library = build(CACHE / "nvml")
    names = (options.only or "own",) if options.only or options.real_vllm else ("own", "newer")
    versions = {name: fetch_newer() if name == "newer" else "" for name in names}
    words = ["-m", "vllm and systemd" if options.real_vllm else "systemd and not vllm", *options.words]
    if not any(word.startswith("tests/") for word in words):
        words.append("tests/system")
    running = {}
    try:
        for name, debs in versions.items():
            running[name] = start(name, debs, installed, library, words)
        return max([report(name, process) for name, process in running.items()])
    finally:
        for name, process in running.items():
            if process.poll() is None:
                process.kill()
            subprocess.run([MACHINE, "down"], env=environment(name), check=False)


def find_missing() -> str:
    """What this machine lacks, as a sentence; empty where it lacks nothing."""
    if os.geteuid() != 0:
        return "wanted root, for namespaces and mounts"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"wanted {', '.join(missing)}: install systemd, dbus, polkitd, iproute2 and procps"
    if not Path(PYTHON).exists():
        return f"wanted {PYTHON}: install python3"
    mount = "mount -t cgroup2 none /mnt"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, text=True, check=False)
    return f"wanted a cgroup2 in a new namespace: {tried.stderr.strip()}" if tried.returncode else ""


def install() -> Path:
    """What `make install` installs, for the machine's own Python, made anew where anything of it changed."""
    tree, digest = CACHE / "tree", hashlib.sha256()
    folders = ("sleepd", "systemd", "packaging", "etc", "docs", "examples")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    sources += [*ROOT.glob("requirements*.txt"), *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    for path in sorted(sources):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path}\0".encode() + path.read_bytes())
    mark = CACHE / "tree.made-of"
    if tree.exists() and mark.exists() and mark.read_text() == digest.hexdigest():
        return tree
    mark.unlink(missing_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    builder = {**os.environ, "BUILDER": sys.executable}
    subprocess.run([ROOT / "packaging" / "install.sh", tree, PYTHON], env=builder, check=True)
    mark.write_text(digest.hexdigest())
    return tree


def find_package() -> Path:
    """The Debian package that `make deb` left."""
    found = list((ROOT / "dist").glob("sleepd_*.deb"))
    assert len(found) == 1, f"wanted one package in dist, found {found}; run: make deb"
    return found[0]


def fetch_newer() -> str:
    fetched = subprocess.run(
        [HERE / "newer_systemd.sh", CACHE / "newer"], stdout=subprocess.PIPE, text=True, check=True
    )
    return " ".join(fetched.stdout.split())


def environment(name: str, debs: str = "") -> Mapping[str, str]:
    return {
        **os.environ,
        "MACHINE": f"{name}-{LOT}",
        "MACHINE_DEBS": debs,
        "MACHINE_BIND": " ".join(binds()),
        "MACHINE_LIMIT_S": str(LIMIT_S),
    }


def binds() -> Iterator[str]:
    """What the tests need of this machine and a view of its root alone would not show."""
    bound: list[Path] = []
    for path in {ROOT, Path(sys.prefix), Path(sys.base_prefix), (ROOT / ".cache").resolve()}:
        hidden = path.stat().st_dev != Path("/").stat().st_dev or path.parts[1] in ("tmp", "run", "dev")
        if hidden and not any(path.is_relative_to(other) for other in bound):
            bound.append(path)
            yield f"{path}:{path}"


def start(name: str, debs: str, installed: Path, library: Path, words: list[str]) -> subprocess.Popen[str]:
    """Boot the machine, install, and begin the tests."""
    environ = environment(name, debs)
    began_s = time.monotonic()
    subprocess.run([MACHINE, "up"], env=environ, check=True)
    asked = [MACHINE, "exec", "systemctl", "show", "--value", "--property=Version"]
    version = subprocess.run(asked, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    print(f"{name} systemd, {version}, is up after {time.monotonic() - began_s:.1f} s", flush=True)
    way = f"dpkg -i {installed}" if installed.is_file() else f"cp -a --no-preserve=ownership {installed}/. /"
    copy = f"{way} && install -D {library} /opt/nvml/{library.name}"
    subprocess.run([MACHINE, "exec", "sh", "-c", copy], env=environ, check=True)
    inside = ["PYTHONDONTWRITEBYTECODE=1", f"SLEEPD_MACHINE={name}", f"HOME={os.environ.get('HOME', '/root')}"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", *words]
    command = [MACHINE, "exec", *inside, "env", "-C", ROOT, *pytest]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def report(name: str, process: subprocess.Popen[str]) -> int:
    """Print what the tests said, the journal too where they failed, and return their exit status."""
    said, _ = process.communicate(timeout=LIMIT_S)
    print(f"== with {name} systemd\n{said}", flush=True)
    if process.returncode:
        journal = ["journalctl", "--no-pager", "-o", "short-precise", "-n", "300"]
        subprocess.run([MACHINE, "exec", *journal], env=environment(name), check=False)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
