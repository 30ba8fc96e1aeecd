"""The host as whoever asks may see it: its clock and kind, polkit, other controllers, engines without a server."""

import ctypes
import re
from itertools import pairwise
from pathlib import Path

import psutil

from sleepd.survey.table import ProcessRow, ProcessTable

_TIMEX_BYTES = 512
"""More than `struct timex` has on any architecture (208 on 64 bits, <sys/timex.h>)."""
_TIME_ERROR = 5
POLKIT = Path("usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service")
RULE = Path("usr/share/polkit-1/rules.d/sleepd.rules")
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


def polkit_on(root: Path = Path("/")) -> tuple[bool, bool | None]:
    """Whether polkit is installed, and whether sleepd's rule for it is where the package puts it; None where that may
    not be looked at: Debian lets nobody but root and polkitd into the folder of rules."""
    try:
        rule = (root / RULE).exists()
    except PermissionError:
        return (root / POLKIT).exists(), None
    return (root / POLKIT).exists(), rule


def is_wsl(root: Path = Path("/")) -> bool:
    """Whether this kernel is the one of Windows' subsystem for Linux, which names itself so."""
    return "microsoft" in _text(root / "proc/sys/kernel/osrelease").lower()


def unified_memory(root: Path = Path("/")) -> str:
    """The name of a GPU here that shares the host's memory; empty where none is known to. The driver tells the names of
    GPUs in /proc/driver/nvidia/gpus; a Jetson has none there, and is known by its device tree."""
    told = [_text(path) for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))]
    names = [line.partition(":")[2].strip() for text in told for line in text.splitlines() if line.startswith("Model:")]
    board = _text(root / "proc/device-tree/model").strip("\0\n")
    if "nvidia,tegra" in _text(root / "proc/device-tree/compatible"):
        return board or "this Jetson"
    return next((name for name in names if _UNIFIED.search(name)), "")


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
