"""Units of servers: what systemd does when one dies or is stopped. Sources: systemd.service(5), systemd.kill(5)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepd.doctor.findings import Finding, fail, ok, warn

_LEAVES_ENGINE = frozenset({"process", "none"})


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """`missing`: why they cannot be read; the rest is empty then. `enabled`: it starts at boot."""

    unit: str
    restart: str = ""
    kill_mode: str = ""
    oom_policy: str = ""
    sends_sigkill: bool = True
    enabled: bool = False
    missing: str = ""


def judge_unit(settings: UnitSettings) -> Iterator[Finding]:
    """Whether it comes back when it dies, and leaves nothing behind when it is stopped."""
    about = settings.unit
    if settings.missing:
        yield warn("unit.restart", f"its settings cannot be read: {settings.missing}", about)
        return
    judged = ok if settings.restart == "always" else warn
    yield judged("unit.restart", f"Restart={settings.restart}", about)
    found = f"KillMode={settings.kill_mode}"
    if settings.kill_mode in _LEAVES_ENGINE:
        yield fail("unit.kill-mode", found, about)
    elif not settings.sends_sigkill:
        yield warn("unit.kill-mode", f"{found}, but SendSIGKILL=no: an engine that hangs stays", about)
    else:
        yield ok("unit.kill-mode", found, about)
    leaves = settings.oom_policy == "continue"
    yield (warn if leaves else ok)("unit.oom", f"OOMPolicy={settings.oom_policy}", about)


def judge_rights(units: Sequence[str], *, polkit: bool, ruleless: Sequence[str] | None) -> Iterator[Finding]:
    """Whether the daemon, where it is not root, may start and stop what it was given. `ruleless`: those of the units
    that no rule of polkit's is for, None where you may not see rules."""
    if not units:
        return
    if not polkit:
        yield warn("unit.rights", "polkit is not installed")
    elif ruleless is None:
        yield warn("unit.rights", "you may not see polkit's rules", advice="run sleepctl doctor as root")
    elif ruleless:
        yield warn("unit.rights", f"there is no rule for {', '.join(ruleless)}")
    else:
        yield ok("unit.rights", "polkit is there, and a rule for each unit")
