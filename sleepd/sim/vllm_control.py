"""The control routes: /sleep, /wake_up, /is_sleeping, /pause, /resume, /is_paused, /collective_rpc and the caches.

Source: vLLM entrypoints/serve/dev/*/api_router.py (0.32), entrypoints/openai/api_server.py (before), and recordings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from sleepd.sim import vllm_bodies as bodies
from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_calls import Work
from sleepd.sim.vllm_core import EngineCore
from sleepd.sim.vllm_prompts import parse_body, parse_object
from sleepd.sim.vllm_types import EngineFailure, EngineSpec, HttpRequest, Scheduler, SimReply

Answer = Callable[[SimReply], None]
Success = Callable[[object], SimReply]

_OPERATIONS = {"/sleep": "sleep", "/wake_up": "wake", "/release_kv_cache_memory": "release_kv_cache_memory"}


class ControlRoutes:
    """Turns control requests into engine calls and their ends into answers, and keeps the frontend's sleep gauges."""

    def __init__(self, spec: EngineSpec, dialect: Dialect, scheduler: Scheduler, core: EngineCore) -> None:
        self._spec, self._dialect, self._scheduler, self._core = spec, dialect, scheduler, core
        self._routes: dict[str, Callable[[HttpRequest, Answer, float], None]] = {
            "/sleep": self._sleep,
            "/wake_up": self._wake_up,
            "/is_sleeping": self._is_sleeping,
            "/is_paused": self._is_paused,
            "/pause": self._pause,
            "/resume": self._resume,
            "/collective_rpc": self._collective_rpc,
            "/reset_prefix_cache": self._reset_prefix_cache,
            "/release_kv_cache_memory": self._release_kv_cache,
            "/weight_checker": self._check_weights,
        }
        self.sleep_state: str | None = "awake"
        """What the gauges say: the outcome the frontend believes, not what the engine holds."""
        self.operation_seconds: dict[str, tuple[int, float]] = {}
        self.operations_in_flight: Counter[str] = Counter()

    def answers(self, path: str) -> bool:
        """This is one of the routes here."""
        return path in self._routes

    def handle(self, request: HttpRequest, answer: Answer, delay_s: float = 0.0) -> None:
        """`answer` gets the reply when the engine is through with it; never, where the engine dies first."""
        self._routes[request.path](request, answer, delay_s)

    def pretend(self, request: HttpRequest) -> SimReply:
        """The success this request would get, with nothing done."""
        if request.path == "/sleep":
            return self._slept(_level_of(request))
        if request.path == "/wake_up":
            return self._woken(request.asked_all("tags"), asleep=False)
        canned: dict[str, Any] = {
            "/collective_rpc": {"results": [None]},
            "/pause": {"status": "paused"},
            "/resume": {"status": "resumed"},
            "/is_sleeping": {"is_sleeping": False},
            "/is_paused": {"is_paused": False},
        }
        if request.path == "/reset_prefix_cache":
            return self._cache_reset(True)
        return SimReply(200, canned.get(request.path))

    # sleep and wake

    def _sleep(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        refusal = self._refuse_sleep(request)
        if refusal:
            answer(refusal)
            return
        level, mode = _level_of(request), request.asked("mode", "abort")

        def slept(_: object) -> SimReply:
            pauses = level == 0 and self._dialect.zero_level_only_pauses
            self.sleep_state = None if pauses else "weights_offloaded" if level == 1 else "discard_all"
            return self._slept(level)

        finish = self._timed("/sleep", self._finish("sleep", answer, slept))
        self._core.call(self._core.sleep(level, mode, finish), finish, delay_s)

    def _refuse_sleep(self, request: HttpRequest) -> SimReply | None:
        level, mode = request.asked("level", "1"), request.asked("mode", "abort")
        try:
            number = int(level)
        except ValueError:
            if not self._dialect.json_bodies:
                return bodies.bad_level(level, self._dialect)
            message = "Input should be a valid integer, unable to parse string as an integer"
            return bodies.validation_error("query.level", "int_parsing", message, f"'input': {level!r}")
        if not self._dialect.json_bodies:
            return None
        if number > 2:
            message, extra = "Input should be less than or equal to 2", f"'input': {level!r}, 'ctx': {{'le': 2}}"
            return bodies.validation_error("query.level", "less_than_equal", message, extra)
        if number < 0:
            message, extra = "Input should be greater than or equal to 0", f"'input': {level!r}, 'ctx': {{'ge': 0}}"
            return bodies.validation_error("query.level", "greater_than_equal", message, extra)
        return _refuse_mode(mode)

    def _wake_up(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        tags = request.asked_all("tags")

        def woken(_: object) -> SimReply:
            partial = bool(self._core.sleeping_tags)
            if not partial or self._dialect.partial_wake_shows_awake:
                self.sleep_state = "awake"
            return self._woken(tags, asleep=self._core.is_sleeping)

        finish = self._timed("/wake_up", self._finish("wake_up", answer, woken))
        self._core.call(self._core.wake_up(tags), finish, delay_s)

    def _release_kv_cache(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        # the 200 body is empty in 0.31; no GPU recording of a later one exists
        finish = self._timed(request.path, self._finish("release_kv_cache_memory", answer, lambda _: SimReply(200)))
        self._core.call(self._core.release_kv_cache(), finish, delay_s)

    def _slept(self, level: int) -> SimReply:
        return SimReply(200, {"status": "sleeping", "level": level} if self._dialect.json_bodies else None)

    def _woken(self, tags: list[str], *, asleep: bool) -> SimReply:
        if not self._dialect.json_bodies:
            return SimReply(200)
        return SimReply(200, {"status": "sleeping" if asleep else "awake", "tags": tags or None})

    # questions

    def _is_sleeping(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        self._ask("is_sleeping", lambda: self._core.is_sleeping, answer, delay_s)

    def _is_paused(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        self._ask("is_paused", lambda: self._core.is_paused, answer, delay_s)

    def _ask(self, name: str, question: Callable[[], bool], answer: Answer, delay_s: float) -> None:
        finish = self._finish(name, answer, lambda value: SimReply(200, {name: value}))
        self._core.call(self._core.ask(question), finish, delay_s)

    # pause and resume

    def _pause(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        mode = request.asked("mode", "abort")
        if not self._dialect.pause_takes_mode:
            waits = request.asked("wait_for_inflight_requests", "false").lower() in ("true", "1")
            mode = "wait" if waits else "abort"
        refusal = _refuse_mode(mode)
        if refusal:
            answer(refusal if self._dialect.json_bodies else SimReply(400, {"error": f"Invalid pause mode: {mode}"}))
            return
        finish = self._finish("pause_generation", answer, lambda _: SimReply(200, {"status": "paused"}))
        self._core.call(self._core.pause_requests(mode, finish), finish, delay_s)

    def _resume(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        finish = self._finish("resume_generation", answer, lambda _: SimReply(200, {"status": "resumed"}))
        self._core.call(self._core.resume(), finish, delay_s)

    # worker methods and caches

    def _collective_rpc(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        try:
            body = parse_body(request.body)
        except ValueError as problem:
            answer(bodies.error(400, f"JSON decode error: {problem}", "Bad Request"))
            return
        if not isinstance(body, dict):
            answer(bodies.error(400, "Request body must be a JSON object", "Bad Request"))
            return
        method = body.get("method")
        if method is None:
            answer(bodies.error(400, "Missing 'method' in request body", "Bad Request"))
            return
        work: Work = self._core.collective_rpc(
            method, body.get("args") or [], body.get("kwargs") or {}, body.get("timeout")
        )
        finish = self._finish("collective_rpc", answer, lambda results: SimReply(200, {"results": results}))
        self._core.call(work, finish, delay_s)

    def _reset_prefix_cache(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        finish = self._finish("reset_prefix_cache", answer, self._cache_reset)
        self._core.call(self._core.reset_prefix_cache(), finish, delay_s)

    def _check_weights(self, request: HttpRequest, answer: Answer, delay_s: float) -> None:
        """`checksum`, `compare`, and `reset`, which zeroes the weights."""
        body = parse_object(request.body)
        action, baseline = body.get("action"), body.get("baseline")
        if action == "reset":
            finish = self._finish("collective_rpc", answer, lambda _: SimReply(200, {"status": "reset"}))
            self._core.call(self._core.zero_weights(), finish, delay_s)
            return
        if action not in ("checksum", "compare"):
            wanted = "'checksum', 'reset' or 'compare'"
            extra = f"'input': {action!r}, 'ctx': {{'expected': \"{wanted}\"}}"
            answer(bodies.validation_error("body.action", "literal_error", f"Input should be {wanted}", extra))
            return
        if action == "compare" and not isinstance(baseline, dict):
            answer(bodies.error(400, "action='compare' requires a 'baseline' object", "Bad Request"))
            return

        def checked(sums: Any) -> SimReply:
            if action == "checksum":
                return SimReply(200, {"checksums": sums})
            known = baseline or {}
            mismatches = sorted(key for key in sums.keys() | known.keys() if sums.get(key) != known.get(key))
            return SimReply(200, {"match": not mismatches, "mismatches": mismatches})

        finish = self._finish("compute_weight_checksums", answer, checked)
        self._core.call(self._core.weight_checksums(), finish, delay_s)

    def _cache_reset(self, success: object) -> SimReply:
        return SimReply(200, {"success": success} if self._dialect.reset_reports_success else None)

    # ends

    def _finish(self, name: str, answer: Answer, success: Success) -> Callable[[object], None]:
        def finish(value: object) -> None:
            if isinstance(value, EngineFailure):
                answer(bodies.engine_failure(name, value, self._spec, self._dialect))
            else:
                answer(success(value))

        return finish

    def _timed(self, path: str, finish: Callable[[object], None]) -> Callable[[object], None]:
        operation, started = _OPERATIONS[path], self._scheduler.now()
        self.operations_in_flight[operation] += 1

        def timed(value: object) -> None:
            self.operations_in_flight[operation] -= 1
            count, seconds = self.operation_seconds.get(operation, (0, 0.0))
            self.operation_seconds[operation] = (count + 1, seconds + self._scheduler.now() - started)
            finish(value)

        return timed


def _level_of(request: HttpRequest) -> int:
    return int(request.asked("level", "1"))


def _refuse_mode(mode: str) -> SimReply | None:
    if mode in ("abort", "wait", "keep"):
        return None
    wanted = "'abort', 'wait' or 'keep'"
    extra = f"'input': {mode!r}, 'ctx': {{'expected': \"{wanted}\"}}"
    return bodies.validation_error("query.mode", "literal_error", f"Input should be {wanted}", extra)
