"""A server's unit as the service manager tells it: read, judged, and what may be ordered of it.

Names and values are systemd's (org.freedesktop.systemd1(5), systemctl(1)); seen alike in 252 and 257.
"""

from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.units import WallS

_COMING = frozenset({"activating", "reloading", "refreshing"})
_STARTS = frozenset({"start", "restart", "try-restart", "reload-or-start", "verify-active"})
_OVER = frozenset({"inactive", "failed"})


class UnitOrder(StrEnum):
    """What sleepd orders of a unit, and nothing else. KILL: SIGKILL to whatever is left in its cgroup."""

    START = "start"
    STOP = "stop"
    KILL = "kill"


class JobEnd(StrEnum):
    """What became of an order. All but the last three are results of systemd's jobs (JobRemoved)."""

    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timeout"
    DEPENDENCY = "dependency"
    SKIPPED = "skipped"
    OTHER = "other"
    NOT_PERMITTED = "not permitted"
    UNANSWERED = "unanswered"
    """The job was still running when our own patience ended; it goes on."""
    UNREACHABLE = "unreachable"
    """No bus, no manager, or no such unit."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """The end of an order; `detail` is what was found and what to do, as a sentence."""

    end: JobEnd
    detail: str = ""


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """One reading of a unit. `job`: the type of the job that waits or runs, empty where there is none.

    `invocation` names this start of the unit, in hex; a unit that never ran has none. `pids`: everything in its cgroup,
    read where the unit is not simply running. `result`: how its last run ended ("success", "exit-code", "oom-kill",
    "start-limit-hit" ...). `file_state`: "enabled", "disabled", "masked" ...
    """

    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    file_state: str = ""
    invocation: str = ""
    main_pid: int = 0
    control_group: str = ""
    job: str = ""
    pids: tuple[int, ...] = ()
    left_wall_s: WallS = 0.0
    """When this start of it was told to stop, or ended, by the wall clock; 0 where it runs, or never was active."""

    @property
    def is_masked(self) -> bool:
        return self.load == "masked" or self.file_state in ("masked", "masked-runtime")

    @property
    def is_over(self) -> bool:
        """Nothing of it runs and nothing is about to: leftovers in its cgroup apart."""
        return self.active in _OVER and self.job not in _STARTS

    @property
    def is_coming(self) -> bool:
        """It starts, or will by itself: an automatic restart that is pending, a start that waits for its turn."""
        return self.job in _STARTS or (self.active in _COMING and self.job != "stop")

    @property
    def rests(self) -> bool:
        """It ended, and systemd starts it again by itself after a while: nothing of it runs until then."""
        return self.sub.startswith("auto-restart") and self.job != "stop"

    @property
    def is_stopped_on_purpose(self) -> bool:
        """Somebody stopped it, or stops it now. A unit whose end nobody asked for fails or starts again by itself."""
        if self.job in _STARTS:
            return False
        return self.active == "inactive" or self.job == "stop" or (self.is_masked and self.active in _OVER)

    @property
    def has_failed(self) -> bool:
        """It ended badly, and systemd does not start it again by itself."""
        return self.active == "failed" and self.job not in _STARTS and not self.is_masked
