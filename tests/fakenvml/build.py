"""Builds the stand-in for `libnvidia-ml.so.1`: `python tests/fakenvml/build.py DIRECTORY`, or build() from a test.

Load it by LD_LIBRARY_PATH=DIRECTORY with SLEEPD_FAKE_NVML=LEDGER_DIRECTORY in the environment of the process to fool.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "nvml.c"
LIBRARY = "libnvidia-ml.so.1"
OPTIONS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-shared")


class BuildFailed(Exception):
    """What was wanted, what was found, what to do."""


def find_compiler() -> list[str]:
    """`cc`, else the compiler in the ziglang wheel, as the words a command begins with. Raises BuildFailed."""
    if cc := shutil.which("cc"):
        return [cc]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise BuildFailed(
        "wanted a C compiler for the stand-in of NVIDIA's library, found neither 'cc' nor the ziglang wheel: "
        f"{sys.executable} -m pip install --no-deps -r {SOURCE.parent / 'requirements-zig.txt'}"
    )


def build(directory: Path, compiler: list[str] | None = None, *, source: Path = SOURCE, name: str = LIBRARY) -> Path:
    """The library's path in `directory`, built if it was not there. Raises BuildFailed, in the compiler's words."""
    library = directory / name
    if library.exists() and library.stat().st_mtime >= source.stat().st_mtime:
        return library
    directory.mkdir(parents=True, exist_ok=True)
    scratch = directory / f".{name}.{os.getpid()}"
    command = [*(compiler or find_compiler()), *OPTIONS, "-o", str(scratch), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise BuildFailed(f"wanted: {' '.join(command)}\nfound: exit status {done.returncode}\n{done.stderr}")
    scratch.replace(library)  # several test processes may build at once; each leaves a whole file
    return library


def fool(ledger: Path, library: Path) -> dict[str, str]:
    """The environment variables that make a process see the ledger's GPUs through `library`."""
    return {"LD_LIBRARY_PATH": str(library.parent), "SLEEPD_FAKE_NVML": str(ledger)}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: build.py DIRECTORY", file=sys.stderr)
        return 2
    try:
        print(build(Path(arguments[0])))
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
