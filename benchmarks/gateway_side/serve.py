"""The gateway in a process of its own, all its features on, the daemon behind it a stand-in with real gates.

`serve.py PORT MODEL=UPSTREAM_PORT…` serves; models named `asleep…` are shut until a line `wake MODEL` comes on stdin,
and what is printed then is the moment (CLOCK_MONOTONIC, ns) at which the gate opened.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Callable

import uvloop

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import ModelSpec, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.wishes import WakeAsked
from sleepd.core.world import World
from sleepd.engine.gate import Gate, Gates
from sleepd.gateway.app import Gateway
from sleepd.gateway.daemon import Held
from sleepd.gateway.lane import Access
from sleepd.gateway.settings import GatewaySettings

KEY = "a-key-for-the-benchmark"


class StandIn:
    """A daemon that wakes a model when it is told to."""

    def __init__(self, models: dict[str, int]) -> None:
        self._gates = Gates()
        self._ends: dict[tuple[str, str], int] = {}
        self._awake = {name: asyncio.Event() for name in models}
        records = {}
        for name, port in models.items():
            spec = ModelSpec(name, f"http://127.0.0.1:{port}")
            asleep = name.startswith("asleep")
            life = Life(State.ASLEEP_L1 if asleep else State.AWAKE, Weights.LOADED)
            records[name] = ModelRecord(spec=spec, life=life)
            if not asleep:
                self._gates.open(name)
        self.world = World(Settings({name: record.spec for name, record in records.items()}), records)

    def now(self) -> Now:
        return Now(time.monotonic(), time.time())

    def gate(self, model: str) -> Gate:
        return self._gates.of(model)

    def when_opened(self, tell: Callable[[str], None]) -> None:
        self._gates.when_opened(tell)

    async def ask(self, make: Callable[[int], WakeAsked]) -> Answer:
        ask = make(1)
        await self._awake[ask.model].wait()
        return Answer(1, AnswerKind.DONE, level=0)

    def wake(self, model: str) -> int:
        at_ns = time.monotonic_ns()
        self._gates.open(model)
        self._awake[model].set()
        return at_ns

    def hold(self, model: str, who: str) -> None:
        """Nobody asks at the gate here."""

    def held(self, held: Held) -> None:
        """Nobody counts here."""

    def answered(self, model: str, outcome: str) -> None:
        """As the real daemon counts."""
        key = (model, outcome)
        self._ends[key] = self._ends.get(key, 0) + 1

    def eta_s(self, model: str) -> float | None:
        return 1.0

    def come_back_s(self, model: str) -> float | None:
        return 1.0

    def reason(self, model: str) -> str:
        return "a benchmark"


async def main(port: int, models: dict[str, int]) -> None:
    daemon = StandIn(models)
    gateway = Gateway(daemon, GatewaySettings(queue=4096, keys={KEY: "bench"}), lambda spec: Access())
    await gateway.start([socket.create_server(("127.0.0.1", port), backlog=1024)])
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := (await orders.readline()).decode().split():
        if line[0] == "held":
            print(gateway.queued(line[1]), flush=True)
        else:
            print(daemon.wake(line[1]), flush=True)
    await gateway.close()


if __name__ == "__main__":
    named = dict(pair.split("=") for pair in sys.argv[2:])
    uvloop.run(main(int(sys.argv[1]), {name: int(port) for name, port in named.items()}))
