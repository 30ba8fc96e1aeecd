"""`sleepd demo`: three simulated vLLM servers on a GPU that holds one and a half of them, and a real sleepd.

The daemon, its sockets, its files and the vLLM protocol are real, the GPU host is not; docs/demo.md tells the story.
"""

import argparse
import asyncio
import logging
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvloop
from rich.console import Console
from rich.live import Live

from sleepd.api.sockets import SocketTaken
from sleepd.cli.screen import look_at
from sleepd.config.errors import ConfigError
from sleepd.core.units import Seconds
from sleepd.ports import StoreFailed
from sleepd.sim.demo_stage import CAST, Stage, find_port
from sleepd.sim.demo_summary import is_right, plain_line, summary
from sleepd.sim.demo_traffic import Callers, Served, run_batch_job
from sleepd.sim.demo_view import LiveTable
from sleepd.sim.demo_watch import Board, Json, Watch

SECONDS, SPEED = 45.0, 12.0
LEAST_SPEED, MOST_SPEED = 0.1, 60.0
"""Faster than that, a reading is stale (half a second of the demo's) before the daemon can act on it."""
TOKEN_S = 86_400.0
"""How long the token that is printed lets somebody in, in real seconds."""
DONE, WRONG, FAILED = 0, 1, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`demo` knows its options."""
    parser.description = __doc__
    parser.add_argument("--speed", type=_speed, default=SPEED, metavar="N", help=f"times real time ({SPEED:g})")
    parser.add_argument("--seconds", type=_length, metavar="S", help=f"end after S real seconds ({SECONDS:g})")
    parser.add_argument("--keep", action="store_true", help="go on until Ctrl-C, to try sleepctl and the page on it")


def run(args: argparse.Namespace) -> int:
    """The demo has run, everything it started is gone, and the value is 0 unless an answer was wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # the table tells it
    seconds = args.seconds if args.seconds is not None else math.inf if args.keep else SECONDS
    try:
        with (
            tempfile.TemporaryDirectory(prefix="sleepd-demo-", ignore_cleanup_errors=True) as root,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(Demo(Path(root), args.speed, seconds, kept=args.keep).play())
    except BrokenPipeError:
        raise
    except (OSError, ConfigError, SocketTaken, StoreFailed) as error:
        print(f"sleepd demo: {error}", file=sys.stderr)
        print("  it needs a writable TMPDIR whose name is short enough for a socket in it", file=sys.stderr)
        return FAILED


def hear_ends() -> asyncio.Event:
    """Return what is set once somebody ends it: by a signal, or by closing its terminal, unless that is to be ignored
    (nohup)."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, told.set)
    return told


class Demo:
    """One run, in `root`, for `seconds` of real time at most."""

    def __init__(self, root: Path, speed: float, seconds: Seconds, *, kept: bool = False) -> None:
        """`kept`: others look at it meanwhile, and it shows them the page."""
        self._root, self._speed, self._seconds, self._kept = root, speed, seconds, kept
        self._began_s = time.monotonic()
        self._board, self._served = Board(), Served()
        self._show: Callable[[], None] = lambda: None
        self._tell: Callable[[str], None] = lambda line: None

    async def play(self) -> int:
        """Everything has happened and was told, and the value is the exit status."""
        told = hear_ends()
        stage = Stage(self._root, self._speed, find_port() if self._kept else None)
        if self._kept:
            print(f"meanwhile, elsewhere: sleepctl --socket {stage.socket_path} top", flush=True)
        with self._screen():
            async with AsyncExitStack() as opened:
                await opened.enter_async_context(stage)
                await self._act(stage, opened, told)
                self._show()
        for line in summary(self._board.tally, self._served, demo_s=self._board.now_s, took_s=self._passed_s()):
            print(line, flush=True)
        return DONE if is_right(self._served) else WRONG

    async def _act(self, stage: Stage, opened: AsyncExitStack, told: asyncio.Event) -> None:
        """Let the servers come up one by one, then callers and the batch job; return when told, or time is up."""
        await stage.start_server(CAST[0])
        service = await stage.start_daemon()
        watch = await opened.enter_async_context(Watch(stage.socket_path))
        if self._kept:
            token = await watch.ask("POST", "/v1/ui/tokens", {"ttl_s": TOKEN_S})
            print(f"in a browser, once: {token['pages'][0]}#token={token['token']}", flush=True)
        callers = await opened.enter_async_context(Callers(stage, tuple(cast.name for cast in CAST), self._served))
        began_s = stage.clock.now().mono_s
        await _first_of(
            told.wait(),
            asyncio.sleep(max(0.0, self._seconds - self._passed_s()) if math.isfinite(self._seconds) else 1e9),
            service.wait(),
            watch.follow_status(lambda status: self._take(status, stage.clock.now().mono_s - began_s)),
            self._follow_events(watch),
            self._set_up(stage, watch, callers),
        )

    async def _set_up(self, stage: Stage, watch: Watch, callers: Callers) -> None:
        """Bring up one server after the other, as somebody with one GPU does: each sleeps before the next comes."""
        for cast in CAST:
            if cast is not CAST[0]:
                await stage.start_server(cast)
                await watch.ask("POST", "/v1/reload")
            await watch.ask("POST", f"/v1/models/{cast.name}/wake")
            if cast is not CAST[-1]:
                await watch.ask("POST", f"/v1/models/{cast.name}/sleep", {"level": 1})
        async with asyncio.TaskGroup() as group:
            group.create_task(callers.come())
            group.create_task(run_batch_job(stage))

    async def _follow_events(self, watch: Watch) -> None:
        async for event in watch.events():
            told = self._board.take_event(event)
            if told is not None:
                self._tell(plain_line(told))

    def _take(self, status: Json, now_s: Seconds) -> None:
        self._board.take_status(status, now_s)
        self._show()

    def _passed_s(self) -> Seconds:
        return time.monotonic() - self._began_s

    def _left_s(self) -> Seconds | None:
        return self._seconds - self._passed_s() if math.isfinite(self._seconds) else None

    @contextmanager
    def _screen(self) -> Iterator[None]:
        """A live table where a terminal can show one, else a line for each event worth it."""
        console = Console(highlight=False, soft_wrap=False)
        if not console.is_terminal or console.is_dumb_terminal:
            self._tell = lambda line: print(line, flush=True)
            yield
            return
        unicode = look_at(sys.stdout).unicode
        table = LiveTable(self._board, self._served, speed=self._speed, left_s=self._left_s, unicode=unicode)
        with Live(table, console=console, auto_refresh=False, vertical_overflow="crop") as live:
            self._show = live.refresh
            yield
        print()


async def _first_of(*work: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of these ends, raising what it raised; the others are over then."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _speed(text: str) -> float:
    return _number(text, LEAST_SPEED, MOST_SPEED)


def _length(text: str) -> float:
    return _number(text, 1, 86_400)


def _number(text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"wanted a number from {least:g} to {most:g}, found {text!r}")
    return value
