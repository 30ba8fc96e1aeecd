"""The one line that the service manager shows."""

from sleepd.core.life import ASLEEP, State
from sleepd.core.model import Known
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import format_size
from sleepd.core.world import World

NAMES_LIMIT = 4
"""Names told of one sort; the rest is a number."""
_FAILED = (State.FAILED, State.LOST)


def status_line(world: World) -> str:
    """What `systemctl status` shows: "3 awake, 2 asleep, 41GiB free; waking qwen3-32b; failed: chat"."""
    if not world.models:
        return "no models are configured"
    states = [record.life.state for record in world.models.values()]
    counted = [(sum(s is State.AWAKE for s in states), "awake"), (sum(s in ASLEEP for s in states), "asleep")]
    counted += [(sum(s is State.STOPPED for s in states), "stopped")] * (State.STOPPED in states)
    parts = [f"{count} {what}" for count, what in counted]
    if isinstance(world.gpus, Known):
        parts.append(f"{format_size(sum(gpu.free_bytes for gpu in world.gpus.value))} free")
    told = [", ".join(parts)]
    doing: dict[str, list[str]] = {}
    for name, task in sorted(world.tasks.items()):
        doing.setdefault(_verb(task), []).append(name)
    told += [f"{verb} {_names(names)}" for verb, names in doing.items()]
    failed = sorted(name for name, record in world.models.items() if record.life.state in _FAILED)
    if failed:
        told.append(f"failed or lost: {_names(failed)}")
    return "; ".join(told)


_VERBS = {
    TaskKind.WAKE: "waking",
    TaskKind.PROVE: "checking the answer of",
    TaskKind.START: "starting",
    TaskKind.RESTART: "restarting",
    TaskKind.STOP: "stopping",
}


def _verb(task: Task) -> str:
    return _VERBS.get(task.kind) or f"putting to sleep at level {task.level}:"


def _names(names: list[str]) -> str:
    more = len(names) - NAMES_LIMIT
    return ", ".join(names[:NAMES_LIMIT]) + (f" and {more} more" if more > 0 else "")
