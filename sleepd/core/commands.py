"""What a turn wants done: steps to run, gates to open, callers to answer, readings to take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.activity import Owed
from sleepd.core.model import Reading
from sleepd.core.plan import PlanStep
from sleepd.core.seen import Activity, GpusSeen, KnownAnswer
from sleepd.core.units import Bytes, Seconds


@dataclass(frozen=True, slots=True)
class StepOrder:
    """Everything the runner needs to carry out one step without knowing the world.

    `pids` empty: only device totals can be compared. `uuids`: the GPUs whose bytes must move, or be shown free after a
    unit's stop. `least_freed_bytes` summed over them. `takes`: GPU memory that was free for it when it was ordered.
    `prompt` for known-answer steps. `timeout_s`: when the call counts as unanswered.
    """

    model: str
    task_id: int
    cursor: int
    step: PlanStep
    timeout_s: Seconds
    pids: tuple[int, ...] = ()
    uuids: tuple[str, ...] = ()
    least_freed_bytes: Bytes = 1
    gpus_before: Reading[GpusSeen] | None = None
    asleep_bytes: Mapping[str, Bytes] = field(default_factory=dict)
    takes: Mapping[str, Bytes] = field(default_factory=dict)
    prompt: str = ""
    api_name: str = ""
    adapters: tuple[str, ...] = ()
    lists_adapters: bool = False
    """Those that are listed as it is carried out are asked instead, or are what counts."""
    asks_base: bool = True
    known: Mapping[str, KnownAnswer] = field(default_factory=dict)
    """By adapter, what it said when it was last asked: saying it again is enough."""
    asks_at: str = "/v1/completions"
    mode_parameter: bool = True
    activity: Activity | None = None
    owed: Owed = Owed()
    unit: str = ""
    invocation: str = ""
    """The start of the unit that is to be ended; empty: whichever runs."""


@dataclass(frozen=True, slots=True)
class RunStep:
    order: StepOrder


@dataclass(frozen=True, slots=True)
class OpenGate:
    model: str


class AnswerKind(StrEnum):
    DONE = "done"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Answer:
    """The one answer to a caller. For REFUSED `problem` is a kind of the public contract (section 3); `retry_s`: the
    same wish is worth another try after so long; 0 where nothing is known of that."""

    waiter: int
    kind: AnswerKind
    task_id: int | None = None
    waited_s: Seconds = 0.0
    level: int | None = None
    problem: str = ""
    detail: str = ""
    wanted: str = ""
    found: str = ""
    hint: str = ""
    retry_s: Seconds = 0.0


@dataclass(frozen=True, slots=True)
class LookNow:
    """Readings are wanted at once rather than at the next poll: a waiting caller depends on them."""

    model: str = ""
    gpus: bool = False
    host: bool = False
    unit: str = ""
    """The model whose unit is to be looked at."""


@dataclass(frozen=True, slots=True)
class LeaveStep:
    """Wait no longer for this step's answer: it ends as unanswered at once, unless it ended already. The server goes on
    with what was sent (vLLM cancels nothing when a client leaves)."""

    model: str
    task_id: int
    cursor: int


Command: TypeAlias = RunStep | OpenGate | Answer | LookNow | LeaveStep
