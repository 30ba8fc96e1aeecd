"""Holds for requests that a proxy sends past the gateway, after it asked at the gate."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from sleepd.core.commands import Answer
from sleepd.core.model import Now
from sleepd.core.record import gate_hold_id
from sleepd.core.units import Seconds
from sleepd.core.wishes import HoldAsked
from sleepd.core.world import World

HOLD_S: Seconds = 30.0
"""What a proxy may count on from the answer on."""
TAKEN_S: Seconds = 35.0
"""What is taken at a time: a busy proxy costs one record in five seconds, not one for each of its requests."""


class GateHolds:
    """One hold for each model that was asked for, renewed while it is asked for."""

    def __init__(
        self,
        ask: Callable[[Callable[[int], HoldAsked]], Awaitable[Answer]],
        world: Callable[[], World],
        now: Callable[[], Now],
    ) -> None:
        self._ask, self._world, self._now = ask, world, now
        self._asked: dict[str, asyncio.Future[Answer]] = {}

    def hold(self, model: str, who: str) -> asyncio.Future[Answer] | None:
        """Return None where the model is held for HOLD_S more, else what is done once it is, or cannot be."""
        hold_id, record = gate_hold_id(model), self._world().models.get(model)
        until_s = next((h.until_s for h in record.holds if h.id == hold_id), None) if record is not None else None
        if until_s is not None and until_s - self._now().mono_s >= HOLD_S:
            return None
        if model not in self._asked:
            wish = self._ask(
                lambda waiter: HoldAsked(waiter, hold_id, model, os.getuid(), who, TAKEN_S, "asked at the gate")
            )
            asked = self._asked[model] = asyncio.ensure_future(wish)
            asked.add_done_callback(lambda _: self._asked.pop(model))
        return self._asked[model]
