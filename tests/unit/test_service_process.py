"""The daemon as a process: what signals do, whenever they come."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sleepd.config.load import load_config
from sleepd.core.turn import Note
from sleepd.service import process


class Service:
    """Begins slowly, is reloaded, and ends when told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.did: list[str] = []
        self.error = error

    async def start(self) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        self.did.append("started")

    async def reload(self) -> None:
        self.did.append("reloaded")
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        if self.error is not None:
            raise self.error

    async def wait(self) -> None:
        await asyncio.sleep(30.0)

    async def leave(self) -> None:
        self.did.append("left")

    async def stop(self) -> None:
        self.did.append("stopped")


@pytest.mark.parametrize("error", [None, OSError("no disk")])
async def test_a_reload_wished_for_while_it_starts_is_kept_until_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    service, told = Service(error), list[Note]()
    monkeypatch.setattr(process, "Service", lambda *made_of: service)
    monkeypatch.setattr(process, "system_parts", lambda config: None)
    monkeypatch.setattr(process.log, "log_note", told.append)
    async with asyncio.timeout(20.0):
        assert await process._serve(load_config(tmp_path, environ={}), tmp_path) == 0
    assert service.did == ["started", "reloaded", "left", "stopped"]
    assert [note.text for note in told if note.kind == "reload_failed"] == (
        ["kept the running settings: OSError no disk"] if error else []
    )
