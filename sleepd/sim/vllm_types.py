"""The simulated engine's vocabulary: what goes in, what comes out, and the world it stands in.

Nothing here reads a clock or opens a socket: time, GPU memory and host RAM are protocols, so the same engine runs in
real time behind HTTP and in virtual time inside the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

GIB = 2**30


class Cancellable(Protocol):
    """A call that lies in the future."""

    def cancel(self) -> None:
        """The call will not happen; harmless when it already did."""


class Scheduler(Protocol):
    """Time as the engine knows it: seconds on one steady axis."""

    def now(self) -> float:
        """Seconds since any fixed moment."""

    def call_later(self, delay_s: float, fn: Callable[[], None], /) -> Cancellable:
        """`fn` runs once, `delay_s` seconds from now."""


class OutOfMemory(Exception):
    """The GPU has no room; the text is CUDA's."""


class HostRamExhausted(Exception):
    """The host cannot pin the bytes asked for."""


class GpuMemory(Protocol):
    """What this engine holds on each of its GPUs."""

    def claim(self, bytes_: int, /) -> None:
        """This engine holds exactly `bytes_` per GPU from now on (0: its process is gone). Raises OutOfMemory and
        changes nothing where there is no room."""

    def free_bytes(self) -> int | None:
        """Free bytes on the fullest GPU, other processes included; None where that cannot be told."""


class HostRam(Protocol):
    """Pinned host memory of this engine."""

    def pin(self, bytes_: int, /) -> None:
        """This engine pins exactly `bytes_` from now on. Raises HostRamExhausted and changes nothing."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long memory work takes. Fixed seconds win over the rates, which are GiB per second and per GPU."""

    sleep_s: float | None = None
    wake_s: float | None = None
    reload_s: float | None = None
    first_sleep_factor: float = 1.0
    """The first level 1 sleep pins host memory and takes this much longer (20 on real GPUs, seen up to 44 s)."""
    offload_gib_s: float = 20.0
    restore_gib_s: float = 20.0
    reload_gib_s: float = 2.0
    hash_gib_s: float = 1.0
    map_gib_s: float = 400.0


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One simulated vLLM server. Bytes are per GPU."""

    version: str = "0.32.0"
    name: str = "tiny-a"
    model_path: str = ""
    weights_bytes: int = 8 * GIB
    kv_bytes: int = 20 * GIB
    residual_bytes: int = GIB
    blocks: int = 4
    """Blocks per pool (weights, kv_cache): what a failed call may have done is a number of blocks."""
    timing: Timing = field(default_factory=Timing)
    sleep_mode: bool = True
    """`--enable-sleep-mode`; without it /sleep answers 200 and frees nothing."""
    dev_mode: bool = True
    """`VLLM_SERVER_DEV_MODE=1`; without it the control routes are 404."""
    api_key: str | None = None
    load_tracking: bool = False
    pace_s: float = 0.002
    """Seconds per token; a request adds its own with `vllm_xargs: {"pace_ms": n}`."""
    max_model_len: int = 4096
    max_num_seqs: int = 256
    tensor_parallel_size: int = 1
    pinned_factor: float = 1.0
    """Host bytes pinned per byte of weights; PyTorch rounds up to powers of two, so up to 2."""
    reload_peak_bytes: int = 0
    """What reading the weights anew takes beside them while it lasts (layer-wise reloads: seen above the KV cache)."""
    residual_growth_bytes: int = 0
    """What each sleep leaves behind for good (seen: 412 MiB to 5 GiB in a day)."""
    quantization: str | None = None
    """Quantized weights: before 0.16 a reload leaves them wrong."""
    kv_cache_dtype: str = "auto"
    """With `fp8…`, level 2 loses its scales before 0.12."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that are loaded as it starts, by name."""
    loads_adapters: bool = False
    """`VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`: adapters come and go as it runs."""
    task: Literal["generate", "embed", "pool"] = "generate"
    """What the model does: text, embeddings (/v1/embeddings and /pooling), or other pooling (/pooling)."""
    certain_tokens: int | None = None
    """How many tokens of an answer have a runner-up that is far behind; None: all."""
    weights_id: str = ""
    """What the answers derive from; empty: the model's name. Two servers of one model answer alike."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `body` is raw bytes or the JSON value itself, which saves the simulator the parsing."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def asked(self, name: str, default: str) -> str:
        """The last value of a query parameter, as FastAPI reads it."""
        return next((v for k, v in reversed(self.query) if k == name), default)

    def asked_all(self, name: str) -> list[str]:
        """Every value of a repeated query parameter."""
        return [v for k, v in self.query if k == name]


@dataclass(frozen=True, slots=True)
class SimReply:
    """A whole answer or, when `streaming`, its head. A str body is text/plain, None an empty one, else JSON."""

    status: int
    body: Any = None
    streaming: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    closes_connection: bool = False


@dataclass(frozen=True, slots=True)
class SimChunk:
    """One server-sent event of a streamed answer: the JSON value, or `[DONE]` as the last."""

    data: Any
    last: bool = False


@dataclass(frozen=True, slots=True)
class SimDropped:
    """The connection ended without (the rest of) an answer; `refused`: nobody listened."""

    refused: bool = False


SimAnswer = SimReply | SimChunk | SimDropped
Reply = Callable[[SimAnswer], None]


class EngineFailure(Exception):
    """An exception inside the engine core: the call failed, the engine lives. The server answers 500 with its text."""


class WorkerFailure(EngineFailure):
    """The same from the worker; with several workers vLLM wraps its text."""


class EngineCounters(NamedTuple):
    """The part of a snapshot that a daemon reads with every look."""

    num_requests_running: int
    num_requests_waiting: int
    prompt_tokens: int
    generation_tokens: int
    request_success: Mapping[str, int]
    http_requests: Mapping[tuple[str, str, str], int]
    """(handler, method, status class) -> ended responses."""
    sleep_state: str | None
    """awake | weights_offloaded | discard_all; None: all three gauges are 0 (level 0)."""


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """The numbers of one moment, unrendered. Gauges are as old as the engine's last step, as vLLM's are."""

    now_s: float
    alive: bool
    listening: bool
    is_paused: bool
    sleeping_tags: frozenset[str]
    held_bytes: int
    """On each GPU."""
    pinned_bytes: int
    mapped_blocks: Mapping[str, tuple[int, int]]
    """pool -> (mapped, all)."""
    answers_right: bool
    num_requests_running: int
    num_requests_waiting: int
    in_flight_requests: int
    prompt_tokens: int
    generation_tokens: int
    request_success: Mapping[str, int]
    http_requests: Mapping[tuple[str, str, str], int]
    """(handler, method, status class) -> ended responses."""
    http_seconds: Mapping[tuple[str, str], tuple[int, float]]
    sleep_state: str | None
    """awake | weights_offloaded | discard_all; None: all three gauges are 0 (level 0)."""
    operation_seconds: Mapping[str, tuple[int, float]]
    operations_in_flight: Mapping[str, int]
    process_start_time_s: float
