"""What goes into a turn and what comes out of it: events, step results, commands, records, notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.activity import Owed
from sleepd.core.calendar import Calendar
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life
from sleepd.core.model import (
    Activity,
    Cause,
    ControlCounts,
    Failure,
    Fingerprint,
    GpusSeen,
    HostSeen,
    KnownAnswer,
    ModelSeen,
    Reading,
    Settings,
    Span,
)
from sleepd.core.plan import PlanStep
from sleepd.core.unit import Ordered, UnitSeen
from sleepd.core.units import Bytes, MonotonicS, Seconds, WallS
from sleepd.core.wishes import Ask
from sleepd.core.wishes import CallerGone as CallerGone
from sleepd.core.wishes import HoldAsked as HoldAsked
from sleepd.core.wishes import HoldDetached as HoldDetached
from sleepd.core.wishes import HoldEnded as HoldEnded
from sleepd.core.wishes import PinAsked as PinAsked
from sleepd.core.wishes import ReservationAsked as ReservationAsked
from sleepd.core.wishes import ReservationDetached as ReservationDetached
from sleepd.core.wishes import ReservationEnded as ReservationEnded
from sleepd.core.wishes import ResetAsked as ResetAsked
from sleepd.core.wishes import SleepAsked as SleepAsked
from sleepd.core.wishes import StartAsked as StartAsked
from sleepd.core.wishes import StopAsked as StopAsked
from sleepd.core.wishes import WakeAsked as WakeAsked
from sleepd.core.world import Reservation, Stopped, Task, World

# --- events in -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelLooked:
    """A look at a server ended. `in_flight` is the gate's count at the time of this turn, `entered` how many requests
    it has let in since the daemon began."""

    model: str
    reading: Reading[ModelSeen]
    in_flight: int = 0
    entered: int = 0


@dataclass(frozen=True, slots=True)
class GpusLooked:
    """`listed`: processes were asked for too."""

    reading: Reading[GpusSeen]
    listed: bool = False


@dataclass(frozen=True, slots=True)
class UnitLooked:
    """A look at a model's unit ended."""

    model: str
    reading: Reading[UnitSeen]


@dataclass(frozen=True, slots=True)
class HostLooked:
    reading: Reading[HostSeen]


@dataclass(frozen=True, slots=True)
class GateEmptied:
    """The last request in flight left a shut gate."""

    model: str


class StepEnd(StrEnum):
    DONE = "done"
    """The call was answered with success and its proof was observed."""
    REFUSED = "refused"
    """The server answered with an error status."""
    UNPROVEN = "unproven"
    """Answered with success, but what it claims could not be observed."""
    UNANSWERED = "unanswered"
    """No answer in time: the call may still be carried out."""
    BROKEN_OFF = "broken off"
    """The connection broke or was refused: the call may or may not have been carried out."""
    NOT_SENT = "not sent"
    """Its record took so long to be committed that the room it was let in for is gone: nothing was called."""
    BUSY = "busy"
    """A confirmation of idleness saw requests."""
    NOT_PROVABLE = "not provable"
    """No known answer can be taken from this engine."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was observed around a step. Readings `*_after` were asked after the call ended."""

    status: int | None = None
    detail: str = ""
    started_s: MonotonicS = 0.0
    answered_s: MonotonicS = 0.0
    seen: Reading[ModelSeen] | None = None
    gpus_earlier: Reading[GpusSeen] | None = None
    """The poll before `gpus_before`: what differs between them, neither the step nor its model did."""
    gpus_before: Reading[GpusSeen] | None = None
    gpus_after: Reading[GpusSeen] | None = None
    span: Mapping[str, Span] = field(default_factory=dict)
    """By GPU uuid, the least and the most free bytes seen while the call was out; none where it was short."""
    host_before: Reading[HostSeen] | None = None
    host_after: Reading[HostSeen] | None = None
    answers: Mapping[str, KnownAnswer] = field(default_factory=dict)
    """What was said to the known question, by LoRA adapter; the base model's under the empty name."""
    checksums: str = ""
    """The digest over the checksums of all weights; empty where the server told none."""
    spent: Activity = Activity()
    """By how much our own questions moved the server's counters."""
    lost: bool = False
    """A question was sent and its answer never came: it may have moved them too."""
    unit: Reading[UnitSeen] | None = None
    """The unit as it was last seen in a step on it."""
    ordered: Ordered | None = None
    """How an order to the service manager ended that did not end well."""
    stopped_before: bool = False
    """The unit that was to be ended had been stopped on purpose when the step first looked."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of a task ended; `cursor` names which, so that a late report of an earlier step is recognised."""

    model: str
    task_id: int
    cursor: int
    end: StepEnd
    evidence: Evidence
    in_flight: int = 0
    """Requests inside the model's gate when the step ended."""


@dataclass(frozen=True, slots=True)
class CalendarExtended:
    """The calendar of the rules' local times was worked out anew, from before now until days ahead."""

    calendar: Calendar


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    settings: Settings


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened but time."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The daemon is to end for good, and sleepers are not to be left asleep: all are woken that find room."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon is told to end: no new tasks are begun."""


Event: TypeAlias = (
    ModelLooked
    | GpusLooked
    | HostLooked
    | UnitLooked
    | GateEmptied
    | Ask
    | HoldDetached
    | ReservationDetached
    | CallerGone
    | StepEnded
    | CalendarExtended
    | SettingsChanged
    | Tick
    | Leaving
    | Stopping
)

# --- commands out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepOrder:
    """Everything the runner needs to carry out one step without knowing the world.

    `pids` empty: only device totals can be compared. `uuids`: the GPUs whose bytes must move. `least_freed_bytes`
    summed over them. `takes`: GPU memory that was free for it when it was ordered. `prompt` for known-answer steps.
    `timeout_s`: when the call counts as unanswered.
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

# --- records: committed before any command leaves --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldSaved:
    """A hold over a restart of the daemon. `until_wall_s` None: its stream broke with the daemon."""

    id: str
    uid: int
    who: str
    reason: str
    since_wall_s: WallS
    ttl_s: Seconds | None
    until_wall_s: WallS | None


@dataclass(frozen=True, slots=True)
class ModelSaved:
    """What outlives the daemon of one model. Moments are wall clock: monotonic time ends with the boot."""

    name: str
    life: Life
    incarnation: str | None
    control: ControlCounts | None
    since_wall_s: WallS
    last_active_wall_s: WallS
    fingerprint: Fingerprint | None
    footprint: Footprint
    failure: Failure | None
    check_failed: str
    checking: bool
    frees_nothing: bool
    owed_wake: Cause | None = None
    unverified: bool = False
    holds: tuple[HoldSaved, ...] = ()
    pin: bool | None = None
    attempts: int = 0
    cooldown_until_wall_s: WallS = 0.0
    prior: Footprint = Footprint()
    prime_failed: bool = False
    restart_wanted: str = ""
    checksums: str = ""
    stopped: Stopped | None = None
    restart_due: str = ""
    restarts_wall_s: tuple[WallS, ...] = ()
    restarts_spent: bool = False
    served_as: str = ""
    told_to_stop: str = ""
    hold_down_until_wall_s: WallS = 0.0


@dataclass(frozen=True, slots=True)
class TaskSaved:
    task: Task


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task came to its end; it leaves the table of running tasks and joins the journal.

    `done`: it achieved what it was begun for. `took_s` ago, counted from `wall_s`, it began.
    """

    task: Task
    outcome: str
    wall_s: WallS
    took_s: Seconds = 0.0
    done: bool = False


@dataclass(frozen=True, slots=True)
class RuleSaved:
    """What a rule did to a model: when it began something, and which wish of it came true already."""

    rule: str
    model: str
    acts_wall_s: tuple[WallS, ...] = ()
    achieved: bool = False
    dealt_with_wall_s: WallS | None = None


@dataclass(frozen=True, slots=True)
class ReservationSaved:
    """A reservation over a restart of the daemon, granted or not, and with it who was put aside for it."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class ReservationDropped:
    """A reservation that is over."""

    id: str


@dataclass(frozen=True, slots=True)
class EngineProven:
    """An engine's level 2 cycle was checked and passed."""

    key: str
    wall_s: WallS


Record: TypeAlias = (
    ModelSaved | RuleSaved | TaskSaved | TaskEnded | EngineProven | ReservationSaved | ReservationDropped
)


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything a restarted daemon knows: what `Store.load` returns."""

    models: Mapping[str, ModelSaved] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()
    next_task: int = 1
    ended: tuple[TaskEnded, ...] = ()
    """The last tasks that came to their end, the newest last."""
    rules: Mapping[tuple[str, str], RuleSaved] = field(default_factory=dict)
    """By rule and model."""
    reservations: Mapping[str, Reservation] = field(default_factory=dict)


# --- notes and turns -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """One line of history for people and event streams. `kind` is stable, `text` one sentence, `data` evidence."""

    kind: str
    model: str
    text: str
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """The outcome of one step: the next world, what must be committed first, then what is to be done.

    `shut` names the models whose gate closes inside the turn, before the commit: the safe direction.
    """

    world: World
    records: tuple[Record, ...] = ()
    commands: tuple[Command, ...] = ()
    notes: tuple[Note, ...] = ()
    shut: tuple[str, ...] = ()
