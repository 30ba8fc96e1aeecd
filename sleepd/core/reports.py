"""What rules and explanations say: each condition with what it wants and what was found."""

from dataclasses import dataclass

from sleepd.core.units import Seconds


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """`holds` is None where the reading is missing; `in_s` says when time alone would make it hold."""

    name: str
    wanted: str
    found: str
    holds: bool | None
    in_s: Seconds | None = None


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule for one model. `due_in_s` is None where time alone never makes it hold; 0 where it holds now.

    `missing` says in one sentence what keeps it from acting: conditions that do not hold, what protects the model, what
    outranks it, its cooldown; empty where it acts. `kind` is its class in the precedence.
    """

    rule: str
    action: str
    conditions: tuple[ConditionReport, ...]
    holds: bool
    due_in_s: Seconds | None = None
    kind: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class NextAction:
    """What happens to a model if nobody asks for anything."""

    rule: str
    action: str
    in_s: Seconds


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model is as it is: every rule, what holds it back, and what comes next."""

    model: str
    state: str
    level: int | None
    reason: str
    rules: tuple[RuleReport, ...]
    protections: tuple[str, ...]
    verdict: str
    next: NextAction | None
