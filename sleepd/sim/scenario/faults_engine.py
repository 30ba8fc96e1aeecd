"""What goes wrong in the engines: calls that fail, hang, lie or get lost, and deaths."""

from random import Random
from typing import Any

from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_faults import parse_fault

CALL_FAULTS: tuple[tuple[str, str | None], ...] = (
    ("fail_sleep", None),
    ("fail_wake", None),
    ("fail_reload", None),
    ("skew_reload", None),
    ("fail_reset_cache", None),
    ("free_nothing", None),
    ("hang", None),
    ("slow", None),
    ("slow", "/is_sleeping"),
    ("lose_before", None),
    ("lose_after", None),
    ("no_op", "/sleep"),
    ("no_op", "/wake_up"),
    ("die_at_call", None),
    ("die_after_sleep", None),
    ("corrupt_wake", None),
)
UNNOTICED_S = 10.0
"""How long after its page answers again what a stranger did meanwhile may stay unknown."""
COMPARED_S = 60.0
"""How long after a wake its answer may be compared: at the next moment at which nobody uses it."""


def _draw_call_fault(random: Random, cast: Cast) -> Arguments:
    kind, path = random.choice(CALL_FAULTS)
    return {
        "kind": kind,
        "path": path,
        "blocks": random.randint(0, 5),
        "seconds": random.choice((0.2, 5.0, 40.0)),
        "hangs_s": random.uniform(5.0, 500.0) if kind == "hang" else None,
    }


def _arm(stage: Stage, name: str, drawn: Arguments) -> None:
    """The next fitting call of this engine goes wrong."""
    engine = stage.servers[name].engine
    if engine is None:
        return
    stage.blame(name)
    engine.arm(parse_fault({key: value for key, value in drawn.items() if key != "hangs_s"}))
    if drawn["kind"] == "corrupt_wake":
        _doubt_until_proven(stage, name, engine)
    hangs_s: Any = drawn["hangs_s"]
    if hangs_s is not None:
        stage.later(hangs_s, engine.release_hang)


def _doubt_until_proven(stage: Stage, name: str, engine: SimEngine) -> None:
    """A wake that cost no reload serves at once and is compared right after: only that moment is excused."""
    stage.doubt(name, COMPARED_S)
    if any(fault.kind == "corrupt_wake" for fault in engine.armed()):
        stage.later(1.0, lambda: _doubt_until_proven(stage, name, engine))


def _disarm(stage: Stage) -> None:
    for server in stage.servers.values():
        if server.engine is not None:
            server.engine.disarm()
            server.engine.release_hang()


def _draw_hung_page(random: Random, cast: Cast) -> Arguments:
    return {"hangs_s": random.choice((random.uniform(1.0, 10.0), random.uniform(10.0, 150.0)))}


def _hang_page(stage: Stage, name: str, drawn: Arguments) -> None:
    """The page of counters answers nobody for a while, as where the disk of PROMETHEUS_MULTIPROC_DIR hangs; the engine
    is as well as ever. Nobody can notice meanwhile what strangers do."""
    hangs_s = float(drawn["hangs_s"] or 0.0)
    stage.servers[name].hang_page()
    stage.doubt(name, hangs_s + UNNOTICED_S)
    stage.later(hangs_s, stage.servers[name].free_page)


def _free_pages(stage: Stage) -> None:
    for server in stage.servers.values():
        server.free_page()


def _draw_death(random: Random, cast: Cast) -> Arguments:
    return {"orphan_s": random.uniform(1.0, 60.0) if random.random() < 0.3 else 0.0}


def _kill(stage: Stage, name: str, drawn: Arguments) -> None:
    """The server is killed; with `orphan_s` an orphan of its keeps the GPU memory for so long."""
    server = stage.servers[name]
    if server.engine is None:
        return
    stage.blame_gpu(stage.models[name].gpus[0])
    stage.blame(name)
    held = {gpu.index: gpu.held.get(server.pid, 0) for gpu in stage.host.gpus}
    orphan, orphan_s = -server.pid, float(drawn.get("orphan_s") or 0.0)
    server.engine.kill()
    if orphan_s:
        for gpu in stage.host.gpus:
            gpu.held[orphan] = held[gpu.index]
        stage.later(orphan_s, lambda: stage.host.end_process(orphan))


def _draw_deadly(random: Random, cast: Cast) -> Arguments:
    return {"path": random.choice(("/wake_up", "/wake_up", "/sleep"))}


def _make_deadly(stage: Stage, name: str, drawn: Arguments) -> None:
    """From now on each of its processes dies of the first such call: whoever starts it again and again has a loop."""
    stage.blame(name)
    fault = stage.deadly[name] = parse_fault({"kind": "die_at_call", "path": drawn["path"]})
    engine = stage.servers[name].engine
    if engine is not None:
        engine.arm(fault)


def _make_harmless(stage: Stage) -> None:
    stage.deadly.clear()
    _disarm(stage)


DEEDS = (
    Deed("engine call goes wrong", _arm, _draw_call_fault, weight=2.0, heal=_disarm),
    Deed("engine dies", _kill, _draw_death),
    Deed("dies of each call", _make_deadly, _draw_deadly, weight=0.5, heal=_make_harmless),
    Deed("page hangs", _hang_page, _draw_hung_page, weight=0.7, heal=_free_pages),
)
