"""Small hand-made worlds: one GPU of 80 GiB, models that hold 30 GiB awake and 2 GiB asleep."""

from collections.abc import Mapping
from dataclasses import replace

from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Known, ModelSpec, Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.rules import SLEEP_1, SLEEP_2, HostAvailableBelow, IdleFor, Rule, Threshold
from sleepd.core.seen import EngineFacts, Fingerprint, GpuSeen, HostSeen, ModelSeen
from sleepd.core.units import GIB
from sleepd.core.world import DetectorMemory, World, proof_key

NOW = Now(10_000.0, 1.7e9)
FACTS = EngineFacts(
    "0.32.0", (0, 32), "pst:1", ("a",), sleep_mode=True, described=True, checkpoint_bytes=10 * GIB, model_path="m"
)
NEED = 28 * GIB
ASLEEP = Life(State.ASLEEP_L1, Weights.OFFLOADED)
AWAKE = Life(State.AWAKE, Weights.LOADED)


def later(seconds: float, now: Now = NOW) -> Now:
    return Now(now.mono_s + seconds, now.wall_s + seconds)


def seen(**more: object) -> Known[ModelSeen]:
    look = ModelSeen(FACTS, is_sleeping=False, running=0, waiting=0, pids=(1,))
    return Known(replace(look, **more), NOW.mono_s - 0.1, NOW.mono_s - 0.1)


def record(
    name: str = "a", life: Life = AWAKE, *, spec: Mapping[str, object] | None = None, **more: object
) -> ModelRecord:
    """Long awake and idle for ten minutes, its footprint learned, unless told otherwise."""
    made = ModelRecord(
        spec=ModelSpec(name, f"http://{name}", gpus=("0",), **(spec or {})),
        life=life,
        seen=seen(),
        facts=FACTS,
        incarnation="pst:1",
        last_active_s=NOW.mono_s - 600.0,
        awake_since_s=NOW.mono_s - 3600.0,
        footprint=Footprint(freed={"GPU-0": (NEED,)}),
        reason="as it was",
    )
    return replace(made, **more)


def gpus(free: int, *, age_s: float = 0.1) -> Known[tuple[GpuSeen, ...]]:
    asked_s = NOW.mono_s - age_s
    return Known((GpuSeen("GPU-0", 0, 80 * GIB, free),), asked_s, asked_s)


def host(available: int, total: int = 100 * GIB) -> Known[HostSeen]:
    return Known(HostSeen(total, available), NOW.mono_s, NOW.mono_s)


def nap(seconds: float = 300.0, **more: object) -> Rule:
    return replace(Rule("nap", frozenset({"a", "b"}), (IdleFor(seconds),), SLEEP_1), **more)


def pressure(**more: object) -> Rule:
    condition = HostAvailableBelow(Threshold(share=0.10), Threshold(share=0.15))
    return replace(Rule("host-ram-pressure", frozenset({"a", "b"}), (condition,), SLEEP_2), **more)


def world(
    *records: ModelRecord,
    rules: tuple[Rule, ...] = (),
    free: int = 40 * GIB,
    available: int = 90 * GIB,
    memory: DetectorMemory | None = None,
    **more: object,
) -> World:
    made = World(
        settings=Settings({r.spec.name: r.spec for r in records}, rules),
        models={r.spec.name: r for r in records},
        gpus=gpus(free),
        host=host(available),
        memory=memory or DetectorMemory(),
    )
    return replace(made, **more)


def proven(made: World) -> World:
    """The same, its engine's level 2 cycle checked."""
    return replace(made, proven=frozenset({proof_key(FACTS)}))


KNOWN_ANSWER = Fingerprint("prompt", ("six",))
