"""Hundreds of models at once: nothing is done for each that is as dear as all of them together."""

import asyncio
import threading
from dataclasses import replace

import pytest

from sleepd.adapters.owners import Owners, SharedLook
from sleepd.core.beginning import newborn
from sleepd.core.events import Event
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Missing, MissingReason, ModelSpec, Now, Settings
from sleepd.core.world import World
from sleepd.engine.observer import FIRST_LOOKS, Observer
from sleepd.engine.places import Places
from tests.unit.test_outer_gates import world_of

COUNT = 3 * FIRST_LOOKS


class Scans:
    """Looks that wait until they are let go; each tells which it was."""

    def __init__(self) -> None:
        self.begun = 0
        self.first = threading.Event()
        self.go = threading.Semaphore(0)

    def __call__(self) -> Owners:
        self.begun += 1
        self.first.set()
        found = Owners(paths={"/s": {self.begun}})
        assert self.go.acquire(timeout=30.0)
        return found


async def test_a_thousand_that_ask_share_two_looks_and_none_gets_one_that_began_before() -> None:
    scans = Scans()
    shared = SharedLook(scans)
    first = asyncio.create_task(shared.take())
    assert await asyncio.to_thread(scans.first.wait, 30.0)
    later = [asyncio.create_task(shared.take()) for _ in range(1000)]
    await asyncio.sleep(0)
    later[0].cancel()
    scans.go.release()
    scans.go.release()
    async with asyncio.timeout(30.0):
        assert (await first).of("unix:/s") == {1}
        assert {tuple((await task).of("unix:/s")) for task in later[1:]} == {(2,)}
    assert scans.begun == 2


async def test_a_look_that_breaks_is_told_to_all_who_asked_and_the_next_begins_anew() -> None:
    answers: list[Owners | Exception] = [OSError("no /proc"), Owners()]

    def look() -> Owners:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = SharedLook(look)
    both = await asyncio.gather(shared.take(), shared.take(), return_exceptions=True)
    assert [str(error) for error in both] == ["no /proc", "no /proc"]
    assert await shared.take() == Owners()


def test_descendants_of_who_listens_even_where_pids_go_in_circles() -> None:
    owners = Owners(paths={"/s": {2}}, ports={80: {5}}, children={2: {3}, 3: {4, 2}, 1: {2, 5}})
    assert owners.of("unix:/s") == {2, 3, 4}
    assert owners.of("http://localhost:80/v1") == {5}
    assert owners.of("http://localhost:99999") == owners.of("http://localhost") == set()


class Many:
    """A sink and all servers in one: a look runs until it is let go, and makes its model known."""

    def __init__(self, settings: Settings) -> None:
        self.world = world_with(settings)
        self.running: dict[str, asyncio.Future[None]] = {}
        self.most = 0
        self.begun: list[str] = []

    def now(self) -> Now:
        return Now(0.0, 0.0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()

    def submit(self, event: Event, within_s: float = 0.0) -> None:
        pass

    def in_flight(self, model: str) -> int:
        return 0

    def entered(self, model: str) -> int:
        return 0

    async def read(self, *, processes: bool = False) -> Missing:
        return Missing(MissingReason.NOT_YET)

    def server(self, name: str) -> "Server":
        return Server(self, name)

    def end_one(self) -> None:
        name = next(iter(self.running))
        self.running.pop(name).set_result(None)


class Server:
    def __init__(self, many: Many, name: str) -> None:
        self._many, self._name = many, name

    async def look(self, **asked: object) -> Missing:
        many = self._many
        many.begun.append(self._name)
        many.running[self._name] = asyncio.get_running_loop().create_future()
        many.most = max(many.most, len(many.running))
        await many.running[self._name]
        return Missing(MissingReason.NOT_YET)


def world_with(settings: Settings, state: State = State.UNKNOWN) -> World:
    life = Life(state, Weights.LOADED)
    records = {name: replace(newborn(spec, Now(0.0, 0.0)), life=life) for name, spec in settings.models.items()}
    return replace(world_of(state), settings=settings, models=records)


def many_models() -> Settings:
    names = [f"m{number}" for number in range(COUNT)]
    return replace(world_of(State.UNKNOWN).settings, models={name: ModelSpec(name, f"unix:/{name}") for name in names})


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, no look of the test counts as one that hangs."""
    monkeypatch.setattr("sleepd.engine.observer.PLACE_S", 600.0)


@pytest.mark.usefixtures("no_hurry")
async def test_first_looks_keep_to_their_bound_the_wanted_one_overtakes_and_all_come_up() -> None:
    many = Many(many_models())
    observer = Observer(many, many, many, many, many.server)  # type: ignore[arg-type]
    observer.start()
    await settle()
    assert len(many.running) == FIRST_LOOKS
    wanted = next(name for name in many.world.models if name not in many.begun)
    observer.nudge(model=wanted)
    many.end_one()
    await settle()
    assert many.begun[-1] == wanted
    while many.running:
        many.end_one()
        await settle()
    assert (sorted(many.begun), many.most) == (sorted(many.world.models), FIRST_LOOKS)
    await observer.stop()


@pytest.mark.usefixtures("no_hurry")
async def test_who_is_known_waits_for_no_first_look() -> None:
    settings = many_models()
    many = Many(settings)
    many.world = world_with(settings, State.AWAKE)
    observer = Observer(many, many, many, many, many.server)  # type: ignore[arg-type]
    observer.start()
    await settle()
    assert len(many.running) == COUNT
    await observer.stop()


@pytest.mark.usefixtures("no_hurry")
async def test_models_that_a_reload_takes_away_leave_their_places_to_others() -> None:
    many = Many(many_models())
    observer = Observer(many, many, many, many, many.server)  # type: ignore[arg-type]
    observer.start()
    await settle()
    last = next(name for name in many.world.models if name not in many.begun)
    fewer = replace(many.world.settings, models={last: many.world.settings.models[last]})
    many.world = world_with(fewer)
    observer.follow()
    await settle()
    assert many.begun[-1] == last
    await observer.stop()


async def test_who_hangs_keeps_its_place_for_a_while_only() -> None:
    places = Places(1, 0.01)

    async def hang() -> None:
        async with places.taken("hangs", hurried=False):
            await asyncio.sleep(3600.0)

    hanging = asyncio.create_task(hang())
    await asyncio.sleep(0)
    async with asyncio.timeout(30.0):
        for key in ("a", "b"):
            async with places.taken(key, hurried=False):
                assert not hanging.done()
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    began = []

    async def enter(key: str) -> None:
        async with places.taken(key, hurried=False):
            began.append(key)
            await asyncio.Event().wait()

    entering = [asyncio.create_task(enter(key)) for key in ("c", "d")]
    await asyncio.sleep(0)
    assert began == ["c"]  # the place that hung was given back once, not twice
    for task in entering:
        task.cancel()
    await asyncio.gather(*entering, return_exceptions=True)


async def test_a_place_given_to_who_leaves_in_that_moment_goes_on_to_the_next() -> None:
    places, began = Places(1, 600.0), []

    async def enter(key: str) -> None:
        async with places.taken(key, hurried=False):
            began.append(key)

    async with places.taken("first", hurried=False):
        leaving, staying = asyncio.create_task(enter("leaves")), asyncio.create_task(enter("stays"))
        await asyncio.sleep(0)
    leaving.cancel()
    async with asyncio.timeout(30.0):
        await staying
    assert began == ["stays"]
