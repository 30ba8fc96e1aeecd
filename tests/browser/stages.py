"""What the browser is shown: the demo's host without its callers, and a crowd of two hundred models. Each runs its own
loop in a thread, because a test waits for its browser."""

import asyncio
import math
import random
import socket
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import uvloop

from sleepd.api.access import Peer, Role
from sleepd.api.ring import EventRing
from sleepd.client import Client
from sleepd.core.footprint import Footprint
from sleepd.core.life import State, Weights
from sleepd.core.model import Known, Now, Settings
from sleepd.core.seen import GpuSeen, HostSeen
from sleepd.core.turn import Note
from sleepd.core.units import GIB
from sleepd.core.world import World
from sleepd.history.found import Span
from sleepd.history.timeline import GpuLine, Timeline, draw
from sleepd.obs.pages import Pages
from sleepd.sim.demo_stage import CAST, Stage, find_port
from sleepd.ui.server import UiServer
from tests.unit.api_rig import MONO_S, WALL_S, FakeDaemon, FakeHistory, record

T = TypeVar("T")

MODELS, GPUS = 200, 8
OWN = Peer(0, frozenset({0}))
HOSTILE = '<img src=x onerror="window.hacked = 1"> & <script>window.hacked = 2</script>'


class Running:
    """Coroutines of a loop in a thread, called from elsewhere."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._runner.close()


class Playground:
    """The demo's host, its servers and a real daemon with the page. Nobody calls, so nothing moves by itself but by
    rules."""

    def __init__(self, root: Path) -> None:
        self.port = find_port()
        self._stage, self._running = Stage(root, 8.0, self.port), Running()
        self._opened = AsyncExitStack()

    def __enter__(self) -> "Playground":
        self._running.do(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running.do(self._opened.aclose())
        self._running.end()

    async def _open(self) -> None:
        await self._opened.enter_async_context(self._stage)
        await self._stage.start_server(CAST[0])
        await self._stage.start_daemon()

    def add(self, index: int) -> None:
        """Another server of the demo is up and configured; the one before sleeps."""
        client = Client(self._stage.socket_path)
        client.wake(CAST[index - 1].name)
        client.sleep(CAST[index - 1].name)
        self._running.do(self._stage.start_server(CAST[index]))
        client.reload()
        client.wake(CAST[index].name)

    def stop_daemon(self) -> None:
        self._running.do(self._stage.stop_daemon())

    def start_daemon(self) -> None:
        self._running.do(self._start())

    async def _start(self) -> None:
        await self._stage.start_daemon()

    def address(self, role: str = "operator") -> str:
        made = Client(self._stage.socket_path).ui_token(role=role).body
        return f"{made['pages'][0]}#token={made['token']}"


class CrowdDaemon(FakeDaemon):
    """Two hundred models in every state there is, eight GPUs, and a week of history; its clock runs."""

    def __init__(self) -> None:
        self._dice = random.Random(11)
        super().__init__(make_crowd(self._dice))
        self.ring = EventRing("e1", limit=1000)
        self.history = CrowdHistory(sorted(self.world.models), self.now)

    def now(self) -> Now:
        return Now(MONO_S, WALL_S + asyncio.get_running_loop().time() - self.began_s)

    def start(self) -> None:
        self.began_s = asyncio.get_running_loop().time()

    def stir(self) -> None:
        """Some models are in another state now."""
        models = dict(self.world.models)
        for name in self._dice.sample(sorted(models), 10):
            state, weights = self._dice.choice(STATES)
            models[name] = replace(models[name], life=replace(models[name].life, state=state, weights=weights))
        self.note(f"is {state.value}", name)
        self.world = replace(self.world, models=models)


STATES = (
    *((State.AWAKE, Weights.LOADED),) * 4,
    *((State.ASLEEP_L1, Weights.OFFLOADED),) * 8,
    *((State.ASLEEP_L2, Weights.BLANK),) * 4,
    (State.WAKING, Weights.OFFLOADED),
    (State.STOPPED, Weights.LOADED),
    (State.FAILED, Weights.DOUBTFUL),
)


def make_crowd(dice: random.Random) -> World:
    gpus = tuple(GpuSeen(f"GPU-{n}", n, 80 * GIB, dice.randrange(4, 70) * GIB, {}) for n in range(GPUS))
    models = {}
    for number in range(MODELS):
        name, gpu = f"model-{number:03}", f"GPU-{number % GPUS}"
        held = Footprint(freed={gpu: (dice.randrange(8, 60) * GIB,)}, asleep={gpu: 2 * GIB})
        state, weights = dice.choice(STATES)
        idle_s = dice.uniform(1, 9000)
        models[name] = record(name, state, weights, idle_s=idle_s, placed_on=(gpu,), footprint=held)
    return World(
        Settings({name: r.spec for name, r in models.items()}),
        models,
        {},
        gpus=Known(gpus, MONO_S, MONO_S),
        host=Known(HostSeen(2048 * GIB, 900 * GIB, 0.0), MONO_S, MONO_S),
    )


class CrowdHistory(FakeHistory):
    """Every model naps and wakes some dozen times within any span."""

    def __init__(self, names: list[str], now: Any) -> None:
        super().__init__()
        self._names, self._now = names, now

    async def timeline(self, span: Span, step_s: int) -> Timeline:
        length_s = span.to_wall_s - span.from_wall_s
        dice = random.Random(5)
        models = []
        for name in self._names:
            at_s, stays = 0.0, []
            while at_s < length_s:
                for state, cause, share in (("awake", "request gateway", 40), ("asleep 1", "rule nap", 15)):
                    lasts_s = dice.expovariate(share / length_s)
                    stays.append((at_s, at_s + lasts_s, state, cause))
                    at_s += lasts_s
            models.append((name, draw(stays, length_s, step_s)))
        steps = range(0, math.ceil(length_s), max(step_s, math.ceil(length_s / 300)))
        gpus = tuple(
            GpuLine(f"GPU-{n}", tuple((second, dice.randrange(4, 76) * GIB) for second in steps)) for n in range(GPUS)
        )
        return Timeline(span.from_wall_s, span.to_wall_s, step_s, tuple(models), gpus)


class Crowd:
    """The page before `CrowdDaemon`."""

    def __init__(self, root: Path) -> None:
        self._root, self._running = root, Running()

    def __enter__(self) -> "Crowd":
        self._running.do(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running.do(self._close())
        self._running.end()

    async def _open(self) -> None:
        self.daemon = CrowdDaemon()
        self.daemon.start()
        roles = {"admin": ["0"], "operator": [], "caller": [], "viewer": ["*"]}
        path = self._root / "sessions.json"
        self._ui = UiServer(self.daemon, roles=roles, origins=(), session_s=3600.0, sessions_path=path)
        await self._ui.start()
        self._pages = Pages({})
        bound = socket.create_server(("127.0.0.1", 0))
        self._port = bound.getsockname()[1]
        await self._pages.start([bound], self._ui)
        self._stirring = asyncio.create_task(self._stir())

    async def _stir(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.daemon.stir()

    async def _close(self) -> None:
        self._stirring.cancel()
        await self._pages.close()
        await self._ui.close()

    def say(self, text: str) -> None:
        """The daemon tells an event."""
        self._running.do(self._say(text))

    async def _say(self, text: str) -> None:
        self.daemon.ring.append(Note("failure", "model-001", text, {}), WALL_S)

    def address(self, role: Role = Role.ADMIN) -> str:
        return self._running.do(self._address(role))

    async def _address(self, role: Role) -> str:
        token = self._ui.logins.invite(OWN, role, 300, ()).token
        return f"http://127.0.0.1:{self._port}/ui#token={token}"
