"""Declared GPUs: what models declare, as long as they say that they are awake."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from sleepd.adapters.declared_gpus import NAMED_FROM, DeclaredGpus
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.units import GIB
from sleepd.core.world import World
from sleepd.service.declared import declared_bytes


class StillClock:
    def now(self) -> Now:
        return Now(7.0, 0.0)

    async def sleep(self, seconds: float) -> None:
        """Time stands still."""


async def test_capacity_less_what_is_held() -> None:
    gpus = DeclaredGpus(StillClock(), {"0": 80 * GIB, "GPU-7": 24 * GIB})
    assert isinstance(await gpus.read(processes=False), Missing)

    async def held() -> dict[str, int]:
        return {"0": 30 * GIB, "GPU-7": 99 * GIB}

    gpus.count(held)
    seen = await gpus.read(processes=True)
    assert isinstance(seen, Known)
    assert [(g.uuid, g.index, g.total_bytes, g.free_bytes, g.used_by_pid) for g in seen.value] == [
        ("declared-0", 0, 80 * GIB, 50 * GIB, None),
        ("GPU-7", NAMED_FROM + 1, 24 * GIB, 0, None),
    ]


async def test_what_cannot_be_told_is_missing() -> None:
    gpus = DeclaredGpus(StillClock(), {"0": 80 * GIB})

    async def held() -> None:
        return None

    gpus.count(held)
    assert isinstance(await gpus.read(processes=False), Missing)


@dataclass
class Says:
    """A server by what it says of itself."""

    answer: Any

    async def look(self, **how: Any) -> Any:
        return self.answer


def sleeping(is_sleeping: bool | None) -> Any:
    return Known(SimpleNamespace(is_sleeping=is_sleeping), 0.0, 0.0)


def world(**states: State) -> World:
    records = {
        name: ModelRecord(
            ModelSpec(name, f"http://{name}", gpus=("0",), vram_bytes=10 * GIB), Life(state, Weights.LOADED)
        )
        for name, state in states.items()
    }
    return World(Settings({name: record.spec for name, record in records.items()}), records)


async def held(of: World, **says: Any) -> int | None:
    found = await declared_bytes(of, lambda name: Says(says[name]))  # type: ignore[arg-type, return-value]
    return None if found is None else found.get("0", 0) // GIB


@pytest.mark.parametrize("state", [State.AWAKE, State.DRAINING, State.STARTING, State.PROVING, State.RELOADING])
async def test_the_awake_hold_without_being_asked(state: State) -> None:
    assert await held(world(a=state, b=State.ASLEEP_L1, c=State.STOPPED)) == 10


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (sleeping(True), 0),
        (sleeping(False), 10),
        (sleeping(None), 10),
        (Missing(MissingReason.TIMED_OUT), 10),
        (Missing(MissingReason.REFUSED), 0),
    ],
)
@pytest.mark.parametrize("state", [State.UNKNOWN, State.FALLING_ASLEEP, State.WAKING, State.FAILED, State.LOST])
async def test_who_is_in_between_is_asked(state: State, answer: Any, wanted: int) -> None:
    assert await held(world(a=state), a=answer) == wanted


async def test_a_model_on_two_gpus_counts_on_both_and_sums_are_per_gpu() -> None:
    both = world(a=State.AWAKE, b=State.AWAKE)
    wide = replace(both.models["a"], spec=replace(both.models["a"].spec, gpus=("0", "1")))
    found = await declared_bytes(replace(both, models={**both.models, "a": wide}), lambda name: Says(None))  # type: ignore[arg-type, return-value]
    assert found == {"0": 20 * GIB, "1": 10 * GIB}


async def test_half_awake_weights_cannot_be_told() -> None:
    assert await held(world(a=State.WAKING_WEIGHTS, b=State.AWAKE)) is None
