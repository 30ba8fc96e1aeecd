"""A bench for SimEngine: virtual time, a GPU in bytes, and callers whose answers are kept."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_handle import CallHandle
from sleepd.sim.vllm_types import (
    EngineSpec,
    HostRamExhausted,
    HttpRequest,
    OutOfMemory,
    SimAnswer,
    SimChunk,
    SimDropped,
    SimReply,
    Timing,
)

TIMING = Timing(sleep_s=1.0, wake_s=2.0, reload_s=3.0)
ALL = ["0.16.0", "0.22.1", "0.24.0", "0.28.0", "0.31.0", "0.32.0"]
CHAT = {"model": "tiny-a", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}


@dataclass(eq=False)
class Appointment:
    fn: Any
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Virtual time: `run` moves it from appointment to appointment."""

    def __init__(self) -> None:
        self.time = 0.0
        self._heap: list[tuple[float, int, Appointment]] = []
        self._serial = itertools.count()

    def now(self) -> float:
        return self.time

    def call_later(self, delay_s: float, fn: Any, /) -> Appointment:
        appointment = Appointment(fn)
        heapq.heappush(self._heap, (self.time + delay_s, next(self._serial), appointment))
        return appointment

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            self.time, _, appointment = heapq.heappop(self._heap)
            if not appointment.cancelled:
                appointment.fn()
        self.time = end


@dataclass
class Gpu:
    """One GPU for all engines of a bench; each takes a `seat`."""

    total: int = 10**12
    held: dict[int, int] = field(default_factory=dict)

    def used(self) -> int:
        return sum(self.held.values())

    def seat(self, number: int) -> Seat:
        return Seat(self, number)


@dataclass
class Seat:
    gpu: Gpu
    number: int

    def claim(self, bytes_: int, /) -> None:
        others = self.gpu.used() - self.gpu.held.get(self.number, 0)
        if bytes_ > self.gpu.held.get(self.number, 0) and others + bytes_ > self.gpu.total:
            raise OutOfMemory("CUDA Error: out of memory")
        self.gpu.held[self.number] = bytes_

    def free_bytes(self) -> int | None:
        return self.gpu.total - self.gpu.used()


@dataclass
class Ram:
    limit: int = 10**12
    pinned: int = 0

    def pin(self, bytes_: int, /) -> None:
        if bytes_ > self.limit:
            raise HostRamExhausted("CUDA error: out of memory (pinned)")
        self.pinned = bytes_


@dataclass
class Call:
    """One request and everything that came back."""

    answers: list[SimAnswer] = field(default_factory=list)
    handle: CallHandle | None = None

    @property
    def waiting(self) -> bool:
        return not self.answers

    @property
    def reply(self) -> SimReply:
        first = self.answers[0]
        assert isinstance(first, SimReply), first
        return first

    @property
    def status(self) -> int:
        return self.reply.status

    @property
    def body(self) -> Any:
        return self.reply.body

    @property
    def text(self) -> str:
        return self.body["choices"][0]["message"]["content"]

    @property
    def chunks(self) -> list[Any]:
        return [answer.data for answer in self.answers[1:] if isinstance(answer, SimChunk)]

    @property
    def dropped(self) -> bool:
        return isinstance(self.answers[-1], SimDropped)


class Bench:
    """One engine on a bench: 8 units of weights, 20 of KV, 1 that stays; two blocks per pool."""

    def __init__(self, version: str = "0.32.0", *, gpu: Gpu | None = None, ram: Ram | None = None, **spec: Any) -> None:
        values = {"weights_bytes": 8, "kv_bytes": 20, "residual_bytes": 1, "blocks": 2, "timing": TIMING, "pace_s": 0.1}
        self.clock = spec.pop("clock", None) or Clock()
        self.gpu, self.ram = gpu or Gpu(), ram or Ram()
        self.exits: list[int] = []
        self.engine = SimEngine(
            EngineSpec(version=version, **(values | spec)),
            self.clock,
            self.gpu.seat(len(self.gpu.held)),
            self.ram,
            on_exit=self.exits.append,
            started_wall_s=1_795_000_000.0,
        )

    def send(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Call:
        parts = urlsplit(target)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        call = Call()
        call.handle = self.engine.call(HttpRequest(method, parts.path, query, body, headers or {}), call.answers.append)
        return call

    def get(self, target: str) -> Call:
        return self.send("GET", target)

    def post(self, target: str, body: Any = None) -> Call:
        return self.send("POST", target, body)

    def do(self, target: str, body: Any = None, *, within_s: float = 100.0) -> Call:
        """The call, and time until it has ended."""
        call = self.post(target, body)
        self.clock.run(within_s)
        return call

    def rpc(self, method: str, **kwargs: Any) -> Call:
        return self.do("/collective_rpc", {"method": method, "kwargs": kwargs})

    def chat(self, **more: Any) -> Call:
        return self.post("/v1/chat/completions", CHAT | more)

    def ask(self, **more: Any) -> Call:
        """A chat and the time it takes."""
        call = self.chat(**more)
        self.clock.run(10)
        return call

    @property
    def now(self) -> Any:
        return self.engine.snapshot()

    @property
    def held(self) -> int:
        return self.now.held_bytes

    def is_sleeping(self) -> bool:
        return self.get("/is_sleeping").body["is_sleeping"]

    def is_paused(self) -> bool:
        return self.get("/is_paused").body["is_paused"]

    def level_2_cycle(self) -> None:
        """Sleep level 2 and wake again, with the reload."""
        for target, body in (
            ("/sleep?level=2", None),
            ("/wake_up?tags=weights", None),
            ("/collective_rpc", {"method": "reload_weights"}),
            ("/wake_up?tags=kv_cache", None),
        ):
            assert self.do(target, body).status == 200
