"""The host as whoever asks may see it: its clock and kind, polkit, other controllers, engines without a server."""

import ctypes
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil

from sleepd.survey.table import ProcessRow, ProcessTable

_TIMEX_BYTES = 512
"""More than `struct timex` has on any architecture (208 on 64 bits, <sys/timex.h>)."""
_TIME_ERROR = 5
POLKIT = Path("usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service")
RULE = Path("usr/share/polkit-1/rules.d/sleepd.rules")
RULES = (
    "etc/polkit-1/rules.d",
    "run/polkit-1/rules.d",
    "usr/local/share/polkit-1/rules.d",
    "usr/share/polkit-1/rules.d",
)
_SHIPPED = re.compile(r"vllm@[A-Za-z0-9_.-]+\.service")
"""The units of systemd/sleepd.rules."""
_UNIFIED = re.compile(r"\bGB10\b|\b(Orin|Xavier|Thor|Tegra)\b", re.IGNORECASE)
"""NVIDIA's GPUs without memory of their own: DGX Spark and its kin, Jetson."""
_CONTROLLERS = ("llama-swap",)
_DAEMONS = ("sleepd", "sleepd.cli.daemon")
_INITS = frozenset({"systemd", "init", "tini", "docker-init", "dumb-init"})
"""What takes in processes that lost their parent."""
_ENGINE = "VLLM::"
"""How vLLM calls its engine and worker processes (vllm/utils/system_utils.py, set_process_title; 0.10.2 and later)."""


def is_clock_synchronized() -> bool | None:
    """Whether the kernel was told that its clock is right; None where it does not say. Source: adjtimex(2), which with
    modes 0 only reads, and returns TIME_ERROR while the clock is not synchronized."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def polkit_on(units: Sequence[str], root: Path = Path("/")) -> tuple[bool, Sequence[str] | None]:
    """Whether polkit is installed, and which of these units no rule there is for; None where rules may not be looked
    at: Debian lets nobody but root and polkitd into their folders. A rule is for vllm@*.service where it is sleepd's,
    and else for the units that stand in it by their name, or by their template's."""
    installed = (root / POLKIT).exists()
    try:
        shipped = (root / RULE).exists()
        others = [file.read_text(errors="replace") for folder in RULES for file in _rules_in(root / folder)]
    except PermissionError:
        return installed, None
    return installed, [
        unit for unit in units if not ((shipped and _SHIPPED.fullmatch(unit)) or _is_named(unit, others))
    ]


def _rules_in(folder: Path) -> list[Path]:
    """Raises PermissionError, which glob keeps to itself."""
    try:
        return [folder / name for name in os.listdir(folder) if name.endswith(".rules") and folder / name != RULE]
    except FileNotFoundError:
        return []


def _is_named(unit: str, texts: Sequence[str]) -> bool:
    stem, at, _ = unit.removesuffix(".service").partition("@")
    return any(unit in text or (at and f"{stem}@" in text) for text in texts)


def is_wsl(release: str | None = None) -> bool:
    """Whether this kernel is the one of Windows' subsystem for Linux, which names itself so."""
    return "microsoft" in (release or os.uname().release).lower()


def unified_memory(names: Sequence[str], root: Path = Path("/")) -> str | None:
    """The name of a GPU here that shares the host's memory; empty where none does, None where nothing tells what the
    GPUs are. `names` are NVML's; the driver tells them in /proc/driver/nvidia/gpus too, and a Jetson is known by its
    device tree."""
    if "nvidia,tegra" in _text(root / "proc/device-tree/compatible"):
        return _text(root / "proc/device-tree/model").strip("\0\n") or "this Jetson"
    told = [_text(path) for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))]
    known = [line.partition(":")[2].strip() for text in told for line in text.splitlines() if line.startswith("Model:")]
    known += names
    return next((name for name in known if _UNIFIED.search(name)), "") if known else None


def find_controllers(table: ProcessTable) -> tuple[str, ...]:
    """Other programs that let vLLM servers sleep, and sleepd itself where it runs more than once."""
    found = [f"{row.name} (pid {row.pid})" for row in table if row.name in _CONTROLLERS]
    own = [str(row.pid) for row in table if _is_daemon(row)]
    more = [f"sleepd runs {len(own)} times (pid {', '.join(own)})"] if len(own) > 1 else []
    return (*found, *more)


def _is_daemon(row: ProcessRow) -> bool:
    """Whether `sleepd run` is among its words; sudo and the like have them too, and are no daemon."""
    pairs = pairwise(row.command) if row.name.startswith(("sleepd", "python")) else ()
    return any(verb == "run" and word.rpartition("/")[2] in _DAEMONS for word, verb in pairs)


def find_orphans(table: ProcessTable) -> tuple[str, ...]:
    """Engines of vLLM whose server is gone: their parent is the manager that takes in what lost its own."""
    titles = {row.pid: row.command[0] if row.command else row.name for row in table}
    return tuple(
        f"{titles[row.pid].split()[0]}, pid {row.pid}{_owner(row.pid)}"
        for row in table
        if titles[row.pid].startswith(_ENGINE) and row.parent in table.rows and table.rows[row.parent].name in _INITS
    )


def _owner(pid: int) -> str:
    try:
        return f" of {psutil.Process(pid).username()}"
    except psutil.Error:
        return ""  # it has ended meanwhile


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
