"""What looks tell: engine facts, counters, readings of servers, GPUs and the host. All frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.frozen import replace
from sleepd.core.units import Bytes, Seconds

Release: TypeAlias = tuple[int, ...]
"""(0, 10, 2), or its start: releases are compared as tuples are."""
KEEP_ALIVE_S: Seconds = 5.0
"""How long uvicorn keeps an idle connection unless told otherwise."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What one incarnation of a server told about itself; asked once per incarnation, but for what may change.

    `release` is (major, minor, patch) or None where `version` cannot be parsed (a fork): None means the strictest row.
    `incarnation` names this process; None where nothing tells restarts apart, and then level 2 is refused.
    Sources: GET /version, /openapi.json, /server_info?config_format=json, /v1/models, /metrics.
    """

    version: str
    release: Release | None
    incarnation: str | None
    served_names: tuple[str, ...] = ()
    lora_names: tuple[str, ...] = ()
    lora_roots: tuple[str, ...] = ()
    """Where each of `lora_names` was loaded from."""
    loads_adapters: bool = False
    """LoRA adapters may be loaded, replaced and unloaded as it runs (VLLM_ALLOW_RUNTIME_LORA_UPDATING): the names and
    roots above are those last listed."""
    sleep_mode: bool | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    encoder_mode: str = ""
    """How its multimodal encoder is split (--mm-encoder-tp-mode, as vLLM took it); empty where it has none, or says so
    not."""
    mamba: bool = False
    """It has layers with a state of their own beside the KV cache (hybrids)."""
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
    keep_alive_s: Seconds = KEEP_ALIVE_S
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
    `check` counts /weight_checker (0.32+), which tells checksums of the weights, or zeroes them: a body decides which.
    """

    sleep: CallCount = CallCount()
    wake: CallCount = CallCount()
    rpc: CallCount = CallCount()
    pause: CallCount = CallCount()
    update: CallCount = CallCount()
    check: CallCount = CallCount()

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
class MemoryLimit:
    """One limit at or above a server's cgroup: the cgroup's path below the root, and the file that sets it."""

    group: str
    file: str
    limit_bytes: Bytes


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
    adapter's, loaded from `roots`. `prompt_tokens`: how long the question is to this model's tokenizer, where it told.
    """

    prompt: str
    answer: tuple[str, ...]
    vector: tuple[float, ...] = ()
    adapters: Mapping[str, KnownAnswer] = field(default_factory=dict)
    prompt_tokens: int | None = None
    roots: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> KnownAnswer:
        return KnownAnswer(self.answer, self.vector)
