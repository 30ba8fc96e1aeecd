"""What a restart of sleepd costs the gateway's clients: connections handed to the next run, against drain and close.

`python -m benchmarks.restart [--rounds 2]`. Both sides are the real daemon under a stand-in for systemd that keeps its
sockets open and its descriptors (tests/integration/manager.py); the other side is restart_side/draining.py. Restarted
are both under the same load: two simulated servers, one awake, the other asleep with a wake that takes its time.

- 20 clients are held for the sleeper, which was asked for half a second before the restart;
- 10 streams of four seconds run since one second before it;
- 40 clients ask the awake model again and again, each on a connection that it keeps open, and leaves where it finds it
  closed before it asks;
- 10 more open a new connection for each request.

Lost: no answer, or a refusal; once as clients fare that try nothing again, once as those do that try a request again
on a new connection where theirs ended without an answer. Cut: an answer that broke off. Pause: the longest that one of
the 50 askers waited, both tries together.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from benchmarks.figures import describe_machine
from tests.fakenvml.build import build
from tests.integration.fake_server import PROMPT
from tests.integration.gateway_clients import Connection, as_post, read_body, read_head, text_of
from tests.integration.harness import SLEEPD, Host
from tests.integration.manager import ServiceManager
from tests.integration.nursery import open_nursery

SIDES = {"handed over": SLEEPD, "drained": "benchmarks.restart_side.draining"}
CASES = ((3.0, 90.0), (20.0, 90.0), (20.0, 25.0))
"""How long the sleeper takes to wake, and TimeoutStopSec=, of which eight seconds are kept for other things."""
COLUMNS = (
    *("wake, TimeoutStopSec=", "connections are", "asked", "lost", "lost, trying again", "cut"),
    *("pause s (ratio)", "restart s (ratio)"),
)
HELD, STREAMS, KEEPING, NEW = 20, 10, 40, 10
THINK_S, AFTER_S = 0.25, 2.0


@dataclass
class Tally:
    """What became of the requests over some restarts of one side."""

    asked: int = 0
    lost: int = 0
    lost_though_tried_again: int = 0
    cut: int = 0
    pause_s: float = 0.0
    took_s: list[float] = field(default_factory=list)


class End(Enum):
    """What became of one try."""

    RIGHT = "answered"
    REFUSED = "answered, but not with what was asked for"
    NOTHING = "the connection ended before an answer"
    CUT = "the connection ended within the answer"


class Load:
    """The clients of one restart; what becomes of their requests goes into `tally`."""

    def __init__(self, gateway: Path, tally: Tally) -> None:
        self._gateway, self._tally = gateway, tally
        self._over = asyncio.Event()

    async def play(self, restart: Awaitable[None]) -> None:
        """Return when the restart is over and everybody was answered."""
        async with asyncio.TaskGroup() as clients:
            for number in range(KEEPING + NEW):
                clients.create_task(self._come_again(keeps=number < KEEPING))
            await asyncio.sleep(1.0)
            for _ in range(STREAMS):
                xargs = {"vllm_xargs": {"pace_ms": 100}}
                clients.create_task(self._ask(Connection(self._gateway), "awake", max_tokens=40, stream=True, **xargs))
            await asyncio.sleep(0.5)
            held = [clients.create_task(self._ask(Connection(self._gateway), "sleeper")) for _ in range(HELD)]
            await asyncio.sleep(0.5)
            began_s = time.monotonic()
            await restart
            self._tally.took_s.append(time.monotonic() - began_s)
            await asyncio.wait(held)
            await asyncio.sleep(AFTER_S)
            self._over.set()

    async def _come_again(self, *, keeps: bool) -> None:
        connection = Connection(self._gateway)
        while not self._over.is_set():
            if not keeps:
                connection.close()
            began_s = time.monotonic()
            await self._ask(connection, "awake")
            self._tally.pause_s = max(self._tally.pause_s, time.monotonic() - began_s)
            await asyncio.sleep(THINK_S)
        connection.close()

    async def _ask(self, connection: Connection, model: str, **more: object) -> None:
        """Ask, a second time where the connection ended before an answer."""
        asked = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, **more}
        self._tally.asked += 1
        first = end = await _try(connection, asked)
        if first is End.NOTHING:
            end = await _try(connection, asked)
        self._tally.lost += first in (End.REFUSED, End.NOTHING)
        self._tally.lost_though_tried_again += end in (End.REFUSED, End.NOTHING)
        self._tally.cut += end is End.CUT


async def _try(connection: Connection, asked: dict[str, object]) -> End:
    end = End.NOTHING
    try:
        connection.close_if_ended()
        reader, writer = await connection.open(small=False)
        writer.write(b"".join(as_post(asked)))
        await writer.drain()
        status, head = await read_head(reader)
        end = End.CUT
        text = text_of(await read_body(reader, head)) if status == 200 else None
    except (EOFError, OSError):
        connection.close()
        return end
    if status != 200 or b"connection: close" in head:
        connection.close()
    if status != 200:
        return End.REFUSED
    return End.RIGHT if text is not None else End.CUT


def play(program: str, wake_s: float, stop_s: float, rounds: int, library: Path) -> Tally:
    """Restart one side so often, and return what became of everybody's requests."""
    tally = Tally()
    with _host(library) as host:
        host.configure("awake", "sleeper")
        for name, wakes_s in (("awake", 0.05), ("sleeper", wake_s)):
            host.start_servers(name, options=("--kv", "10GiB", "--wake-seconds", str(wakes_s)))
        manager = ServiceManager(host, stop_s=stop_s, program=program)
        try:
            manager.start()
            for _ in range(rounds):
                answer = manager.client.sleep("sleeper")
                assert answer.status == 200, answer.body
                asyncio.run(Load(manager.gateway, tally).play(asyncio.to_thread(manager.restart)))
        finally:
            manager.close()
    return tally


@contextmanager
def _host(library: Path) -> Iterator[Host]:
    host = Host(Path(tempfile.mkdtemp(prefix="sleepd-")), library)  # a short path: a unix socket's has 107 bytes
    try:
        yield host
    finally:
        host.close()
        shutil.rmtree(host.root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=2, help="restarts of each side in each case (default %(default)s)"
    )
    options = parser.parse_args()
    print(f"machine     {describe_machine()}")
    print(f"            load {os.getloadavg()[0]:.1f}, {options.rounds} restarts each\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        library = build(Path(folder))
        open_nursery({"LD_LIBRARY_PATH": str(library.parent)})
        for wake_s, stop_s in CASES:
            found = {side: play(SIDES[side], wake_s, stop_s, options.rounds, library) for side in SIDES}
            for side, tally in found.items():
                show(f"{wake_s:g} s, {stop_s:g} s", side, tally, found["handed over"])
    return 0


def show(case: str, side: str, tally: Tally, ours: Tally) -> None:
    took_s, our_took_s = (max(one.took_s) for one in (tally, ours))
    counts = f"{tally.asked} | {tally.lost} | {tally.lost_though_tried_again} | {tally.cut}"
    pause = f"{tally.pause_s:.1f} ({tally.pause_s / ours.pause_s:.1f})"
    print(f"| {case} | {side} | {counts} | {pause} | {took_s:.1f} ({took_s / our_took_s:.1f}) |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
