"""What the engine needs of the outside world, as protocols. Adapters and the simulator implement them.

None of these raises for what the outside does wrong: failures are values (`Missing`, `NoAnswer`), so that a wire
fault cannot unwind a decision. All are awaited on the loop thread and never block it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sleepd.core.calls import Answered, CallResult, NoAnswer, NoAnswerKind, ProbeAnswer, ProbeResult
from sleepd.core.model import ModelSpec, Now, Reading
from sleepd.core.plan import Verb
from sleepd.core.question import COMPLETIONS
from sleepd.core.records import Record, Saved
from sleepd.core.seen import GpusSeen, HostSeen, ModelSeen
from sleepd.core.unit import Ordered, UnitOrder, UnitSeen
from sleepd.core.units import Seconds

__all__ = [
    "Answered",
    "CallResult",
    "Clock",
    "Gpus",
    "HostMemory",
    "NoAnswer",
    "NoAnswerKind",
    "Notifier",
    "ProbeAnswer",
    "ProbeResult",
    "Store",
    "StoreFailed",
    "Units",
    "Vllm",
    "VllmFactory",
]


class Clock(Protocol):
    def now(self) -> Now: ...

    async def sleep(self, seconds: Seconds) -> None: ...


class Vllm(Protocol):
    """One vLLM server. One instance per model; calls may overlap."""

    async def look(
        self,
        *,
        ask_sleeping: bool,
        timeout_s: Seconds,
        fence: bool = False,
        ask_connections: bool = False,
        counters: bool = True,
        adapters: bool = False,
    ) -> Reading[ModelSeen]:
        """Return counters and gauges, the facts (asked anew when the incarnation changed), the pids.

        Waits `timeout_s` at most. `ask_sleeping` adds GET /is_sleeping, which blocks behind engine calls; with
        `fence` the counters are read only after its answer, so that they count every call it waited for.
        `ask_connections` adds who is connected beside this process. Without `counters` only /is_sleeping is asked of
        a server whose facts are known: somebody waits for that answer. With `adapters` the LoRA adapters of a server
        where these come and go are listed as they are now.
        """
        ...

    async def call(self, verb: Verb, *, timeout_s: Seconds, mode_parameter: bool) -> CallResult:
        """Send the one control call of this verb on a fresh connection, never twice."""
        ...

    async def complete(
        self, prompt: str, *, api_name: str, timeout_s: Seconds, asks_at: str = COMPLETIONS
    ) -> ProbeResult:
        """Return the greedy continuation of `prompt` as at most 8 token texts, or at a pooling route its vector."""
        ...

    async def checksums(self, *, timeout_s: Seconds) -> str:
        """Return one digest over the checksums of all weights; empty where the server told none in time."""
        ...

    async def close(self) -> None: ...


class VllmFactory(Protocol):
    def __call__(self, spec: ModelSpec) -> Vllm: ...


class Gpus(Protocol):
    async def read(self, *, processes: bool) -> Reading[GpusSeen]:
        """Return every GPU; with `processes` also who holds how much (dear: asked only around transitions)."""
        ...

    async def close(self) -> None: ...


class HostMemory(Protocol):
    async def read(self) -> Reading[HostSeen]: ...


class Units(Protocol):
    """The service manager's units, one of which may be a server's."""

    async def look(self, unit: str, *, timeout_s: Seconds) -> Reading[UnitSeen]:
        """Return how the unit is; Missing where that cannot be read within `timeout_s`."""
        ...

    async def order(self, unit: str, order: UnitOrder, *, timeout_s: Seconds) -> Ordered:
        """Order it and return how that ended, `timeout_s` later at most: what was begun goes on then."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Succession:
    """Another run of the daemon follows this one, which has `stop_s` to end; the service manager keeps at most
    `kept_limit` descriptors in between."""

    stop_s: Seconds
    kept_limit: int


class Successor(Protocol):
    """The way to the next run of the daemon."""

    async def announced(self) -> Succession | None:
        """Return what the next run is left, where one follows; None where this is the end for good, or nobody knows."""
        ...

    async def keep(self, name: str, descriptors: Sequence[int]) -> bool:
        """Return whether these are passed to the next run, by this name."""
        ...


class Store(Protocol):
    async def load(self) -> Saved: ...

    async def commit(self, records: Sequence[Record]) -> None:
        """Make all records durable, or none and raise StoreFailed."""
        ...

    async def close(self) -> None: ...


class StoreFailed(Exception):
    """Records could not be made durable; nothing of the batch was kept. The message names the file and the cause."""


class Notifier(Protocol):
    """The service manager's ear (sd_notify). Every method is cheap and never fails."""

    def ready(self) -> None: ...
    def status(self, text: str) -> None: ...
    def watchdog(self) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self) -> None: ...
    def extend(self, timeout_s: Seconds) -> None: ...
