"""What the daemon is told and what it sees: specifications, engine facts, readings. All frozen.

Units stand in the names: `_s` seconds (`mono` monotonic, `wall` since the epoch), `_bytes` bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from sleepd.core.frozen import replace
from sleepd.core.rules import Rule
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


Release: TypeAlias = tuple[int, ...]
"""(0, 10, 2), or its start: releases are compared as tuples are."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What one incarnation of a server told about itself; asked once per incarnation.

    `release` is (major, minor, patch) or None where `version` cannot be parsed (a fork): None means the strictest row.
    `incarnation` names this process; None where nothing tells restarts apart, and then level 2 is refused.
    Sources: GET /version, /openapi.json, /server_info?config_format=json, /v1/models, /metrics.
    """

    version: str
    release: Release | None
    incarnation: str | None
    served_names: tuple[str, ...] = ()
    lora_names: tuple[str, ...] = ()
    sleep_mode: bool | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    kv_connector: str = ""
    """The KV transfer connector or offloading backend it runs with; empty where there is none."""
    speculative: bool = False
    lora: bool = False
    load_format: str = "auto"
    model_path: str = ""
    checkpoint_bytes: Bytes | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: Bytes | None = None
    """Set: the KV cache is this large per GPU, and gpu_memory_utilization bounds nothing."""
    asks_at: str = "/v1/completions"
    """The route that answers the known question: completions, embeddings or pooling; empty where there is none."""
    keep_alive_s: Seconds = 5.0
    """After so long the server closes an idle connection (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)."""
    weight_checker: bool = False
    """It lists the route that works out the checksums of its weights."""
    described: bool = False
    """/server_info answered: the fields about parallelism, quantization and loading are known, not defaults."""
    arguments_hash: str = ""


@dataclass(frozen=True, slots=True)
class CallCount:
    """How often a handler answered 2xx and anything else, since the process began."""

    ok: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ControlCounts:
    """`http_requests_total` of the control handlers: who moved them but us is somebody else.

    `pause` counts /pause and /resume, `update` the routes that give an engine other weights (0.16+): sleepd sends none.
    """

    sleep: CallCount = CallCount()
    wake: CallCount = CallCount()
    rpc: CallCount = CallCount()
    pause: CallCount = CallCount()
    update: CallCount = CallCount()

    def any(self) -> bool:
        """Whether anything was called that may have changed the engine's memory."""
        return replace(self, pause=CallCount()) != ControlCounts()


@dataclass(frozen=True, slots=True)
class Activity:
    """Counters that only requests of users (and our probes) move. Source: /metrics, names in docs/vllm.md."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests_done: int = 0

    def __add__(self, other: "Activity") -> "Activity":
        return Activity(
            self.prompt_tokens + other.prompt_tokens,
            self.generation_tokens + other.generation_tokens,
            self.requests_done + other.requests_done,
        )

    def __sub__(self, other: "Activity") -> "Activity":
        return Activity(
            self.prompt_tokens - other.prompt_tokens,
            self.generation_tokens - other.generation_tokens,
            self.requests_done - other.requests_done,
        )

    def any(self) -> bool:
        return self != Activity()


class SleepGauge(StrEnum):
    """vllm:engine_sleep_state, a hint: it shows what was requested (0.11.2+)."""

    ABSENT = "absent"
    AWAKE = "awake"
    OFFLOADED = "weights_offloaded"
    DISCARDED = "discard_all"
    NONE_SET = "none_set"


@dataclass(frozen=True, slots=True)
class UnitMemory:
    """RAM of a server's cgroup. `used_bytes` leaves out file pages the kernel can take back; `kept_bytes` are anon and
    shmem, where backups show. `limit_bytes` is the limit at or above it that leaves least room (None: no limit),
    `limit_used_bytes` what counts against it, `limited_by` its file and cgroup. `own`: nobody else is in it."""

    used_bytes: Bytes
    kept_bytes: Bytes
    own: bool = True
    limit_bytes: Bytes | None = None
    limit_used_bytes: Bytes = 0
    limited_by: str = ""

    @property
    def headroom_bytes(self) -> Bytes:
        """What the tightest limit leaves; only where there is one."""
        assert self.limit_bytes is not None
        return self.limit_bytes - self.limit_used_bytes


@dataclass(frozen=True, slots=True)
class DirectSeen:
    """Connections to a server that are not ours. `quiet_s`: how long the quietest has been without a byte either way.

    `missing` says why they cannot be seen, and is empty where they can.
    """

    count: int = 0
    quiet_s: Seconds = 0.0
    missing: str = ""


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """One look at a server. `is_sleeping` is None in looks that did not ask (it blocks behind engine calls)."""

    facts: EngineFacts
    is_sleeping: bool | None = None
    running: int | None = None
    waiting: int | None = None
    activity: Activity | None = None
    control: ControlCounts | None = None
    gauge: SleepGauge = SleepGauge.ABSENT
    pids: tuple[int, ...] = ()
    direct: DirectSeen | None = None
    """Only in looks that asked for it."""
    unit_memory: UnitMemory | None = None
    """None where the server's cgroup cannot be read, and in looks of a wake, which somebody waits for."""


@dataclass(frozen=True, slots=True)
class GpuSeen:
    """One GPU, or one MIG device of a GPU that is divided. `used_by_pid` is None where process lists were not asked for
    or cannot be read. `mig_of`: the index of the GPU it is a part of; its own index is MIG_INDICES × (that + 1) + its
    number there, which nobody else has."""

    uuid: str
    index: int
    total_bytes: Bytes
    free_bytes: Bytes
    used_by_pid: Mapping[int, Bytes] | None = None
    mig_of: int | None = None


MIG_INDICES = 1000
GpusSeen: TypeAlias = tuple[GpuSeen, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """The least and the most free memory of a GPU that was seen while something went on."""

    least_free_bytes: Bytes
    most_free_bytes: Bytes


@dataclass(frozen=True, slots=True)
class HostSeen:
    """Host RAM. `pressure_some_avg10` is PSI's share 0..1, None where the kernel does not tell."""

    total_bytes: Bytes
    available_bytes: Bytes
    pressure_some_avg10: float | None = None
    no_limits: str = ""
    """Why memory limits of units cannot be seen on this host, as a sentence; empty where they can."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What a server says to the fixed question: tokens of a greedy completion (their ids), cut where the runner-up came
    close, or the vector of a pooling model."""

    tokens: tuple[str, ...] = ()
    vector: tuple[float, ...] = ()

    def any(self) -> bool:
        return bool(self.tokens or self.vector)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The known answer, taken twice while the weights were certainly right: the base model's, and by name each LoRA
    adapter's. `prompt_tokens`: how long the question is to this model's tokenizer, where it told."""

    prompt: str
    answer: tuple[str, ...]
    vector: tuple[float, ...] = ()
    adapters: Mapping[str, KnownAnswer] = field(default_factory=dict)
    prompt_tokens: int | None = None

    @property
    def base(self) -> KnownAnswer:
        return KnownAnswer(self.answer, self.vector)


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

    def __post_init__(self) -> None:
        of = {name: tuple(r for r in self.rules if name in r.applies_to) for name in self.models}
        object.__setattr__(self, "rules_of", of)
