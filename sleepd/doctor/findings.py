"""What an examination comes to: one finding for each check of each thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sleepd.doctor.checks import CHECKS

AS_ROOT = "run sleepctl doctor as root: it sees what belongs to others"


class Verdict(StrEnum):
    """FAIL: something that is wanted cannot work, or is not safe. WARN: it may not, sooner or later."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is its stable id, `about` the model, server or unit that was looked at (empty: host or daemon). `advice`:
    what to do, where it is something else than the table of checks says, or the check is not in it (a daemon of another
    release has others)."""

    check: str
    verdict: Verdict
    found: str
    about: str = ""
    advice: str = ""

    @property
    def body(self) -> dict[str, str]:
        """As the API tells it."""
        verdict = self.verdict.value
        return {
            "check": self.check,
            "verdict": verdict,
            "about": self.about,
            "found": self.found,
            "remedy": self.remedy,
        }

    @property
    def remedy(self) -> str:
        """What to do; empty where nothing is wrong."""
        if self.verdict is Verdict.OK:
            return ""
        return self.advice or (CHECKS[self.check].remedy if self.check in CHECKS else "")


def ok(check: str, found: str, about: str = "") -> Finding:
    return Finding(check, Verdict.OK, found, about)


def warn(check: str, found: str, about: str = "", advice: str = "") -> Finding:
    return Finding(check, Verdict.WARN, found, about, advice)


def fail(check: str, found: str, about: str = "") -> Finding:
    return Finding(check, Verdict.FAIL, found, about)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict; OK where there is no finding."""
    found = {finding.verdict for finding in findings}
    return next((verdict for verdict in (Verdict.FAIL, Verdict.WARN) if verdict in found), Verdict.OK)


def by_check(findings: Iterable[Finding]) -> list[Finding]:
    """In the order of the table of checks, so that what belongs together stands together; others last."""
    order = {name: place for place, name in enumerate(CHECKS)}
    return sorted(findings, key=lambda finding: order.get(finding.check, len(order)))
