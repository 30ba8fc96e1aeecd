"""A task: one sleep, wake, proof or order to a unit in progress, and what was true when its call left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sleepd.core.model import Cause
from sleepd.core.plan import Plan, Verb
from sleepd.core.seen import Activity, ControlCounts
from sleepd.core.units import Bytes, MonotonicS, WallS

HOST_LOCK = "host"
"""The claim that every level 1 sleep and every reload takes beside its GPUs: both move weights through host RAM."""


class TaskKind(StrEnum):
    SLEEP = "sleep"
    WAKE = "wake"
    PROVE = "prove"
    START = "start"
    RESTART = "restart"
    STOP = "stop"


UNIT_TASKS = frozenset({TaskKind.START, TaskKind.RESTART, TaskKind.STOP})
"""Tasks on a server's unit: the server itself need not answer for them to go on."""


LIFTS = frozenset({TaskKind.START, TaskKind.RESTART})


class Phase(StrEnum):
    """DO goes forward; UNDO puts half-done work back; FENCE finds out what an unanswered call did; CUT ends the direct
    requests that a sleep waits for."""

    DO = "do"
    UNDO = "undo"
    FENCE = "fence"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Intent:
    """What was true when a step's call left: what recovery compares with what it finds afterwards."""

    incarnation: str | None
    control: ControlCounts | None
    used_by_gpu: Mapping[str, Bytes] = field(default_factory=dict)
    wall_s: WallS = 0.0
    kept_bytes: Bytes | None = None
    """Anon and shmem of its own cgroup: backups show as growth of them."""
    invocation: str = ""
    """The start of the unit that is to be ended; another one is left alone."""
    ordered_wall_s: tuple[WallS, ...] = ()
    """When a step on the unit was ordered, once by each daemon that went on with it, the last four."""


@dataclass(frozen=True, slots=True)
class Task:
    """One sleep, wake or proof in progress. `cursor` is the step now running; `victims` sleep before it starts.

    `claims` are GPU uuids and HOST_LOCK, taken all in one turn; a victim's task runs under its parent's claims.
    """

    id: int
    model: str
    kind: TaskKind
    level: int
    cause: Cause
    plan: Plan
    started_s: MonotonicS
    cursor: int = 0
    phase: Phase = Phase.DO
    attempt: int = 0
    """How often the current step was sent again, for whatever reason."""
    uncounted: tuple[Verb, ...] = ()
    """Calls of ours that left and that no page of counters has shown yet; whatever else moves them is a stranger's."""
    rest: Mapping[str, Bytes] = field(default_factory=dict)
    """What the last stage of its wake still takes, by GPU, as of the stage before; where that is known."""
    looked_again: int = 0
    """How often what its last step showed was too old by its turn to open the gate."""
    refusals: int = 0
    """How often the engine refused the current step's call, over restarts of the daemon too: what a recipe counts."""
    claims: frozenset[str] = frozenset()
    parent: int | None = None
    victim: str | None = None
    chosen: str = ""
    """How the victim was chosen, as a sentence."""
    slept: tuple[str, ...] = ()
    """Victims this task has put to sleep: they are woken again should it fail."""
    intent: Intent | None = None
    resume_s: MonotonicS | None = None
    """When the task pauses: its next attempt. While a call is out: when to look whether direct requests hold it up."""
    running: bool = False
    """A step's call is out: its end is awaited."""
    called_s: MonotonicS | None = None
    """When its first call left: what comes before, room that is made, is not what a wake takes."""
    sent_s: MonotonicS = 0.0
    """When the current step's call left; a fence and a cut belong to the call they follow."""
    forced: bool = False
    """Force asked for this sleep: direct requests may not hold it up for long."""
    drained: Activity | None = None
    """The counters of requests as they last moved, at `drained_s`: while a sleep waits for direct ones, or a question
    for its answer."""
    drained_s: MonotonicS = 0.0
