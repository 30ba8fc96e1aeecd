"""Two runs of the gateway, and the moment between them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import Rig


@asynccontextmanager
async def two_runs(root: Path, settings: GatewaySettings | None = None) -> AsyncIterator[tuple[Rig, Rig]]:
    """Two gateways in directories of their own: the one that leaves, and the next."""
    for name in ("1", "2"):
        (root / name).mkdir()
    async with Rig(root / "1", settings) as old, Rig(root / "2", settings) as new:
        yield old, new


async def move(old: Rig, new: Rig, *, limit_s: float = 20.0, most: int = 1000) -> tuple[int, int]:
    """Do what a restart does; return how many connections came through, and how many requests waited on them."""
    descriptors, state, waiting = await old.gateway.hand_over(limit_s, most)
    await old.gateway.close()
    taken = await new.gateway.inherit(descriptors, state)
    os.close(state)
    return taken, waiting
