"""Who holds declared bytes: with `[gpu] backend = "none"` a server's own word stands in for NVML's."""

import asyncio
from collections.abc import Callable, Mapping

from sleepd.core.life import OUT, State
from sleepd.core.model import Known, MissingReason, ModelSpec
from sleepd.core.record import ModelRecord
from sleepd.core.units import Bytes
from sleepd.core.world import World
from sleepd.ports import Vllm

ASK_S = 2.0
"""A server in a transition answers when its call is over; until then it holds what it held."""

_HOLDING = frozenset({State.AWAKE, State.DRAINING, State.PROVING, State.RELOADING, State.PARTIALLY_AWAKE})
_STARTING = frozenset({State.STARTING, State.STOPPING})


async def declared_bytes(world: World, server: Callable[[str], Vllm]) -> Mapping[str, Bytes] | None:
    """Return the declared bytes held now, by the GPU names that models use. Waits ASK_S at most.

    None while weights come back in a stage of their own: the server says that it is asleep and holds bytes again.
    """
    records = world.models
    if any(record.life.state is State.WAKING_WEIGHTS for record in records.values()):
        return None
    holding = await asyncio.gather(*(_holds(record, server) for record in records.values()))
    held: dict[str, Bytes] = {}
    for record, holds in zip(records.values(), holding, strict=True):
        for gpu, bytes_ in _declared(record.spec) if holds else ():
            held[gpu] = held.get(gpu, 0) + bytes_
    return held


def _declared(spec: ModelSpec) -> tuple[tuple[str, Bytes], ...]:
    return tuple((gpu, spec.vram_bytes or 0) for gpu in spec.gpus)


async def _holds(record: ModelRecord, server: Callable[[str], Vllm]) -> bool:
    state = record.life.state
    if state in _HOLDING or state in _STARTING or state in OUT:
        return state not in OUT
    found = await server(record.spec.name).look(ask_sleeping=True, timeout_s=ASK_S)
    if isinstance(found, Known):
        return found.value.is_sleeping is not True
    return found.reason is not MissingReason.REFUSED  # nobody listens: nothing is held
