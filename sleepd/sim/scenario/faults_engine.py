"""What goes wrong in the engines: calls that fail, hang, lie or get lost, and deaths."""

import math
from random import Random
from typing import Any

from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_faults import parse_fault

CALL_FAULTS: tuple[tuple[str, str | None], ...] = (
    ("fail_sleep", None),
    ("fail_wake", None),
    ("fail_reload", None),
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
    if drawn["kind"] == "corrupt_wake":
        stage.doubt(name, math.inf)
    engine.arm(parse_fault({key: value for key, value in drawn.items() if key != "hangs_s"}))
    hangs_s: Any = drawn["hangs_s"]
    if hangs_s is not None:
        stage.later(hangs_s, engine.release_hang)


def _disarm(stage: Stage) -> None:
    for server in stage.servers.values():
        if server.engine is not None:
            server.engine.disarm()
            server.engine.release_hang()


def _kill(stage: Stage, name: str, drawn: Arguments) -> None:
    engine = stage.servers[name].engine
    if engine is not None:
        stage.blame(name)
        engine.kill()


DEEDS = (
    Deed("engine call goes wrong", _arm, _draw_call_fault, weight=2.0, heal=_disarm),
    Deed("engine dies", _kill),
)
