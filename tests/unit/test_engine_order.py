"""The order of recording and publishing: what acts waits for its commit, what ends well does not, nothing is lost."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sleepd.core.beginning import begin
from sleepd.core.commands import Answer, AnswerKind, LeaveStep, OpenGate, RunStep, StepOrder
from sleepd.core.events import Event, Evidence, GpusLooked, HostLooked, ModelLooked, StepEnd, StepEnded, Tick
from sleepd.core.machine import answers_first
from sleepd.core.model import Missing, MissingReason, Now, Settings
from sleepd.core.plan import Verb, step_of
from sleepd.core.records import EngineProven, Record, Saved
from sleepd.core.reservation import Reservation
from sleepd.core.turn import Turn
from sleepd.core.wishes import ResetAsked, WakeAsked
from sleepd.core.world import World
from sleepd.engine import loop as engine_loop
from sleepd.engine.gate import Gates
from sleepd.engine.loop import Loop
from sleepd.engine.published import Published
from sleepd.engine.runner import cancelled
from sleepd.ports import StoreFailed

ENDED = StepEnded("m", 1, 0, StepEnd.DONE, Evidence(200, "", 0.0, 0.0))
ASKED = WakeAsked(7, "m", "somebody", 60.0)
DONE = Answer(1, AnswerKind.DONE)
GATE = OpenGate("m")
WORLD = begin(Settings(models={}, rules=()), Saved(), Now(0.0, 0.0)).world
RUN = RunStep(
    StepOrder(
        model="m",
        task_id=2,
        cursor=0,
        step=step_of(Verb.WAKE),
        timeout_s=1.0,
        pids=(),
        uuids=(),
        least_freed_bytes=0,
        gpus_before=Missing(MissingReason.NOT_YET),
        asleep_bytes={},
        prompt="",
        api_name="m",
        mode_parameter=False,
        activity=None,
    )
)


def turn_of(*commands: object, record: str = "", shut: tuple[str, ...] = ()) -> Turn:
    records = (EngineProven(record, 0.0),) if record else ()
    return Turn(WORLD, records, commands, (), shut)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "turn", "first"),
    [
        ([ENDED], turn_of(DONE, GATE, record="r"), True),
        ([ENDED], turn_of(GATE, record="r"), True),
        ([ENDED], turn_of(DONE, RUN, record="r"), False),
        ([ENDED], turn_of(DONE, record="r", shut=("m",)), False),
        ([ENDED, ASKED], turn_of(DONE, record="r"), False),
        ([ENDED], turn_of(Answer(1, AnswerKind.REFUSED), record="r"), False),
        ([Tick()], turn_of(DONE, record="r"), False),
    ],
)
def test_only_a_good_end_is_told_before_it_is_recorded(events: list[Event], turn: Turn, first: bool) -> None:
    assert answers_first(events, turn) is first


class Outside:
    """Clock, store and runner in one: notes what happened in which order; commits wait and fail as told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.full = False

    def now(self) -> Now:
        return Now(0.0, 0.0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def commit(self, records: Sequence[Record]) -> None:
        await self.may_commit.wait()
        if self.full:
            raise StoreFailed("the disk is full")
        self.log.append("commit " + " ".join(r.key for r in records if isinstance(r, EngineProven)))

    async def run(self, order: StepOrder, server: object) -> StepEnded:
        self.log.append(f"run {order.task_id}")
        return ENDED


@pytest.fixture
async def outside() -> Outside:
    return Outside()


def loop_of(outside: Outside, **tellers: Any) -> tuple[Loop, Gates]:
    gates = Gates()
    loop = Loop(
        WORLD,
        clock=outside,
        store=outside,  # type: ignore[arg-type]
        runner=outside,  # type: ignore[arg-type]
        gates=gates,
        server=lambda name: None,  # type: ignore[arg-type,return-value]
        tell=lambda notes, now: outside.log.extend(n.kind for n in notes),
        **{"beat": lambda world: None, **tellers},
    )
    return loop, gates


async def test_a_gate_opens_before_the_commit_that_says_so(outside: Outside, script: list[Turn]) -> None:
    loop, gates = loop_of(outside)
    outside.may_commit.clear()
    script.append(turn_of(GATE, record="awake"))
    turning = asyncio.create_task(loop.turn([ENDED]))
    await asyncio.sleep(0)
    assert (gates.of("m").open, turning.done()) == (True, False)
    outside.may_commit.set()
    await turning
    assert outside.log == ["commit awake"]


async def test_who_follows_hears_of_a_turn_once_it_is_the_world(outside: Outside, script: list[Turn]) -> None:
    heard: list[Published] = []
    loop, _ = loop_of(outside, follow=heard.append)
    before, turn = loop.world, turn_of(RUN, record="intent")
    outside.full = True
    script.append(turn)
    await loop.turn([ENDED])
    assert heard == [], "what could not be recorded never was"
    outside.full = False
    script.append(turn)
    await loop.turn([ENDED])
    assert [(p.before, p.turn) for p in heard] == [(before, turn)]
    assert loop.world is turn.world
    assert heard[0].step_s >= 0.0


async def test_a_step_waits_for_its_commit(outside: Outside, script: list[Turn]) -> None:
    loop, _ = loop_of(outside)
    outside.may_commit.clear()
    script.append(turn_of(RUN, record="intent"))
    turning = asyncio.create_task(loop.turn([ENDED]))
    await asyncio.sleep(0.01)
    assert outside.log == []
    outside.may_commit.set()
    await turning
    await asyncio.sleep(0)
    assert outside.log == ["commit intent", "run 2"]


async def test_what_was_told_and_not_recorded_precedes_the_next_step(outside: Outside, script: list[Turn]) -> None:
    loop, gates = loop_of(outside)
    outside.full = True
    script.append(turn_of(GATE, record="awake"))
    await loop.turn([ENDED])
    assert gates.of("m").open
    script.append(turn_of(RUN, record="intent"))
    await loop.turn([ENDED])
    await asyncio.sleep(0)
    assert outside.log == ["not_recordable", "not_recordable"], "a step ran without its record"
    assert loop.unrecorded == "the disk is full"
    outside.full = False
    script.append(turn_of(RUN, record="intent"))
    await loop.turn([ENDED])
    await asyncio.sleep(0)
    assert outside.log[2:] == ["commit awake intent", "run 2"]
    assert loop.unrecorded == ""


async def test_an_owed_record_is_tried_again_without_news(outside: Outside, script: list[Turn]) -> None:
    loop, _ = loop_of(outside)
    outside.full = True
    script += [turn_of(GATE, record="awake"), turn_of()]
    await loop.turn([ENDED])
    outside.full = False
    turning = asyncio.create_task(loop.run())
    await asyncio.sleep(0.05)
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)
    assert outside.log == ["not_recordable", "commit awake"]


async def test_turns_that_cannot_be_recorded_are_told_once_a_try(
    outside: Outside, script: list[Turn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_loop, "RETRY_COMMIT_S", 3600.0)
    loop, _ = loop_of(outside)
    outside.full = True
    script += [turn_of(record="lost"), turn_of(GATE, record="owed"), turn_of(record="lost")]
    for events in ([Tick()], [ENDED], [Tick()]):
        await loop.turn(events)
    assert outside.log == ["not_recordable"]


async def test_while_the_disk_is_full_looks_do_not_pile_up_and_the_end_of_a_step_is_kept(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[Event]] = []

    def decide(world: object, events: Sequence[Event], now: object) -> Turn:
        batches.append([event for event in events if not isinstance(event, Tick)])
        return turn_of(record="lost")

    monkeypatch.setattr(engine_loop, "step", decide)
    monkeypatch.setattr(engine_loop, "RETRY_COMMIT_S", 0.001)
    loop, _ = loop_of(outside)
    outside.full = True
    running = asyncio.create_task(loop.run())
    loop.submit(ENDED)
    for number in range(100):
        seen = Missing(MissingReason.UNREADABLE, str(number), 0.0)
        for look in (ModelLooked("a", seen), ModelLooked("b", seen), GpusLooked(seen), HostLooked(seen)):
            loop.submit(look)
        await asyncio.sleep(0.001)
    turns = len(batches)
    async with asyncio.timeout(20):
        while len(batches) < turns + 3 or not batches[-1]:  # noqa: ASYNC110 - of a list
            await asyncio.sleep(0.001)
    await cancelled(running)
    assert len(batches[-1]) == 5
    assert ENDED in batches[-1]
    assert GpusLooked(seen) in batches[-1], "the newest"


async def test_the_end_of_a_step_says_how_many_requests_are_inside_the_gate(
    outside: Outside, script: list[Turn], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, gates = loop_of(outside)
    reported: list[Event] = []
    monkeypatch.setattr(loop, "submit", reported.append)
    gate = gates.of("m")
    gate.open = True
    assert gate.enter()
    gate.open = False
    script.append(turn_of(RUN))
    await loop.turn([ENDED])
    await asyncio.sleep(0)
    assert reported == [replace(ENDED, in_flight=1)]


class Unanswering(Outside):
    """Its calls are never answered."""

    async def run(self, order: StepOrder, server: object) -> StepEnded:
        self.log.append(f"run {order.task_id}")
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


@pytest.mark.parametrize(("left", "ended"), [(("m", 2, 0), True), (("m", 3, 0), False), (("x", 2, 0), False)])
async def test_a_step_that_is_left_ends_as_unanswered_and_no_other_one_does(
    script: list[Turn], monkeypatch: pytest.MonkeyPatch, left: tuple[str, int, int], ended: bool
) -> None:
    outside = Unanswering()
    loop, _ = loop_of(outside)
    reported: list[Any] = []
    monkeypatch.setattr(loop, "submit", reported.append)
    script += [turn_of(RUN), turn_of(LeaveStep(*left)), turn_of()]
    await loop.turn([Tick()])
    await asyncio.sleep(0)
    await loop.turn([Tick()])
    for _ in range(3):
        await asyncio.sleep(0)
    assert outside.log == ["run 2"]
    assert [(e.end, e.task_id, e.cursor) for e in reported] == ([(StepEnd.UNANSWERED, 2, 0)] if ended else [])
    await loop.stop()
    assert len(reported) == int(ended), "a step that is cancelled with the daemon tells nothing"


async def test_who_asks_after_the_end_is_answered_at_once(outside: Outside, script: list[Turn]) -> None:
    loop, _ = loop_of(outside)
    script += [turn_of(), turn_of()]
    early = asyncio.create_task(loop.ask(lambda waiter: ResetAsked(waiter, "m", "uid 0")))
    await asyncio.sleep(0)
    await loop.stop()
    late = await loop.ask(lambda waiter: ResetAsked(waiter, "m", "uid 0"))
    for answer in (await early, late):
        assert (answer.kind, answer.problem, answer.hint) == (AnswerKind.REFUSED, "failed", engine_loop.ASK_AGAIN)
        assert answer.retry_s == engine_loop.ASK_AGAIN_AFTER_S


async def test_signs_of_life_come_as_often_as_they_are_wanted(outside: Outside) -> None:
    slept: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            enough.set()
        await asyncio.sleep(0)

    outside.sleep = sleep  # type: ignore[attr-defined]
    loop, _ = loop_of(outside, beat_s=0.5)
    running = asyncio.create_task(loop.run())
    await asyncio.wait_for(enough.wait(), 20.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert max(slept) <= 0.5


async def test_a_deadline_that_falls_into_a_commit_is_due_right_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, it was past by then, and waited for the next look or the beat."""
    outside, now_s = Outside(), 0.0
    ticks: list[bool] = []
    ticked = asyncio.Event()
    monkeypatch.setattr(outside, "now", lambda: Now(now_s, 0.0))
    ends_at_10 = replace(WORLD, reservations={"r": Reservation("r", "bob", (), 1, until_s=10.0)})

    def decide(world: World, events: Sequence[Event], now: Now) -> Turn:
        ticks.append(any(isinstance(event, Tick) for event in events))
        if ticks[-1]:
            ticked.set()
        return replace(turn_of(record="r"), world=WORLD if now.mono_s > 10.0 else ends_at_10)

    monkeypatch.setattr(engine_loop, "step", decide)
    loop, _ = loop_of(outside, beat_s=3600.0)
    outside.may_commit.clear()
    running = asyncio.create_task(loop.run())
    loop.submit(ASKED)
    await asyncio.sleep(0.01)
    assert ticks == [False]
    now_s = 30.0
    outside.may_commit.set()
    async with asyncio.timeout(30.0):
        await ticked.wait()
    assert ticks == [False, True]
    running.cancel()
