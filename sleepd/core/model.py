"""What the daemon is told: readings and why there are none, specifications, causes, settings. All frozen.

Units stand in the names: `_s` seconds (`mono` monotonic, `wall` since the epoch), `_bytes` bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from sleepd.core.rules import Rule, foreseeing, shortest_nap_s
from sleepd.core.units import Bytes, MonotonicS, Seconds, WallS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Now:
    """One moment, taken once per turn by the shell. Durations come from `mono_s`, calendars from `wall_s`."""

    mono_s: MonotonicS
    wall_s: WallS
    entropy: int = 0


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A value that was asked for at `asked_at_s` and arrived at `at_s`.

    It proves or contradicts something about a model only if it was asked after the model's last command ended.
    """

    value: T
    asked_at_s: MonotonicS
    at_s: MonotonicS


class MissingReason(StrEnum):
    NOT_YET = "not read yet"
    REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "no answer in time"
    NO_DEV_MODE = "no dev mode"
    NOT_VLLM = "not a vLLM server"
    UNAUTHORIZED = "key refused"
    UNREADABLE = "unreadable"
    NO_MANAGER = "no service manager"


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no value, and why. Missing is not zero: it fires nothing and permits nothing."""

    reason: MissingReason
    detail: str = ""
    since_s: MonotonicS = 0.0
    killed: str = ""
    """What the kernel's OOM killer did to who should have told it, as a sentence; empty where it did nothing."""


Reading: TypeAlias = Known[T] | Missing


class Mode(StrEnum):
    """OBSERVE: rules are evaluated and told as "would"; requests and operators still act."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class OnStop(StrEnum):
    """What becomes of sleepers when the daemon is stopped for good."""

    LEAVE = "leave"
    WAKE = "wake"


class Verify(StrEnum):
    """When the known answer is asked for after a wake; AUTO: before the gate opens at level 2, after it at level 1."""

    AUTO = "auto"
    BEFORE = "before"
    AFTER = "after"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One managed vLLM server as configured. `gpus` empty means: where its processes hold memory.

    `api_key_file` and `ca_file` are paths; what stands in them is read where it is used, and kept nowhere else.
    """

    name: str
    url: str
    api_key_file: str = ""
    ca_file: str = ""
    allow_exposed: bool = False
    unit: str = ""
    cgroup: str = ""
    fenced: bool = False
    wake_direct: bool = True
    served_names: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    vram_bytes: Bytes | None = None
    host_ram_bytes: Bytes | None = None
    max_level: int = 1
    may_stop: bool = False
    priority: int = 0
    min_awake_s: Seconds = 60.0
    max_wait_s: Seconds = 120.0
    pinned: bool = False
    prime: bool = False
    verify: Verify = Verify.AUTO
    mode: Mode = Mode.ENFORCE
    labels: Mapping[str, str] = field(default_factory=dict)


class CauseKind(StrEnum):
    RULE = "rule"
    OPERATOR = "operator"
    REQUEST = "request"
    VICTIM = "victim"
    RESERVATION = "reservation"
    CHECK = "check"
    PRIME = "prime"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a task exists: a rule's name, a caller, the model that needs the room. Never free text."""

    kind: CauseKind
    who: str


@dataclass(frozen=True, slots=True)
class Failure:
    """`code` is stable and machine-readable; `detail` is what was seen, as a sentence."""

    code: str
    detail: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """At most `max_awake` of these models are awake at once."""

    name: str
    models: frozenset[str]
    max_awake: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the core needs of the configuration."""

    models: Mapping[str, ModelSpec]
    rules: tuple[Rule, ...] = ()
    groups: tuple[Group, ...] = ()
    poll_every_s: Seconds = 1.0
    mode: Mode = Mode.ENFORCE
    """The daemon's; what counts for a model is its own `mode`."""
    on_stop: OnStop = OnStop.LEAVE
    gpu_margin_bytes: Bytes = 1 << 30
    host_reserve_bytes: Bytes = 8 << 30
    retries: int = 3
    restart_units: bool = True
    max_restarts: int = 3
    """Per hour and model, then it is failed."""
    stuck_after_s: Seconds | None = None
    """None: ten times what was learned, at least five minutes."""
    late_drain_s: Seconds = 30.0
    """How long direct traffic may keep a sleep waiting that is forced, or whose room a waiting request asks for."""
    foreign_hold_down_s: Seconds = 600.0
    turn_drain_s: Seconds = 300.0
    """How long a model whose turn is over may finish running requests."""
    rules_of: Mapping[str, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)
    """Every model's rules, in their order."""
    foreseeing: Mapping[str, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)
    """Of these, those in force that go by what is expected of the model; only models that have any."""
    shortest_naps_s: Mapping[str, Seconds] = field(init=False, repr=False, compare=False)
    """Of the same models, the shortest idle time after which a rule puts them to sleep."""

    def __post_init__(self) -> None:
        of = {name: tuple(r for r in self.rules if name in r.applies_to) for name in self.models}
        foresee = {name: found for name, rules in of.items() if (found := foreseeing(rules))}
        object.__setattr__(self, "rules_of", of)
        object.__setattr__(self, "foreseeing", foresee)
        object.__setattr__(self, "shortest_naps_s", {name: shortest_nap_s(of[name]) for name in foresee})
