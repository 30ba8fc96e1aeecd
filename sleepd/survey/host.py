"""The host as whoever asks may see it: its clock, and whether units may be ordered by somebody who is not root."""

import ctypes
from pathlib import Path

_TIMEX_BYTES = 512
"""More than `struct timex` has on any architecture (208 on 64 bits, <sys/timex.h>)."""
_TIME_ERROR = 5
POLKIT = Path("usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service")
RULE = Path("usr/share/polkit-1/rules.d/sleepd.rules")


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
