"""What a call to a server can come to. Answers and their absence are values, so no wire fault unwinds a decision."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class NoAnswerKind(StrEnum):
    TIMED_OUT = "timed out"
    """Nothing came in time; the server may still carry the call out (vLLM does not cancel on disconnect)."""
    BROKEN_OFF = "broken off"
    """The connection was made and then broke."""
    REFUSED = "refused"
    """No connection could be made: the call was certainly not carried out."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer, any status. `text` is the body's start (errors) or `status` field (0.32+ wake and sleep)."""

    status: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    kind: NoAnswerKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """Token texts of the greedy completion, cut where the runner-up came close; empty: nothing certain to compare."""

    tokens: tuple[str, ...]


CallResult: TypeAlias = Answered | NoAnswer
ProbeResult: TypeAlias = ProbeAnswer | Answered | NoAnswer
