"""The end for good: sleepers are woken before the daemon goes, where the configuration says so."""

import asyncio

from sleepd.core.events import Leaving
from sleepd.core.life import ASLEEP
from sleepd.core.turn import Note
from sleepd.core.world import World
from sleepd.engine.loop import Loop

WAKE_S = 45.0
"""How long sleepers may take to wake when the daemon ends: with all else that ends within systemd's 90 s."""
QUIET_S = 3.0
"""Where nothing was under way for this long, nothing more will come of it."""


async def wake_sleepers(loop: Loop) -> Note:
    """Wake every sleeper that finds room, within `WAKE_S`, and return what became of them."""
    before = sleepers(loop.world)
    if not before:
        return Note("left", "", "no model is asleep: nothing is to be woken before the end")
    loop.submit(Leaving())
    try:
        async with asyncio.timeout(WAKE_S):
            while sleepers(loop.world) and await loop.until(_is_busy, QUIET_S):
                await loop.until(lambda world: not _is_busy(world), WAKE_S)
    except TimeoutError:
        pass
    left = sleepers(loop.world)
    woken = [name for name in before if name not in left]
    told = [f"woke {', '.join(woken)}"] if woken else []
    told += [f"{name} is left asleep: {loop.world.models[name].reason}" for name in left]
    return Note("left", "", f"before the end: {'; '.join(told)}", {"woken": woken, "left_asleep": left})


def sleepers(world: World) -> list[str]:
    """Models that sleep or are on their way there or back."""
    return [n for n, r in world.models.items() if r.life.state in ASLEEP or n in world.tasks]


def _is_busy(world: World) -> bool:
    return bool(world.tasks)
