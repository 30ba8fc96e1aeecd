"""One simulated vLLM server: `SimEngine`. Pure: its time, GPU memory and host RAM are given, its faults are armed.

It is used twice: behind HTTP in real time (sim/fake_server.py), and by the simulator in virtual time, with several
engines on one simulated GPU. What it imitates, and from which release on, is data in sim/dialects.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from types import MappingProxyType

from sleepd.sim import vllm_adapters
from sleepd.sim import vllm_bodies as bodies
from sleepd.sim import vllm_info as info
from sleepd.sim.dialects import dialect_of
from sleepd.sim.vllm_calls import HANG_S
from sleepd.sim.vllm_control import ControlRoutes
from sleepd.sim.vllm_core import EngineCore
from sleepd.sim.vllm_faults import Fault, FaultQueue
from sleepd.sim.vllm_handle import CallHandle
from sleepd.sim.vllm_inference import InferenceRoutes
from sleepd.sim.vllm_types import (
    EngineCounters,
    EngineSnapshot,
    EngineSpec,
    GpuMemory,
    HostRam,
    HttpRequest,
    Reply,
    Scheduler,
    SimAnswer,
    SimChunk,
    SimDropped,
    SimReply,
)
from sleepd.sim.vllm_worker import Worker

CLOSE_AFTER_DEATH_S, EXIT_AFTER_DEATH_S = 0.2, 0.7  # recorded from 0.32; the exit status is 0
EXIT_AFTER_SIGTERM_S = 0.3

_UNCOUNTED = re.compile("/metrics|/health|/load|/ping|/version|/server_info")  # searched, as the instrumentator does
_REFUSED = SimDropped(refused=True)


class SimEngine:
    """A vLLM API server and its engine core. It starts awake and ready, with its memory claimed (raises OutOfMemory
    where it does not fit). `on_close` is called when its socket closes, `on_exit` with the status it exits with."""

    def __init__(
        self,
        spec: EngineSpec,
        scheduler: Scheduler,
        gpu: GpuMemory,
        host: HostRam,
        *,
        on_close: Callable[[], None] = lambda: None,
        on_exit: Callable[[int], None] = lambda status: None,
        started_wall_s: float = 0.0,
    ) -> None:
        self.spec, self.dialect = spec, dialect_of(spec.version)
        self._scheduler, self._gpu, self._host = scheduler, gpu, host
        self._on_close, self._on_exit = on_close, on_exit
        self._started_s, self._started_wall_s = scheduler.now(), started_wall_s
        self._faults = FaultQueue()
        worker = Worker(spec, self.dialect, gpu, host, self._faults)
        self.adapters = worker.adapters
        self._core = EngineCore(spec, self.dialect, scheduler, worker, self._faults, self._on_death)
        self._control = ControlRoutes(spec, self.dialect, scheduler, self._core)
        self._inference = InferenceRoutes(spec, self._core, self._wall_s)
        self._routes = info.routes_of(spec, self.dialect)
        self._open: dict[CallHandle, None] = {}  # in the order of their coming, so that a seed plays alike every time
        self._in_flight = 0
        self.asked_asleep = 0
        """Inference requests that came while the engine slept, or paused for a sleep."""
        self._http_requests: Counter[tuple[str, str, str]] = Counter()
        self._http_seconds: dict[tuple[str, str], tuple[int, float]] = {}
        self.listening = True
        self.exit_status: int | None = None
        """None while the process lives."""

    # requests

    def call(self, request: HttpRequest, reply: Reply) -> CallHandle:
        """`reply` gets the answers to `request`, the first possibly before this returns: one SimReply, or its head
        and chunks when streaming, or SimDropped. Silence means that it waits, as the real caller would."""
        handle = CallHandle(request, reply, self._scheduler.now())
        if not self.listening:
            handle.ended = True
            handle.tell(_REFUSED)
            return handle
        self._open[handle] = None
        refusal = self._refuse(request)
        if refusal is not None:
            self._answer(handle, refusal)
        elif not self._struck(handle):
            self._route(handle)
        return handle

    def _refuse(self, request: HttpRequest) -> SimReply | None:
        key = self.spec.api_key
        guarded = key is not None and request.path.startswith("/v1")
        if guarded and request.headers.get("authorization") != f"Bearer {key}":
            return bodies.UNAUTHORIZED
        methods = self._routes.get(request.path)
        if methods is None:
            return bodies.NOT_FOUND
        return None if request.method in methods else bodies.method_not_allowed(", ".join(methods))

    def _struck(self, handle: CallHandle) -> bool:
        """An armed fault took the call away before the engine saw it."""
        path = handle.request.path
        fault = self._faults.take("lose_before", "lose_after", "no_op", "die_at_call", path=path)
        if fault is None:
            return False
        if fault.kind == "lose_after":
            handle.lost = True
            return False
        if fault.kind == "lose_before":
            self._end(handle)
            handle.tell(SimDropped())
        elif fault.kind == "no_op":
            self._answer(handle, self._control.pretend(handle.request))
        else:
            self._core.die()
        return True

    def _route(self, handle: CallHandle) -> None:
        request = handle.request
        if self._control.answers(request.path):
            fault = self._faults.take("hang", "slow", path=request.path)
            delay_s = 0.0 if fault is None else HANG_S if fault.kind == "hang" else fault.seconds
            if self._core.alive:
                self._control.handle(request, lambda answer: self._control_answer(handle, answer), delay_s)
        elif self._inference.answers(request.path):
            handle.is_load = True
            self._in_flight += 1
            self.asked_asleep += self._core.is_sleeping
            handle.give_up = self._inference.handle(request, lambda answer: self._answer(handle, answer))
            if handle.give_up is not None:
                give_up = handle.give_up
                handle.give_up = lambda: self._abandoned(handle, give_up)
        else:
            self._answer(handle, self._describe(request))

    def _describe(self, request: HttpRequest) -> SimReply:
        """The routes that only look at the API server."""
        path = request.path
        if path in ("/health", "/ping"):
            # Up to 0.10.1 a core that was killed is never missed.
            dead = not self._core.alive and self.dialect.health_asks_engine and not self._core.lost
            return SimReply(503 if dead else 200)
        if path == "/version":
            return SimReply(200, {"version": self.spec.version})
        if path == "/v1/models":
            return SimReply(200, info.models(self.spec, self._wall_s(), self.adapters))
        if path in vllm_adapters.ROUTES:
            return vllm_adapters.answer(request, self._core.worker)
        if path == "/load":
            return SimReply(200, {"server_load": self._in_flight if self.spec.load_tracking else 0})
        if path == "/tokenize":
            return self._inference.tokenize(request)
        if path == "/abort_requests":
            return self._inference.abort_requests(request)
        if path == "/openapi.json":
            return SimReply(200, info.openapi(self.spec, self.dialect))
        if path == "/server_info":
            as_json = request.asked("config_format", "text") == "json"
            return SimReply(200, info.server_info(self.spec, self.dialect, as_json=as_json))
        if path == "/get_world_size":
            return SimReply(200, {"world_size": self.spec.tensor_parallel_size})
        return SimReply(200)  # caches of inputs; /metrics is rendered by the HTTP layer from the snapshot

    def _control_answer(self, handle: CallHandle, answer: SimReply) -> None:
        self._answer(handle, answer)
        if handle.request.path == "/sleep" and answer.status == 200:
            fault = self._faults.take("die_after_sleep")
            if fault:
                self._scheduler.call_later(fault.seconds or 0.3, self._core.die)

    def _answer(self, handle: CallHandle, answer: SimAnswer) -> None:
        if isinstance(answer, SimReply) and not answer.streaming:
            self._end(handle, answer.status)
        elif isinstance(answer, SimChunk) and answer.last:
            self._end(handle, 200)
        handle.tell(answer)

    def _abandoned(self, handle: CallHandle, give_up: Callable[[], None]) -> None:
        give_up()
        self._end(handle, 200)  # the handler returns normally once its client is gone

    def _end(self, handle: CallHandle, status: int | None = None) -> None:
        """The response ended: the moment vLLM counts it. Without a status nothing was answered, nothing counts."""
        if handle.ended:
            return
        handle.ended = True
        self._open.pop(handle, None)
        request = handle.request
        known = request.method in self._routes.get(request.path, ())
        self._in_flight -= handle.is_load
        if status is None or status == 401 or _UNCOUNTED.search(request.path):
            return
        name = request.path if known else "none"
        self._http_requests[name, request.method, f"{status // 100}xx"] += 1
        count, seconds = self._http_seconds.get((name, request.method), (0, 0.0))
        elapsed = self._scheduler.now() - handle.started_s
        self._http_seconds[name, request.method] = (count + 1, seconds + elapsed)

    # faults

    def arm(self, fault: Fault) -> None:
        """`fault` waits for its occasion; `die_now` strikes at once."""
        if fault.kind == "die_now":
            self._core.die()
        elif fault.kind == "kill_core":
            self.kill_core()
        else:
            self._faults.arm(fault)

    def armed(self) -> tuple[Fault, ...]:
        """The faults that still wait."""
        return self._faults.armed()

    def disarm(self) -> None:
        """No fault waits any more; a call that hangs still hangs."""
        self._faults.clear()

    def release_hang(self) -> None:
        """A call held by `hang` goes on, and those behind it follow in order."""
        self._core.release_hang()

    # ends

    def terminate(self) -> None:
        """SIGTERM: running requests end in an error, queued ones as aborted, the process exits 0 within 0.3 s."""
        if self.listening:
            self._close()
            self._core.shut_down()
            self._scheduler.call_later(EXIT_AFTER_SIGTERM_S, lambda: self._exit(0))

    def kill(self, *, orphans: bool = False) -> None:
        """SIGKILL of the whole process tree, or (`orphans`) of the API server alone: then its engine core lives on
        and keeps the memory, as observed. Every connection breaks."""
        if self.exit_status is None:
            self._core.silence()
            self._exit(-9, orphans=orphans)

    def kill_core(self) -> None:
        """SIGKILL of the engine core alone: its memory is free at once. From 0.10.2 the server notices and ends;
        before, it stays, says it is healthy, and every request hangs (#21728)."""
        if self.exit_status is None and self._core.alive and self.dialect.notices_killed_core:
            self._core.die()
        elif self.exit_status is None and self._core.alive:
            self._core.lost = True
            self._core.silence()
            self._gpu.claim(0)

    def _on_death(self) -> None:
        self._scheduler.call_later(CLOSE_AFTER_DEATH_S, self._close)
        self._scheduler.call_later(EXIT_AFTER_DEATH_S, lambda: self._exit(0))

    def _close(self) -> None:
        if self.listening:
            self.listening = False
            self._on_close()

    def _exit(self, status: int, *, orphans: bool = False) -> None:
        if self.exit_status is not None:
            return
        self._close()
        self.exit_status = status
        if not orphans:
            self._gpu.claim(0)
            self._host.pin(0)
        for handle in tuple(self._open):
            self._end(handle)
            handle.tell(SimDropped())
        self._on_exit(status)

    # what can be seen

    def counters(self) -> EngineCounters:
        """Some numbers of this moment, for whoever asks often."""
        core = self._core
        running, waiting = core.gauges()
        return EngineCounters(
            num_requests_running=running,
            num_requests_waiting=waiting,
            prompt_tokens=core.batch.prompt_tokens,
            generation_tokens=core.batch.generation_tokens(),
            request_success=core.batch.request_success,
            http_requests=self._http_requests,
            sleep_state=self._control.sleep_state,
        )

    def snapshot(self) -> EngineSnapshot:
        """The numbers of this moment."""
        core, worker = self._core, self._core.worker
        running, waiting = core.gauges()
        exited = self.exit_status is not None
        return EngineSnapshot(
            now_s=self._scheduler.now(),
            alive=core.alive,
            listening=self.listening,
            is_paused=core.pause is not None or core.frontend_pause is not None,
            sleeping_tags=frozenset(core.sleeping_tags),
            held_bytes=0 if exited else worker.held_bytes,
            pinned_bytes=0 if exited else worker.pinned_bytes,
            mapped_blocks=worker.mapped_blocks(),
            answers_right=worker.answers_right and not core.cache_is_stale,
            num_requests_running=running,
            num_requests_waiting=waiting,
            in_flight_requests=self._in_flight,
            prompt_tokens=core.batch.prompt_tokens,
            generation_tokens=core.batch.generation_tokens(),
            request_success=MappingProxyType(core.batch.request_success),
            http_requests=MappingProxyType(self._http_requests),
            http_seconds=MappingProxyType(self._http_seconds),
            sleep_state=self._control.sleep_state,
            operation_seconds=MappingProxyType(self._control.operation_seconds),
            operations_in_flight=MappingProxyType(self._control.operations_in_flight),
            process_start_time_s=self._started_wall_s,
        )

    def _wall_s(self) -> float:
        return self._started_wall_s + self._scheduler.now() - self._started_s
