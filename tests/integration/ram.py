"""Host RAM as files, for a daemon whose `[host] proc_root` they lie below."""

from __future__ import annotations

from pathlib import Path

RAM_BYTES = 256 << 30
_QUIET = "avg10=0.00 avg60=0.00 avg300=0.00 total=0"


def write_ram(proc: Path, available_bytes: int, total_bytes: int = RAM_BYTES) -> None:
    """The kernel's files say that so much is available, and that nobody has to wait for it."""
    (proc / "pressure").mkdir(parents=True, exist_ok=True)
    scratch = proc / "meminfo.new"
    scratch.write_text(f"MemTotal: {total_bytes // 1024} kB\nMemAvailable: {available_bytes // 1024} kB\n")
    scratch.replace(proc / "meminfo")
    (proc / "pressure" / "memory").write_text(f"some {_QUIET}\nfull {_QUIET}\n")
