"""The daemon as a process: signals, the lock against a second one, exit codes."""

import asyncio
import faulthandler
import os
import signal
from pathlib import Path

import uvloop

from sleepd import __version__
from sleepd.adapters.instance_lock import AlreadyRunning, InstanceLock
from sleepd.api.sockets import SocketTaken
from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.config.settings import Config
from sleepd.config.settle import load_settled
from sleepd.core.turn import Note
from sleepd.obs import log
from sleepd.ports import StoreFailed
from sleepd.service.daemon import Service
from sleepd.service.parts import system_parts


def run(config_dir: Path) -> int:
    """Run the daemon until it is told to end. Exit status: 0 ended, 1 could not run, 2 the configuration is wrong."""
    log.configure()
    # A watchdog that finds the loop hanging ends it with SIGABRT: the stacks of all threads go to the journal.
    faulthandler.enable()
    try:
        config = load_config(config_dir)
    except ConfigError as error:
        log.say_error(str(error))
        return 2
    for warning in config.warnings:
        log.say_warning(str(warning))
    lock = InstanceLock(config.service.state_dir)
    try:
        lock.acquire()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, config_dir))
    except (AlreadyRunning, SocketTaken, StoreFailed) as error:
        log.say_error(f"sleepd: {error}")
        return 1
    except OSError as error:
        log.say_error(f"sleepd: {error.filename or config.service.state_dir}: {error.strerror}")
        return 1
    finally:
        lock.release()


async def _serve(config: Config, config_dir: Path) -> int:
    service = Service(config, system_parts(config), lambda running: load_settled(config_dir, running))
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    reloads: set[asyncio.Task[None]] = set()
    running = asyncio.Event()

    def reload() -> None:
        if len(reloads) > 1:
            return  # one that has not begun yet will see the files as they are then
        task = asyncio.create_task(_reload(service, running))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # held back since the start of the program
    try:
        await service.start()
        running.set()
        version, pid = __version__, os.getpid()
        log.log_note(Note("started", "", f"sleepd {version} drives {len(config.settings.models)} models", {"pid": pid}))
        ended = asyncio.create_task(service.wait())
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait((ended, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if ended.done():
            ended.result()
        ended.cancel()
        await service.leave()
    finally:
        await service.stop()
    return 0


async def _reload(service: Service, running: asyncio.Event) -> None:
    """Reload as SIGHUP wants it: once the daemon runs, and told whatever comes of it."""
    await running.wait()
    try:
        await service.reload()
    except Exception as error:
        told = f"kept the running settings: {type(error).__name__} {error}".rstrip()
        log.log_note(Note("reload_failed", "", told, {"code": "failed"}))
