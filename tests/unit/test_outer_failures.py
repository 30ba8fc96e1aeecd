"""Errors of our own are never survived silently: a watch that breaks ends the daemon, a step that breaks is told."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from sleepd.core.commands import StepOrder
from sleepd.core.events import Event, StepEnd, StepEnded
from sleepd.core.turn import Turn
from sleepd.engine import loop as engine_loop
from sleepd.engine.observer import Observer
from sleepd.service import daemon as service_module
from sleepd.service.daemon import Service
from sleepd.service.listeners import Listeners
from sleepd.service.metrics import MetricsPart
from sleepd.service.onlookers import Onlookers
from sleepd.service.servers import Servers
from tests.unit.test_engine_order import RUN, WORLD, Outside, loop_of, turn_of
from tests.unit.test_outer_gates import BEGUN


class Broken(Exception):
    pass


class Sink:
    """Takes observations of a world with one model."""

    def __init__(self) -> None:
        self.world = BEGUN
        self.taken: list[Event] = []

    def submit(self, event: Event, within_s: float = 0.0) -> None:
        self.taken.append(event)

    def entered(self, model: str) -> int:
        return 0

    def in_flight(self, model: str) -> int:
        return 0


class Source:
    """Reads nothing; breaks where it is told to."""

    def __init__(self, *, breaks: bool = False) -> None:
        self._breaks = breaks

    async def read(self, *, processes: bool = False) -> Any:
        return self._answer()

    async def look(self, **asked: Any) -> Any:
        return self._answer()

    def _answer(self) -> Any:
        if self._breaks:
            raise Broken("a reading that nobody foresaw")


def observer_of(sink: Sink, broken: str) -> Observer:
    sources = {name: Source(breaks=name == broken) for name in ("gpus", "host", "model")}
    return Observer(sink, Outside(), sources["gpus"], sources["host"], lambda name: sources["model"])  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["gpus", "host", "model"])
async def test_a_watch_that_breaks_is_told_to_whoever_waits(broken: str) -> None:
    observer = observer_of(Sink(), broken)
    observer.start()
    with pytest.raises(Broken, match="nobody foresaw"):
        async with asyncio.timeout(2.0):
            await observer.wait()
    await observer.stop()


async def test_watches_that_are_stopped_or_have_nothing_left_to_watch_are_no_failure() -> None:
    sink = Sink()
    observer = observer_of(sink, "")
    observer.start()
    waiting = asyncio.create_task(observer.wait())
    await asyncio.sleep(0)
    sink.world = WORLD
    observer.follow()
    await asyncio.sleep(0.01)
    await observer.stop()
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.parametrize("broken", ["loop", "observer", "calendar"])
async def test_the_service_ends_by_each(broken: str) -> None:
    """Raised out of `wait`, it ends the process with an error, and the service manager starts it again."""

    async def fail() -> None:
        raise Broken(broken)

    async def go_on() -> None:
        await asyncio.sleep(60.0)

    service = object.__new__(Service)
    service._turning = asyncio.create_task(fail() if broken == "loop" else go_on())
    service._ticking = asyncio.create_task(fail() if broken == "calendar" else go_on())
    service._observer = SimpleNamespace(wait=fail if broken == "observer" else go_on)  # type: ignore[assignment]
    with pytest.raises(Broken, match=broken):
        async with asyncio.timeout(2.0):
            await service.wait()
    service._turning.cancel()
    service._ticking.cancel()


async def test_a_step_that_breaks_ends_unanswered_with_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = Outside()

    async def fail(order: StepOrder, server: object) -> StepEnded:
        raise Broken("an answer that nobody foresaw")

    outside.run = fail  # type: ignore[method-assign]
    loop, _ = loop_of(outside)
    judged: list[Event] = []

    def step(world: object, events: Sequence[Event], now: object) -> Turn:
        judged.extend(events)
        return turn_of()

    monkeypatch.setattr(engine_loop, "step", step)
    loop._carry_out(RUN)
    turning = asyncio.create_task(loop.run())
    await asyncio.sleep(0.02)
    turning.cancel()
    (ended,) = [event for event in judged if isinstance(event, StepEnded)]
    assert (ended.model, ended.task_id, ended.cursor, ended.end) == ("m", 2, 0, StepEnd.UNANSWERED)
    assert "Broken: an answer that nobody foresaw" in ended.evidence.detail
    assert "failure" in outside.log


async def test_a_slow_disk_is_told_and_not_taken_for_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_loop, "DISK_PATIENCE_S", 0.05)
    monkeypatch.setattr(engine_loop, "step", lambda world, events, now: turn_of(record="r"))
    outside = Outside()
    outside.may_commit.clear()
    beats: list[str] = []
    loop, _ = loop_of(
        outside, beat=lambda world: beats.append("turn"), disk_slow=lambda: beats.append("disk"), beat_s=0.01
    )
    turning = asyncio.create_task(loop.turn([]))
    await asyncio.sleep(0.15)
    assert 3 <= len(beats) <= 5, "it went on for ever, or not at all"
    assert set(beats) == {"disk"}
    outside.may_commit.set()
    await turning
    assert beats[-1] == "turn"
    assert outside.log == ["commit r"]


async def test_a_turn_that_is_cancelled_at_the_disk_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_loop, "step", lambda world, events, now: turn_of(record="r"))
    outside = Outside()
    outside.may_commit.clear()
    loop, _ = loop_of(outside)
    turning = asyncio.create_task(loop.turn([]))
    await asyncio.sleep(0)
    turning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turning
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Part:
    """Something to be closed, which may break or hang at that."""

    def __init__(self, name: str, closed: list[str], broken: str, *, hangs: bool) -> None:
        self._name, self._closed = name, closed
        self._broken, self._hangs = name == broken, hangs

    async def close(self) -> None:
        self._closed.append(self._name)
        if self._broken and self._hangs:
            await asyncio.sleep(60.0)
        if self._broken:
            raise Broken(self._name)

    stop = close

    async def leave_passed(self) -> None:
        """The API's."""

    def stopping(self) -> None:
        """The service manager's."""


PARTS = ("observer", "loop", "api", "history", "traces", "webhooks", "server", "gpus", "store")


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("broken", PARTS)
async def test_a_part_that_cannot_end_keeps_no_other_open(
    monkeypatch: pytest.MonkeyPatch, broken: str, hangs: bool
) -> None:
    monkeypatch.setattr(service_module, "STOP_PART_S", 0.5 if hangs else 30.0)
    closed: list[str] = []
    told: list[str] = []
    parts = {name: Part(name, closed, broken, hangs=hangs) for name in PARTS}
    service: Any = object.__new__(Service)
    onlookers: Any
    service._parts = SimpleNamespace(notifier=parts["gpus"], gpus=parts["gpus"], store=parts["store"], manager=None)
    service._observer, service._loop = parts["observer"], parts["loop"]
    service._onlookers = onlookers = object.__new__(Onlookers)
    onlookers.history, onlookers.tracing, onlookers.webhooks = parts["history"], parts["traces"], parts["webhooks"]
    service._listeners, service._servers = Listeners(MetricsPart(lambda: None)), Servers(service._parts, print)
    service._listeners._api, service._servers._clients = parts["api"], {("a",): parts["server"]}
    service._turning = asyncio.create_task(asyncio.sleep(60.0))
    service._ticking = None
    monkeypatch.setattr(service_module.log, "log_note", lambda note: told.append(note.kind))
    await service.stop()
    assert closed == list(parts)
    assert told == ["failure"]
    assert service._turning.cancelled()
