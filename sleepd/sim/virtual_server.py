"""The daemon's side of a simulated server in virtual time: the same calls as over HTTP, answered by callback."""

import math
from collections.abc import Callable

from sleepd.core.calls import Answered, NoAnswer, NoAnswerKind, ProbeAnswer, request_of
from sleepd.core.checksums import CHECKSUM_BODY, WEIGHT_CHECKER, read_checksums
from sleepd.core.frozen import replace
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.plan import Verb
from sleepd.core.question import COMPLETIONS, EMBEDDINGS, POOLING, question_body, read_answer
from sleepd.core.seen import (
    Activity,
    CallCount,
    ControlCounts,
    DirectSeen,
    EngineFacts,
    ModelSeen,
    SleepGauge,
    UnitMemory,
)
from sleepd.core.units import Seconds
from sleepd.sim.virtual_time import VirtualTime
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_types import EngineCounters, HttpRequest, SimAnswer, SimDropped, SimReply

LIST_S = 10.0
"""How often the adapters of a server are listed, as over HTTP."""
_GAUGES = {
    "awake": SleepGauge.AWAKE,
    "weights_offloaded": SleepGauge.OFFLOADED,
    "discard_all": SleepGauge.DISCARDED,
    None: SleepGauge.NONE_SET,
}


class VirtualServer:
    """One server address: the engine behind it may die and be replaced by another incarnation."""

    def __init__(self, time: VirtualTime, name: str) -> None:
        self._time, self.name = time, name
        self.engine: SimEngine | None = None
        self.pid = 0
        self._listed_s = 0.0
        self._described: tuple[SimEngine, EngineFacts] | None = None
        self._direct: dict[int, float] = {}
        self._next_direct = 0
        self._hung_page_of: SimEngine | None = None
        self._waiting_for_page: list[Callable[[], None]] = []
        self.killed = ""
        """What the kernel's OOM killer did to the process that is gone, as the adapter would tell it."""
        self.see_unit: Callable[[int], UnitMemory | None] = lambda pid: None

    def request(self, request: HttpRequest, timeout_s: Seconds, then: Callable[[SimAnswer | None], None]) -> None:
        """Give `then` the whole answer, or None when none came in time. Streams are not asked for here."""
        if self.engine is None:
            self._time.call_later(0.0005, lambda: then(SimDropped(refused=True)))
            return
        done = False

        def once(answer: SimAnswer | None) -> None:
            nonlocal done
            if not done:
                done = True
                pending.cancel()
                self._time.call_later(0.0005, lambda: then(answer))

        pending = self._time.call_later(timeout_s if math.isfinite(timeout_s) else 1e9, lambda: once(None))
        self.engine.call(request, once)

    def ask_directly(self, request: HttpRequest, timeout_s: Seconds, then: Callable[[SimAnswer | None], None]) -> None:
        """A request past the gate: as long as it is held, its connection can be seen."""
        self._next_direct += 1
        number = self._next_direct
        self._direct[number] = self._time.now()

        def answered(answer: SimAnswer | None) -> None:
            self._direct.pop(number, None)
            then(answer)

        self.request(request, timeout_s, answered)

    def _see_connections(self) -> DirectSeen:
        quiet_s = [self._time.now() - since_s for since_s in self._direct.values()]
        return DirectSeen(len(quiet_s), max(quiet_s, default=0.0))

    def _see(self, engine: SimEngine) -> ModelSeen:
        return seen_of(engine, self.pid, self._facts_of(engine), self.see_unit(self.pid))

    def _facts_of(self, engine: SimEngine) -> EngineFacts:
        if self._described is None or self._described[0] is not engine:
            self._described, self._listed_s = (engine, facts_of(engine)), self._time.now()
        return self._described[1]

    def call(self, verb: Verb, timeout_s: Seconds, mode: bool, then: Callable[[Answered | NoAnswer], None]) -> None:
        asked = request_of(verb, mode_parameter=mode)
        self.request(
            HttpRequest("POST", asked.path, asked.query, asked.body), timeout_s, lambda answer: then(_result(answer))
        )

    def complete(
        self,
        prompt: str,
        timeout_s: Seconds,
        then: Callable[[ProbeAnswer | Answered | NoAnswer], None],
        *,
        api_name: str,
        asks_at: str,
    ) -> None:
        body = question_body(asks_at, api_name, prompt)

        def take(answer: SimAnswer | None) -> None:
            if isinstance(answer, SimReply) and answer.status == 200:
                then(read_answer(asks_at, answer.body))
            else:
                then(_result(answer))

        self.request(HttpRequest("POST", asks_at, (), body), timeout_s, take)

    def checksums(self, timeout_s: Seconds, then: Callable[[str], None]) -> None:
        """Give `then` the digest over the checksums of all weights; empty where there was no such answer."""

        def take(answer: SimAnswer | None) -> None:
            then(read_checksums(answer.body) if isinstance(answer, SimReply) and answer.status == 200 else "")

        self.request(HttpRequest("POST", WEIGHT_CHECKER, (), CHECKSUM_BODY), timeout_s, take)

    def look(
        self,
        ask_sleeping: bool,
        timeout_s: Seconds,
        then: Callable[[Reading[ModelSeen]], None],
        *,
        fence: bool = False,
        ask_connections: bool = False,
        counters: bool = True,
        adapters: bool = False,
    ) -> None:
        """Give `then` the reading. Counters are of when it was asked; with `fence`, of after /is_sleeping answered."""
        asked_s = self._time.now()
        if adapters or (not ask_sleeping and asked_s - self._listed_s >= LIST_S):
            self._described = None
        engine = self.engine
        if engine is None or not engine.listening:
            detail = "connection refused"
            gone = Missing(MissingReason.REFUSED, detail, asked_s, self.killed)
            self._time.call_later(0.0005, lambda: then(gone))
            return
        if counters and self._hung_page_of is engine:
            self._wait_for_page(timeout_s, then, ask_sleeping, ask_connections)
            return
        seen = self._see(engine) if counters else ModelSeen(self._facts_of(engine), pids=(self.pid,))
        if ask_connections:
            seen = replace(seen, direct=self._see_connections())
        if not ask_sleeping:
            self._time.call_later(0.001, lambda: then(Known(seen, asked_s, self._time.now())))
            return

        def take(answer: SimAnswer | None) -> None:
            if answer is None:
                then(Missing(MissingReason.TIMED_OUT, "/is_sleeping", asked_s))
            elif not isinstance(answer, SimReply) or answer.status != 200:
                then(Missing(MissingReason.UNREACHABLE, "/is_sleeping broke off", asked_s))
            elif fence and self._hung_page_of is engine:
                self._wait_for_page(asked_s + timeout_s - self._time.now(), then, ask_sleeping, ask_connections)
            else:
                told = replace(self._see(engine) if fence else seen, is_sleeping=bool(answer.body["is_sleeping"]))
                then(Known(told, asked_s, self._time.now()))

        self.request(HttpRequest("GET", "/is_sleeping"), timeout_s, take)

    def hang_page(self) -> None:
        """The page of counters answers nobody any more, until `free_page` or another process."""
        self._hung_page_of = self.engine

    def free_page(self) -> None:
        """The page of counters answers again, those too who wait for it."""
        self._hung_page_of = None
        waiting, self._waiting_for_page = self._waiting_for_page, []
        for go_on in waiting:
            go_on()

    def _wait_for_page(
        self,
        timeout_s: Seconds,
        then: Callable[[Reading[ModelSeen]], None],
        ask_sleeping: bool,
        ask_connections: bool,
    ) -> None:
        """The look goes on when the page answers again; it is missing where that takes longer than `timeout_s`."""
        asked_s = self._time.now()

        def go_on() -> None:
            pending.cancel()
            left_s = asked_s + timeout_s - self._time.now()
            dated = lambda r: then(replace(r, asked_at_s=asked_s) if isinstance(r, Known) else r)  # noqa: E731
            self.look(ask_sleeping, left_s, dated, ask_connections=ask_connections)

        def give_up() -> None:
            self._waiting_for_page.remove(go_on)
            then(Missing(MissingReason.TIMED_OUT, "/metrics", asked_s))

        pending = self._time.call_later(timeout_s, give_up)
        self._waiting_for_page.append(go_on)


def facts_of(engine: SimEngine) -> EngineFacts:
    """What the adapter would have read of this engine at its first look, or now where it lists adapters anew."""
    spec, loaded = engine.spec, engine.adapters
    return EngineFacts(
        version=spec.version,
        release=tuple(int(part) for part in spec.version.split(".")[:3]),
        incarnation=f"pst:{engine.snapshot().process_start_time_s}",
        served_names=(spec.name,),
        sleep_mode=True,
        tensor_parallel=spec.tensor_parallel_size,
        quantization=spec.quantization,
        kv_cache_dtype=spec.kv_cache_dtype,
        weight_checker=engine.dialect.has_weight_checker,
        described=True,
        checkpoint_bytes=spec.weights_bytes * spec.tensor_parallel_size,
        model_path=spec.model_path or spec.name,
        gpu_memory_utilization=0.9,
        lora_names=tuple(loaded),
        lora_roots=tuple(loaded.values()),
        loads_adapters=spec.loads_adapters,
        lora=bool(loaded) or spec.loads_adapters,
        asks_at={"generate": COMPLETIONS, "embed": EMBEDDINGS, "pool": POOLING}[spec.task],
    )


def seen_of(engine: SimEngine, pid: int, facts: EngineFacts, unit: UnitMemory | None) -> ModelSeen:
    """What the adapter would have read from this engine's pages."""
    snap = engine.counters()
    return ModelSeen(
        facts=facts,
        is_sleeping=None,
        running=snap.num_requests_running,
        waiting=snap.num_requests_waiting,
        activity=Activity(snap.prompt_tokens, snap.generation_tokens, sum(snap.request_success.values())),
        control=ControlCounts(
            _count(snap, "/sleep"),
            _count(snap, "/wake_up"),
            _count(snap, "/collective_rpc"),
            _pauses(snap),
            check=_count(snap, "/weight_checker"),
        ),
        gauge=_GAUGES[snap.sleep_state] if engine.dialect.has_sleep_gauge else SleepGauge.ABSENT,
        pids=(pid,),
        unit_memory=unit,
    )


def _pauses(snap: EngineCounters) -> CallCount:
    paused, resumed = _count(snap, "/pause"), _count(snap, "/resume")
    return CallCount(paused.ok + resumed.ok, paused.failed + resumed.failed)


def _count(snap: EngineCounters, handler: str) -> CallCount:
    ok = failed = 0
    for (name, _, status), count in snap.http_requests.items():
        if name == handler:
            ok, failed = (ok + count, failed) if status == "2xx" else (ok, failed + count)
    return CallCount(ok, failed)


def _result(answer: SimAnswer | None) -> Answered | NoAnswer:
    if answer is None:
        return NoAnswer(NoAnswerKind.TIMED_OUT)
    if isinstance(answer, SimReply):
        if isinstance(answer.body, dict) and answer.body.get("success") is False:
            return Answered(409, "prefix cache not reset")
        text = answer.body if isinstance(answer.body, str) else str((answer.body or {}).get("status", ""))
        if answer.status >= 400 and isinstance(answer.body, dict):
            text = str(answer.body.get("error", ""))
        return Answered(answer.status, text)
    refused = isinstance(answer, SimDropped) and answer.refused
    return NoAnswer(NoAnswerKind.REFUSED if refused else NoAnswerKind.BROKEN_OFF, "connection dropped")
