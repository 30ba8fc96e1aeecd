"""What is installed: units that systemd takes without a word, a sandbox of the promised strength, owners and modes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from tests.integration.waiting import wait_until
from tests.system.inside import LIMIT_S, UNITS, System, run, show, systemctl

SHIPPED = Path("/usr/lib/systemd/system")
DROPINS = Path("/usr/share/doc/sleepd/dropins")


def test_systemd_takes_every_unit_without_a_word(system: System) -> None:
    units = [SHIPPED / name for name in ("sleepd.service", "sleepd.socket", "sleepd-gateway.socket", "vllm@.service")]
    done = run("systemd-analyze", "verify", "--man=no", *units)
    # A machine's own units may be odd.
    assert [line for line in done.stderr.splitlines() if "sleepd" in line or "vllm" in line] == []


@pytest.mark.parametrize(("dropin", "limit"), [("", 13), ("private-devices", 11), ("unix-only", 4)])
def test_the_sandbox_is_as_tight_as_promised(system: System, dropin: str, limit: int) -> None:
    """`--threshold` is ten times the exposure that systemd-analyze prints."""
    placed = None
    if dropin:
        placed = system.drop_in("sleepd.service", "zz-test", (DROPINS / f"{dropin}.conf").read_text())
    try:
        systemctl("daemon-reload")
        done = run("systemd-analyze", "security", f"--threshold={limit}", "sleepd.service", check=False)
        assert done.returncode == 0, done.stdout[-400:]
    finally:
        if placed:
            placed.unlink()
            systemctl("daemon-reload")


@pytest.mark.parametrize("dropin", ["private-devices", "unix-only"])
def test_it_works_in_a_narrower_sandbox(system: System, dropin: str) -> None:
    placed = system.drop_in("sleepd.service", "zz-test", (DROPINS / f"{dropin}.conf").read_text())
    try:
        systemctl("daemon-reload")
        system.configure("a")
        (a,) = system.start_servers("a")
        before = a.complete()
        systemctl("start", "sleepd-gateway.socket")
        system.start_daemon()
        assert system.client.sleep("a").body["model"]["level"] == 1
        body = '{"model": "a", "prompt": "Tell me about tides.", "max_tokens": 8, "temperature": 0}'
        said = run(
            "curl", "-s", "http://127.0.0.1:8800/v1/completions", "-H", "content-type: application/json", "-d", body
        )
        assert before in said.stdout
    finally:
        placed.unlink()
        systemctl("daemon-reload")


def test_the_delay_between_starts_grows_where_systemd_knows_how(system: System) -> None:
    placed = system.drop_in("sleepd.service", "zz-test", (DROPINS / "growing-delay.conf").read_text())
    try:
        systemctl("daemon-reload")
        known = int(re.split(r"\D", systemctl("show", "--value", "--property=Version").stdout)[0]) >= 254
        assert show("sleepd.service", "LoadState") == "loaded"
        found = (show("sleepd.service", "RestartSteps"), show("sleepd.service", "RestartMaxDelayUSec"))
        assert found == (("5", "30s") if known else ("", ""))
    finally:
        placed.unlink()
        systemctl("daemon-reload")


def test_owners_and_modes(system: System) -> None:
    system.configure("a")
    (a,) = system.start_servers("a")
    system.start_daemon()
    found = {}
    for path in ("/run/sleepd", "/run/sleepd/sleepd.sock", "/run/vllm", str(a.path), "/var/lib/sleepd", "/etc/sleepd"):
        told = os.stat(path)
        owner = run("stat", "-c", "%U:%G", path).stdout.strip()
        found[path] = (owner, oct(stat.S_IMODE(told.st_mode)))
    assert found == {
        "/run/sleepd": ("root:root", "0o755"),
        "/run/sleepd/sleepd.sock": ("root:root", "0o666"),
        "/run/vllm": ("vllm:sleepd", "0o2750"),
        str(a.path): ("vllm:sleepd", "0o770"),
        "/var/lib/sleepd": ("sleepd:sleepd", "0o750"),
        "/etc/sleepd": ("root:root", "0o755"),
    }


def test_nothing_is_installed_below_etc_but_configuration(system: System) -> None:
    assert not list(UNITS.glob("sleepd*.service")) + list(UNITS.glob("vllm*.service"))


def test_it_starts_where_there_is_no_gpu(system: System) -> None:
    placed = system.drop_in("sleepd.service", "zz-test", "[Service]\nEnvironment=LD_LIBRARY_PATH=\n")
    try:
        systemctl("daemon-reload")
        system.configure("a")
        system.start_servers("a")
        system.start_daemon()
        (line,) = wait_until(lambda: system.journal("SLEEPD_KIND=gpus_missing"), "it to be told", LIMIT_S)
        assert (line["PRIORITY"], "GPU memory cannot be read" in line["MESSAGE"]) == ("4", True)
        assert show("sleepd.service", "ActiveState") == "active"
    finally:
        placed.unlink()
        systemctl("daemon-reload")
