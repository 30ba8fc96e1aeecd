"""Spans of a wake, made from published turns; and what reaches a collector over OTLP."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sleepd.adapters.otel import OtelExporter
from sleepd.core.commands import RunStep as Run
from sleepd.core.commands import StepOrder
from sleepd.core.model import Cause, CauseKind, ModelSpec, Now, Settings
from sleepd.core.plan import Plan, Verb, step_of
from sleepd.core.record import AskKind, ModelRecord, Waiter
from sleepd.core.records import TaskEnded
from sleepd.core.task import Task, TaskKind
from sleepd.core.turn import Note, Turn
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.obs.spans import Span
from sleepd.obs.wake_spans import WakeSpans
from sleepd.service import tracing

REQUEST = Cause(CauseKind.REQUEST, "gateway")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PLAN = Plan((step_of(Verb.WAKE), step_of(Verb.PROBE)))
WALL_S = 1_767_225_600.0


class Stage:
    """A wake of "a" that puts "b" to sleep first: the turns that tell of it, at moments a test chooses."""

    def __init__(self) -> None:
        self.spans = WakeSpans()
        waiter = Waiter(1, AskKind.WAKE, REQUEST, 99.0, 200.0)
        specs = {name: ModelSpec(name, f"http://{name}") for name in "ab"}
        models = {"a": ModelRecord(specs["a"], waiters=(waiter,)), "b": ModelRecord(specs["b"])}
        self.world = World(Settings(specs), models)
        self.wake = Task(7, "a", TaskKind.WAKE, 1, REQUEST, PLAN, 100.0)
        self.victim = Task(8, "b", TaskKind.SLEEP, 1, Cause(CauseKind.VICTIM, "a"), Plan(()), 101.0, parent=7)

    def turn(self, at_s: float, *tasks: Task, ended: TaskEnded | None = None, run: Verb | None = None) -> None:
        after = World(self.world.settings, self.world.models, {task.model: task for task in tasks})
        commands = (Run(StepOrder("a", 7, 0, step_of(run), 60.0)),) if run else ()
        turn = Turn(after, (ended,) if ended else (), commands)
        self.spans.turned(Published(self.world, turn, Now(at_s, WALL_S + at_s), 0.001))
        self.world = after

    def play(self, *, done: bool = True) -> None:
        self.turn(100.0, self.wake)
        self.turn(101.0, self.wake, self.victim)
        self.turn(103.0, self.wake, ended=TaskEnded(self.victim, "asleep at level 1", 0.0, 2.0, True))
        self.turn(104.0, self.wake, run=Verb.WAKE)
        self.turn(108.0, self.wake, run=Verb.PROBE)
        self.turn(109.0, ended=TaskEnded(self.wake, "awake" if done else "failed: no answer", 0.0, 9.0, done))

    def hold(self, at_s: float, waited_s: float, traceparent: str = "", end: HeldEnd = HeldEnd.SERVED) -> None:
        self.spans.waited(Held("a", waited_s, end, traceparent), Now(at_s, WALL_S + at_s))


def shape(span: Span) -> tuple[str, float, float, list[Any]]:
    begin_s, end_s = round(span.begin_wall_s - WALL_S, 3), round(span.end_wall_s - WALL_S, 3)
    return span.name, begin_s, end_s, [shape(child) for child in span.children]


WAKE = (
    *("wake a", 99.0, 109.0),
    [
        ("queue", 99.0, 100.0, []),
        ("preflight", 100.0, 104.0, [("victim: b", 101.0, 103.0, [])]),
        ("call: wake", 104.0, 108.0, []),
        ("proof: compare the known answer", 108.0, 109.0, []),
    ],
)


def test_a_wake_that_nobody_waited_for_at_the_gateway() -> None:
    stage = Stage()
    stage.play()
    assert stage.spans.finished(Now(110.0, 0.0)) == [], "who waited may still be told"
    (wake,) = stage.spans.finished(Now(112.0, 0.0))
    assert shape(wake) == WAKE
    assert wake.attributes["sleepd.cause.kind"] == "request"
    assert wake.children[1].attributes == {"sleepd.victims": "b"}
    assert not wake.error
    assert stage.spans.finished(Now(120.0, 0.0)) == [], "once"


def test_the_request_that_waited_longest_is_the_parent_and_failures_are_errors() -> None:
    stage = Stage()
    stage.play(done=False)
    stage.hold(109.1, 5.0, "00-11111111111111111111111111111111-2222222222222222-01", HeldEnd.REFUSED)
    stage.hold(109.2, 10.2, PARENT)
    (first,) = stage.spans.finished(Now(112.0, 0.0))
    assert first.traceparent == PARENT
    name, begin_s, end_s, children = shape(first)
    assert (name, begin_s, end_s) == ("request waits", 99.0, 109.2)
    assert [child[0] for child in children] == ["wake a", "request waits"]
    assert first.children[0].error == "failed: no answer"
    assert first.children[1].error == "refused"


class Collector:
    """Takes OTLP over HTTP, and knows what came."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        self.news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                with collector.news:
                    for resource in sent.resource_spans:
                        for scope in resource.scope_spans:
                            collector.spans |= {span.name: span for span in scope.spans}
                    collector.news.notify_all()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def await_spans(self, count: int) -> dict[str, Any]:
        with self.news:
            assert self.news.wait_for(lambda: len(self.spans) >= count, 30.0), self.spans.keys()
        return self.spans


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


async def test_a_collector_gets_the_trace_below_the_clients(collector: Collector) -> None:
    stage, told = Stage(), list[str]()
    stage.play(done=False)
    stage.hold(109.2, 10.2, PARENT)
    exporter = OtelExporter(collector.endpoint, told.append)
    (tree,) = stage.spans.finished(Now(112.0, 0.0))
    assert exporter.send(tree)
    spans = await asyncio.to_thread(collector.await_spans, 7)
    await exporter.close()
    request, wake, call = spans["request waits"], spans["wake a"], spans["call: wake"]
    assert {span.trace_id.hex() for span in spans.values()} == {PARENT[3:35]}
    assert request.parent_span_id.hex() == PARENT[36:52]
    assert (wake.parent_span_id, call.parent_span_id) == (request.span_id, wake.span_id)
    assert spans["victim: b"].parent_span_id == spans["preflight"].span_id
    assert call.end_time_unix_nano - call.start_time_unix_nano == 4_000_000_000
    assert (wake.status.code, wake.status.message) == (2, "failed: no answer")
    assert told == []


async def test_a_collector_that_is_away_is_told_once_and_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Note] = []
    moment = Now(1000.0, WALL_S)
    part = tracing.TracingPart(told.append, lambda: moment)
    part.start("", {})
    assert part._exporter is None
    part.start("http://127.0.0.1:1", {"OTEL_SDK_DISABLED": "true"})
    assert part._exporter is None
    part.start("http://127.0.0.1:1", {})
    exporter: Any = part._exporter
    for _ in range(200):
        exporter.send(Span("wake a", WALL_S, WALL_S + 1))
    async with asyncio.timeout(30):
        while not told:  # noqa: ASYNC110 - said by a thread of the SDK
            await asyncio.sleep(0.01)
        await part.stop()
    assert [note.data["code"] for note in told] == ["failing"]


async def test_packages_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Note] = []

    def nothing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(tracing, "import_module", nothing)
    part = tracing.TracingPart(told.append, lambda: Now(1000.0, WALL_S))
    part.start("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert [note.data["code"] for note in told] == ["missing"]
    assert "pip install -r requirements-otel.txt" in told[0].text
    await part.stop()


def test_nothing_is_imported_where_no_collector_is_named() -> None:
    code = "import sys, sleepd.service.process; print(*[m for m in sys.modules if m.startswith('opentelemetry')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_who_waited_before_the_wake_began_is_no_part_of_it() -> None:
    stage = Stage()
    for _ in range(40):  # a gate that was shut for a moment, and no wake
        stage.hold(50.0, 0.5, "00-11111111111111111111111111111111-2222222222222222-01")
    stage.play()
    stage.hold(109.2, 10.2, PARENT)
    (first,) = stage.spans.finished(Now(112.0, 0.0))
    assert (first.traceparent, [child.name for child in first.children]) == (PARENT, ["wake a"])


def test_a_wake_that_went_with_its_model_is_followed_no_more() -> None:
    stage = Stage()
    stage.turn(100.0, stage.wake)
    stage.turn(101.0)
    assert stage.spans._open == {}


async def test_what_is_over_at_the_end_of_the_daemon_is_sent(collector: Collector) -> None:
    exporter = OtelExporter(collector.endpoint, lambda _: None)
    exporter._thread.do(lambda: time.sleep(0.5))  # spans are not made at once
    for number in range(90):
        assert exporter.send(Span(f"wake {number}", WALL_S, WALL_S + 1))
    await exporter.close()
    assert len(collector.spans) == 90


@pytest.mark.parametrize("name", ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"])
async def test_an_environment_that_the_sdk_refuses_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "nonsense")
    told: list[Note] = []
    part = tracing.TracingPart(told.append, lambda: Now(1000.0, WALL_S))
    part.start("http://127.0.0.1:1", {})
    assert [note.data["code"] for note in told] == ["unusable"]
    await part.stop()
