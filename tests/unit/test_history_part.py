"""History in the daemon: a disk that is slow or damaged costs rows, is told, and keeps nobody from counting."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sleepd.core.life import Life, State, Weights
from sleepd.core.model import ModelSpec, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.turn import Note, Turn
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.history.found import HistoryUnreadable, Page, Span
from sleepd.history.rows import Batch, Kept
from sleepd.service import history as module

WALL_S = 1_767_225_600.0


class Disk:
    """A database whose disk hangs while `may_write` is clear, and that is found damaged by a question if told so."""

    def __init__(self) -> None:
        self.written: list[Batch] = []
        self.writes = 0
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.set_aside, self.damaged = "", False
        self.refusals: list[str] = []

    async def open(self) -> Kept:
        if self.refusals:
            raise HistoryUnreadable(self.refusals.pop(0))
        return Kept()

    async def write(self, batch: Batch) -> None:
        self.writes += 1
        await self.may_write.wait()
        self.written.append(batch)

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        if self.damaged:
            self.damaged, self.set_aside = False, "history.db is damaged: it was set aside"
            raise HistoryUnreadable("damaged")
        return Page()

    async def forget(self, keep_s: float) -> int:
        return 0

    async def forget_names(self) -> int:
        return 0

    async def close(self) -> None:
        """Nothing is open."""


class Rig:
    def __init__(self) -> None:
        self.disk, self.told, self.mono_s = Disk(), list[Note](), 100.0
        disk: Any = self.disk
        self.part = module.HistoryPart(
            disk, now=lambda: Now(self.mono_s, WALL_S), tell=self.told.append, keep_s=lambda: 1e6, entered=lambda _: 0
        )
        specs = {"a": ModelSpec("a", "http://a")}
        world = World(Settings(specs), {"a": ModelRecord(specs["a"], life=Life(State.AWAKE, Weights.LOADED))})
        self.part.turned(Published(world, Turn(world), self.part._now(), 0.0))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - of a condition of many parts
                await asyncio.sleep(0.001)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(module, "SAMPLE_EVERY_S", 0.001)
    return Rig()


async def test_a_file_that_cannot_be_opened_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REOPEN_EVERY_S", 0.001)
    rig.disk.refusals = ["no room", "no room", "a newer version", "no room"]
    rig.part.start()
    await rig.until(lambda: rig.disk.writes > 1)
    codes = [note.data["code"] for note in rig.told]
    assert codes == ["unreadable", "unreadable", "unreadable", "again"]
    assert "a newer version" in rig.told[1].text
    assert await rig.part.page(Span(0.0, 1.0), 10, "") == Page()
    await rig.part.stop()
    assert [interval.model for batch in rig.disk.written for interval in batch.intervals]


async def test_time_that_passes_while_the_disk_hangs_is_counted(rig: Rig) -> None:
    rig.part.start()
    await rig.until(lambda: len(rig.disk.written) > 1)
    rig.disk.may_write.clear()
    began = rig.disk.writes
    await rig.until(lambda: rig.disk.writes > began)
    chronicle: Any = rig.part._chronicle
    for _ in range(10):
        rig.mono_s += 60.0
        await rig.until(lambda: chronicle._tracks["a"].counted_s == rig.mono_s)
    rig.disk.may_write.set()
    await rig.part.stop()
    assert sum(spent.awake_s for batch in rig.disk.written for spent in batch.spent.values()) == 600.0


async def test_damage_that_a_question_finds_is_told_and_states_are_on_record_again(rig: Rig) -> None:
    rig.part.start()
    await rig.until(lambda: len(rig.disk.written) > 1)
    rig.disk.damaged = True
    rig.disk.written.clear()
    with pytest.raises(HistoryUnreadable):
        await rig.part.page(Span(0.0, 1.0), 10, "")
    await rig.until(lambda: any(batch.intervals for batch in rig.disk.written))
    assert [note.data["code"] for note in rig.told] == ["damaged"]
    await rig.part.stop()
