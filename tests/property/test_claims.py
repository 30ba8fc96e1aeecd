"""Who may begin: all resources in one turn or none, and the oldest wish that waits keeps its own from younger ones.

Hosts with several GPUs, models over one to three of them, wishes of all ages, transitions under way, one turn.
"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.events import Tick
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Known, ModelSpec, Now, Settings
from sleepd.core.plan import plan_sleep
from sleepd.core.record import AskKind, ModelRecord, Waiter
from sleepd.core.seen import EngineFacts, GpuSeen, HostSeen, ModelSeen
from sleepd.core.sharing import BARRED_AFTER_S
from sleepd.core.task import HOST_LOCK, Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.world import World

BOUNDED = settings(max_examples=250, deadline=None, derandomize=True, database=None)
NOW = Now(10_000.0, 1.7e9)
FACTS = EngineFacts("0.32.0", (0, 32), "pst:1", ("x",), sleep_mode=True, described=True, checkpoint_bytes=GIB)
STATES = {
    "awake": Life(State.AWAKE, Weights.LOADED),
    "asleep": Life(State.ASLEEP_L1, Weights.OFFLOADED),
    "deep": Life(State.ASLEEP_L2, Weights.BLANK),
    "moving": Life(State.FALLING_ASLEEP, Weights.OFFLOADED),
}
UUIDS = ("GPU-0", "GPU-1", "GPU-2")


def waiter(number: int, age_s: float) -> Waiter:
    asked_s = NOW.mono_s - age_s
    return Waiter(number, AskKind.WAKE, Cause(CauseKind.OPERATOR, "x"), asked_s, NOW.mono_s + 600.0)


def moving(number: int, name: str, gpus: list[int]) -> Task:
    claims = frozenset({UUIDS[g] for g in gpus} | {HOST_LOCK})
    plan = plan_sleep(1, fingerprint_wanted=False)
    made = Task(number, name, TaskKind.SLEEP, 1, Cause(CauseKind.RULE, "nap"), plan, NOW.mono_s - 1.0, claims=claims)
    return replace(made, cursor=1, running=True)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 3))
    models: dict[str, ModelRecord] = {}
    tasks: dict[str, Task] = {}
    held: set[str] = set()
    for i in range(draw(st.integers(2, 5))):
        name = f"m{i}"
        gpus = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
        state = draw(st.sampled_from(sorted(STATES)))
        if state == "moving":
            task = moving(i + 1, name, gpus)
            if task.claims & held:
                state = "awake"
            else:
                held |= task.claims
                tasks[name] = task
        need = draw(st.integers(1, 20)) * GIB
        asleep = state in ("asleep", "deep")
        ages = draw(st.lists(st.sampled_from((0.5, 4.0, 6.0, 30.0)), max_size=2)) if asleep else []
        models[name] = ModelRecord(
            spec=ModelSpec(name, f"http://{name}", gpus=tuple(str(g) for g in gpus), min_awake_s=0.0),
            life=STATES[state],
            seen=Known(
                ModelSeen(FACTS, is_sleeping=asleep, running=0, waiting=0, pids=(100 + i,)), NOW.mono_s, NOW.mono_s
            ),
            facts=FACTS,
            incarnation="pst:1",
            in_flight=draw(st.integers(0, 1)) if state == "awake" else 0,
            footprint=Footprint(freed={UUIDS[g]: (need,) for g in gpus}, asleep={UUIDS[g]: GIB for g in gpus}),
            waiters=tuple(waiter(10 * i + n, age) for n, age in enumerate(ages)),
            settled_s=NOW.mono_s - draw(st.sampled_from((0.0, 5.0))),
        )
    age_s = draw(st.sampled_from((0.0, 0.1, 2.0)))
    free = [draw(st.integers(0, 40)) * GIB for _ in range(count)]
    gpus_seen = tuple(GpuSeen(UUIDS[g], g, 80 * GIB, free[g]) for g in range(count))
    return World(
        settings=Settings({n: r.spec for n, r in models.items()}),
        models=models,
        tasks=tasks,
        gpus=Known(gpus_seen, NOW.mono_s - age_s, NOW.mono_s - age_s),
        host=Known(HostSeen(256 * GIB, 200 * GIB), NOW.mono_s, NOW.mono_s),
        next_task=50,
    )


def places(record: ModelRecord) -> frozenset[str]:
    return frozenset(UUIDS[int(g)] for g in record.spec.gpus)


def begun(before: World, after: World) -> dict[str, Task]:
    return {n: t for n, t in after.tasks.items() if n not in before.tasks or before.tasks[n].id != t.id}


@BOUNDED
@given(worlds())
def test_claims_are_exclusive_and_whole(world: World) -> None:
    """What begins holds the GPUs of its model, of every victim, and the host where weights move through it."""
    after = step(world, [Tick()], NOW).world
    held: set[str] = set()
    for task in after.tasks.values():
        assert not task.claims & held, "two tasks hold the same"
        held |= task.claims
    for name, task in begun(world, after).items():
        if task.parent is not None:
            parent = next(t for t in after.tasks.values() if t.id == task.parent)
            assert places(after.models[name]) | {HOST_LOCK} <= parent.claims
            assert parent.victim == name
        else:
            assert places(after.models[name]) <= task.claims
            assert task.level == 1 or HOST_LOCK in task.claims


@BOUNDED
@given(worlds())
def test_what_waits_longest_keeps_its_gpus_from_younger_wishes(world: World) -> None:
    after = step(world, [Tick()], NOW).world
    wakes = {n: t for n, t in begun(world, after).items() if t.kind is TaskKind.WAKE}
    for name, record in after.models.items():
        if not record.waiters or name in after.tasks:
            continue
        wished_s = min(w.asked_s for w in record.waiters)
        if NOW.mono_s - wished_s < BARRED_AFTER_S:
            continue
        for other, task in wakes.items():
            younger = min(w.asked_s for w in world.models[other].waiters) > wished_s
            assert not (younger and task.claims & places(record)), f"{other} overtook {name}: {record.reason}"


@BOUNDED
@given(worlds())
def test_a_wake_that_goes_ahead_fits_on_each_of_its_gpus(world: World) -> None:
    """Beside the margin, and with everything that began in the same turn."""
    after = step(world, [Tick()], NOW).world
    assert isinstance(world.gpus, Known)
    for gpu in world.gpus.value:
        wanted = 0
        for name, task in begun(world, after).items():
            alone = task.kind is TaskKind.WAKE and task.victim is None
            if alone and gpu.uuid in places(after.models[name]):
                wanted += after.models[name].footprint.need(gpu.uuid) or 0
        assert wanted == 0 or gpu.free_bytes - wanted >= world.settings.gpu_margin_bytes


def test_a_wish_with_a_victim_is_not_starved_of_the_host_by_younger_ones_elsewhere() -> None:
    """It has waited, its reading grew old in this very moment, and the host came free: a younger wish on another GPU
    would take it, and the next one after that, for ever."""

    def sleeper(name: str, gpu: int, age_s: float) -> ModelRecord:
        return model(name, gpu, "asleep", waiters=(waiter(gpu, age_s),))

    def model(name: str, gpu: int, state: str, **more: object) -> ModelRecord:
        seen = ModelSeen(FACTS, is_sleeping=state == "asleep", running=0, waiting=0, pids=(gpu,))
        made = ModelRecord(
            spec=ModelSpec(name, f"http://{name}", gpus=(str(gpu),), min_awake_s=0.0),
            life=STATES[state],
            seen=Known(seen, NOW.mono_s, NOW.mono_s),
            facts=FACTS,
            incarnation="pst:1",
            footprint=Footprint(freed={UUIDS[gpu]: (20 * GIB,)}),
        )
        return replace(made, **more)

    moved = replace(model("b", 0, "awake"), settled_s=NOW.mono_s - 0.05)
    records = [sleeper("a", 0, 30.0), moved, sleeper("c", 1, 1.0), model("d", 1, "awake")]
    gpus = tuple(GpuSeen(UUIDS[g], g, 80 * GIB, 2 * GIB) for g in range(2))
    world = World(
        settings=Settings({r.spec.name: r.spec for r in records}),
        models={r.spec.name: r for r in records},
        gpus=Known(gpus, NOW.mono_s - 0.1, NOW.mono_s - 0.1),
        host=Known(HostSeen(256 * GIB, 200 * GIB), NOW.mono_s, NOW.mono_s),
    )
    assert step(world, [Tick()], NOW).world.tasks == {}
    fresh = replace(world, gpus=Known(gpus, NOW.mono_s, NOW.mono_s))
    assert set(step(fresh, [Tick()], NOW).world.tasks) == {"a", "b"}
