"""The one line that the service manager shows."""

from sleepd.core.life import State
from sleepd.core.model import Known
from sleepd.core.units import format_size
from sleepd.core.world import World


def status_line(world: World) -> str:
    """What `systemctl status` shows: "3 awake, 2 asleep, 41GiB free; waking qwen3-32b"."""
    states = [r.life.state for r in world.models.values()]
    awake = sum(s is State.AWAKE for s in states)
    asleep = sum(s in (State.ASLEEP_L1, State.ASLEEP_L2) for s in states)
    failed = sum(s in (State.FAILED, State.LOST) for s in states)
    parts = [f"{awake} awake", f"{asleep} asleep"] + ([f"{failed} failed or lost"] if failed else [])
    if isinstance(world.gpus, Known):
        parts.append(f"{format_size(sum(g.free_bytes for g in world.gpus.value))} free")
    doing = [f"{t.kind}: {name}" for name, t in sorted(world.tasks.items())]
    return ", ".join(parts) + (f"; {', '.join(doing)}" if doing else "")
