"""What a step's procedure asks of whoever drives it: calls, looks, readings, pauses."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from sleepd.core.events import Evidence, StepEnd
from sleepd.core.plan import Verb
from sleepd.core.unit import UnitOrder
from sleepd.core.units import MonotonicS, Seconds


@dataclass(frozen=True, slots=True)
class Call:
    verb: Verb
    timeout_s: Seconds
    mode_parameter: bool


@dataclass(frozen=True, slots=True)
class CallAndWatch:
    """A call during which free GPU memory is read again and again: the value is the result and the spans by uuid."""

    verb: Verb
    timeout_s: Seconds
    mode_parameter: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """The known question, to one name at the route that answers it."""

    prompt: str
    api_name: str
    asks_at: str
    timeout_s: Seconds


@dataclass(frozen=True, slots=True)
class Checksums:
    """The digest over all weights' checksums; empty for whatever else came of the question."""

    timeout_s: Seconds


@dataclass(frozen=True, slots=True)
class Look:
    timeout_s: Seconds
    ask_sleeping: bool = True
    fence: bool = False
    """Counters read after /is_sleeping answered: it blocks behind the call that is judged, the page does not."""
    adapters: bool = False
    """LoRA adapters are listed anew."""


@dataclass(frozen=True, slots=True)
class ReadGpus:
    pass


@dataclass(frozen=True, slots=True)
class LookAndReadGpus:
    """Both at once, each asked after the ask was made: the value is the pair of readings, the look's first."""

    timeout_s: Seconds
    counters: bool = True
    """False: only /is_sleeping is asked, and the look has no counters."""


@dataclass(frozen=True, slots=True)
class ReadHost:
    pass


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class LookUnit:
    """The unit's reading."""

    unit: str
    timeout_s: Seconds


@dataclass(frozen=True, slots=True)
class OrderUnit:
    """The end of an order to the service manager."""

    unit: str
    order: UnitOrder
    timeout_s: Seconds


Ask: TypeAlias = (
    Call
    | CallAndWatch
    | Complete
    | Checksums
    | Look
    | ReadGpus
    | LookAndReadGpus
    | ReadHost
    | Pause
    | LookUnit
    | OrderUnit
)


@dataclass(frozen=True, slots=True)
class Got:
    value: Any
    mono_s: MonotonicS


Ended: TypeAlias = tuple[StepEnd, Evidence]
Procedure: TypeAlias = Generator[Ask, Got, Ended]
