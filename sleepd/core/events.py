"""What goes into a turn: looks, asks, ends of steps, settings, time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.calendar import Calendar
from sleepd.core.model import Reading, Settings
from sleepd.core.seen import Activity, GpusSeen, HostSeen, KnownAnswer, ModelSeen, Span
from sleepd.core.unit import Ordered, UnitSeen
from sleepd.core.units import MonotonicS
from sleepd.core.wishes import Ask, AttendanceChanged, CallerGone, HoldDetached, ReservationDetached


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
    | AttendanceChanged
    | CallerGone
    | StepEnded
    | CalendarExtended
    | SettingsChanged
    | Tick
    | Leaving
    | Stopping
)
