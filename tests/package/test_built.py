"""What was built, looked at without installing it: Debian's rules, manuals, the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What it says; fails where it ends badly."""
    environ = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def test_lintian_finds_no_error(deb: Path) -> None:
    assert run("lintian", "--allow-root", "--fail-on", "error,warning", deb).stdout == ""


@pytest.mark.parametrize("manual", ["man8/sleepd.8", "man1/sleepctl.1", "man5/sleepd.toml.5"])
def test_manuals_are_shown_without_a_warning(deb: Path, manual: str, tmp_path: Path) -> None:
    fetch = f"dpkg-deb --fsys-tarfile {deb} | tar -xO ./usr/share/man/{manual}.gz | gunzip >{tmp_path}/page"
    run("bash", "-euo", "pipefail", "-c", fetch)
    assert run("groff", "-ww", "-k", "-Tutf8", "-man", "-z", tmp_path / "page").stderr == ""
    shown = run("man", "--warnings", "-l", tmp_path / "page", MANPAGER="cat", MANWIDTH="80", LC_ALL="C.UTF-8")
    assert shown.stderr == ""
    assert [line for line in shown.stdout.splitlines() if len(line) > 80] == [], "what stands as it is must fit too"
    assert shown.stdout.startswith(f"{manual.partition('/')[2].rpartition('.')[0]}(")


def test_the_wheel_brings_all_it_needs_into_an_empty_environment(tmp_path: Path) -> None:
    # What it says it needs is resolved, each at the release that everything else was tested with.
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "sleepd").rglob("*") if path.is_file()}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {path for path in sources if "__pycache__" not in path} <= packed
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    run(*pip, "--python", tmp_path / "venv", "install", "--no-compile", "-c", ROOT / "requirements.txt", wheel)
    programs = tmp_path / "venv" / "bin"
    (tmp_path / "etc").mkdir()
    assert run(programs / "sleepd", "check", "--config", tmp_path / "etc").stdout.startswith("ok: 0 models, 2 rules")
    assert run(programs / "sleepctl", "--version").stdout.startswith("sleepctl ")
    run(programs / "sleepd", "demo", "--seconds", "2")
