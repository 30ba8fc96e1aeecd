"""The gateway under abuse: 200 clients of every sort, four models with room for one and a half, while the daemon is
restarted and reloaded and engines are killed. Every request is accounted for. `make soak-gateway` does it for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sleepd.client import DaemonUnreachable
from tests.fakesystemd.systemd import Process
from tests.integration.gateway_clients import LONGEST, Client, Ended, Kind
from tests.integration.harness import SERVER_OPTIONS, Host, Server
from tests.integration.manager import ServiceManager
from tests.integration.waiting import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
CLIENTS, THINK_S = 200, 3.0
MODELS = ("m0", "m1", "m2", "m3")
RELOAD_EVERY_S, KILL_EVERY_S, RESTART_EVERY_S = 6.0, 14.0, 15.0
SETTLE_S = START_S = 60.0
DYING_S, HEARD_S = 1.0, 5.0
"""How long after it was killed an engine may be sent something, and within which time whoever was in it has heard of
its end, on a busy machine too."""
RSS_LIMIT_BYTES = 400 << 20
"""The daemon, 256 MiB of bodies that wait, and what is allocated around them."""
LEFT_LIMIT_BYTES, DESCRIPTORS_LIMIT = 200 << 20, 100
"""What it may hold in the end, when nobody asks any more."""
RESTARTS_SHARE = 2 / 3
"""The rest knows no restart, which would hide a leak."""
WANTED = ("right", "left")
CONFIG = """
[gateway]
max_wait = "100s"
heartbeat = "2s"
[recovery]
max_restarts = 60
"""


@dataclass
class Death:
    """An engine that was killed, and when it answered again."""

    model: str
    begun_s: float
    ended_s: float = float("inf")


@dataclass
class Scene:
    """The host with its units, its manager, and what happens to them."""

    host: Host
    manager: ServiceManager
    servers: dict[str, Server] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)
    asked_asleep: int = 0
    restarted_s: list[float] = field(default_factory=list)
    reloads: int = 0
    failed: list[str] = field(default_factory=list)
    """What did not go as it should while it went wrong: an engine that did not come back, a run that did not start."""
    rss_bytes: list[int] = field(default_factory=list)

    def add_models(self) -> dict[str, str]:
        """Start every model in its unit, let all but the last sleep, and return what each answers."""
        self.configure()
        for name in MODELS:
            self.manager.systemd.add(f"vllm@{name}.service", self._spawner(name), restarts=False)
        right: dict[str, str] = {}
        started = False
        for name in MODELS:
            self.manager.systemd.start(self.manager.systemd.units[f"vllm@{name}.service"])
            self.servers[name].await_ready()
            right[name] = self.servers[name].complete(tokens=LONGEST)
            if not started:
                self.manager.start()
                started = True
            wait_until(lambda name=name: self._state_of(name) == "awake", f"{name} to be seen", START_S)
            if name != MODELS[-1]:
                assert self.manager.client.sleep(name).status == 200
        return right

    def configure(self, priority: int = 0) -> None:
        keys = {n: {"unit": f"vllm@{n}.service", "min_awake": "1s", "priority": priority} for n in MODELS}
        self.host.configure(*MODELS, extra=CONFIG, **keys)

    def _spawner(self, name: str) -> Callable[[], Process]:
        def spawn() -> Process:
            server = Server(self.host, name, "0.32.0", SERVER_OPTIONS, (0,))
            self.host.processes.append(server)
            self.servers[name] = server
            return server.child

        return spawn

    def count_asked_asleep(self, name: str) -> None:
        """Take over what a server counted, before it is gone."""
        self.asked_asleep += int(self.servers[name].state()["asked_asleep"])

    def kill(self, name: str) -> None:
        """Kill an engine, and return once its model can be used again."""
        self.count_asked_asleep(name)
        death = Death(name, time.monotonic())
        self.deaths.append(death)
        killed = self.servers[name]
        killed.kill()
        wait_until(lambda: self._is_back(name, killed), f"{name} to be back", 90.0)
        death.ended_s = time.monotonic()

    def _is_back(self, name: str, killed: Server) -> bool:
        if self.servers[name] is killed:
            return False
        try:
            self.servers[name].state()
            return self._state_of(name) in ("awake", "draining", "falling_asleep", "asleep", "waking")
        except (OSError, DaemonUnreachable):
            return False  # one of both is being started

    def _state_of(self, name: str) -> str:
        return str(self.manager.client.model(name).body["state"])

    def look_at_memory(self) -> None:
        try:
            pages = int(Path(f"/proc/{self.manager.pid}/statm").read_text().split()[1])
        except (OSError, AssertionError):
            return  # between two runs
        self.rss_bytes.append(pages * os.sysconf("SC_PAGE_SIZE"))

    def left(self) -> int:
        """How many requests the daemon believes to be there."""
        return sum(int(m["in_flight"]) + int(m["queued"]) for m in self.manager.client.models().body["models"])

    def descriptors(self) -> int:
        """How many the daemon has open."""
        return len(os.listdir(f"/proc/{self.manager.pid}/fd"))

    def restart(self) -> None:
        self.restarted_s.append(time.monotonic())
        self.manager.restart()

    def reload(self) -> None:
        self.reloads += 1
        self.configure(priority=self.reloads % 3)
        with contextlib.suppress(DaemonUnreachable):  # it is being restarted: the next run reads the files anyway
            self.manager.client.reload()


pytestmark = pytest.mark.soak


@pytest.fixture
def scene(host: Host) -> Iterator[Scene]:
    manager = ServiceManager(host)
    try:
        yield Scene(host, manager)
    finally:
        manager.close()


async def trouble(scene: Scene, over: asyncio.Event) -> None:
    """Everything that goes wrong, each at its own pace; a restart and a kill may meet."""
    chance, end_s = random.Random(4711), time.monotonic() + SECONDS

    async def every(period_s: float, do: Callable[[], None], until_s: float = end_s) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.7, 1.3) * period_s)
            if over.is_set() or time.monotonic() > until_s:
                return
            try:
                await asyncio.to_thread(do)
            except (AssertionError, OSError, DaemonUnreachable) as error:
                scene.failed.append(f"{type(error).__name__}: {error}")

    async with asyncio.TaskGroup() as group:
        group.create_task(every(RELOAD_EVERY_S, scene.reload))
        group.create_task(every(KILL_EVERY_S, lambda: scene.kill(chance.choice(MODELS))))
        group.create_task(every(RESTART_EVERY_S, scene.restart, until_s=end_s - (1 - RESTARTS_SHARE) * SECONDS))
        group.create_task(every(1.0, scene.look_at_memory))


async def play(scene: Scene, right: dict[str, str]) -> list[Ended]:
    """Let clients come for SECONDS, and return what became of every request, the last ones too."""
    over, ended = asyncio.Event(), []
    clients = [Client(scene.manager.gateway, right, seed, ended.append) for seed in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.come(over, THINK_S))
        group.create_task(trouble(scene, over))
        await asyncio.sleep(SECONDS)
        over.set()
    return ended


def is_excused(one: Ended, deaths: list[Death]) -> bool:
    """Whether it broke as its own engine was killed: what was in it cannot be answered by anybody else. Whoever comes
    later, or waits already, has to be held until it is back, and nothing excuses a wrong answer."""
    return one.is_broken and any(
        d.model == one.model and one.begun_s <= d.begun_s + DYING_S and d.begun_s <= one.ended_s <= d.begun_s + HEARD_S
        for d in deaths
    )


def tally(scene: Scene, ended: list[Ended]) -> tuple[str, list[Ended]]:
    """Return the account in words, and the requests that need not have ended so."""
    bad = [one for one in ended if one.end not in WANTED]
    lost = [one for one in bad if not is_excused(one, scene.deaths)]
    waits = sorted(one.ended_s - one.begun_s for one in ended if one.end == "right")
    longest_s = max((death.ended_s - death.begun_s for death in scene.deaths), default=0.0)
    lines = [
        f"{len(ended)} requests of {CLIENTS} clients in {SECONDS:g} s; {len(scene.restarted_s)} restarts,"
        f" {scene.reloads} reloads,"
        f" {len(scene.deaths)} engines killed, back after {longest_s:.1f} s at most",
    ]
    by_kind = Counter((one.kind.value, one.end if one.end in WANTED else "not") for one in ended)
    lines += [f"  {kind:12} {end:6} {count:6}" for (kind, end), count in sorted(by_kind.items())]
    excused = Counter(one.end for one in bad if one not in lost)
    lines += [f"  its engine was killed: {end}: {count}" for end, count in excused.items()]
    lines += [f"  NEED NOT BE: {end}: {count}" for end, count in Counter(one.end for one in lost).items()]
    over = [
        one for at_s in scene.restarted_s for one in ended if one.begun_s < at_s < one.ended_s and one.end == "right"
    ]
    lines.append(f"right although the daemon was restarted meanwhile: {len(over)}")
    lines.append(f"answers took {waits[len(waits) // 2]:.2f} s (median), {waits[-1]:.1f} s (longest)")
    lines.append(f"seen by sleeping engines: {scene.asked_asleep}")
    most, last = max(scene.rss_bytes) >> 20, scene.rss_bytes[-1] >> 20
    lines.append(f"resident memory of the daemon: at most {most} MiB, at the end {last} MiB")
    lines.append(f"at the end it has {scene.descriptors()} descriptors open, and counts {scene.left()} requests")
    lines += [f"WENT WRONG: {what}" for what in scene.failed]
    return "\n".join(lines), lost


def test_nothing_is_lost_under_abuse(scene: Scene) -> None:
    right = scene.add_models()
    ended = asyncio.run(play(scene, right))
    for name in MODELS:
        with contextlib.suppress(OSError):  # one that did not come back, which is told
            scene.count_asked_asleep(name)
    with contextlib.suppress(AssertionError):  # the tally is told all the same, and says how many there are
        wait_until(lambda: scene.left() == 0 and scene.descriptors() < DESCRIPTORS_LIMIT, "all to have left", SETTLE_S)
    scene.look_at_memory()
    told, lost = tally(scene, ended)
    print(told)
    assert not lost, told
    assert not scene.failed, told
    assert scene.left() == 0, told
    assert scene.asked_asleep == 0, told
    assert max(scene.rss_bytes) < RSS_LIMIT_BYTES, told
    assert scene.rss_bytes[-1] < LEFT_LIMIT_BYTES, told
    assert scene.descriptors() < DESCRIPTORS_LIMIT, told
    assert scene.restarted_s, told
    assert scene.deaths, told
    assert {one.kind for one in ended if one.end in WANTED} == set(Kind), told
