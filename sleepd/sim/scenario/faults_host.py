"""What goes wrong on the host: strangers take GPU memory or RAM, NVML falls silent, the clock jumps."""

from random import Random

from sleepd.core.units import GIB
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage

NEIGHBOUR_PID = 9


def _draw_neighbour(random: Random, cast: Cast) -> Arguments:
    return {"gpu": random.randrange(cast.gpus), "gib": random.randint(1, 30), "stays_s": random.uniform(5.0, 120.0)}


def _take_gpu_memory(stage: Stage, name: str, drawn: Arguments) -> None:
    """A stranger takes GPU memory for a while; an allocation of ours may then fail at the engine."""
    gpu = stage.host.gpus[int(drawn["gpu"] or 0)]
    taken = min(gpu.free_bytes, int(drawn["gib"] or 0) * GIB)
    gpu.held[NEIGHBOUR_PID] = gpu.held.get(NEIGHBOUR_PID, 0) + taken
    stage.blame_gpu(gpu.index)

    def leave() -> None:
        gpu.held.pop(NEIGHBOUR_PID, None)

    stage.later(float(drawn["stays_s"] or 0.0), leave)


def _neighbours_leave(stage: Stage) -> None:
    for gpu in stage.host.gpus:
        gpu.held.pop(NEIGHBOUR_PID, None)


def _draw_ambush(random: Random, cast: Cast) -> Arguments:
    return {"gib": random.randint(5, 40), "after_s": random.uniform(0.0, 2.0), "stays_s": random.uniform(1.0, 60.0)}


def _ambush(stage: Stage, name: str, drawn: Arguments) -> None:
    """A stranger takes GPU memory in the middle of the model's next transition, after its preflight."""
    stage.blame_gpu(stage.models[name].gpus[0])
    gone_s = stage.time.now() + 120.0
    seen = {"gpu": stage.models[name].gpus[0], "gib": drawn["gib"], "stays_s": drawn["stays_s"]}

    def lie_in_wait() -> None:
        task = stage.daemon.world.tasks.get(name)
        if task is not None and task.running:
            stage.later(float(drawn["after_s"] or 0.0), lambda: _take_gpu_memory(stage, name, seen))
        elif stage.faulty and stage.time.now() < gone_s:
            stage.later(0.25, lie_in_wait)

    lie_in_wait()


def _draw_lag(random: Random, cast: Cast) -> Arguments:
    return {"by_s": random.choice((0.3, 2.0, 8.0)), "lasts_s": random.uniform(20.0, 120.0)}


def _release_late(stage: Stage, name: str, drawn: Arguments) -> None:
    """The driver takes its time to show what was given back."""
    stage.host.later, stage.host.releases_after_s = stage.later, float(drawn["by_s"] or 0.0)
    stage.blame(*stage.models)
    stage.later(float(drawn["lasts_s"] or 0.0), lambda: _release_at_once(stage))


def _release_at_once(stage: Stage) -> None:
    stage.host.releases_after_s = 0.0


def _draw_ram(random: Random, cast: Cast) -> Arguments:
    return {"share": random.uniform(0.5, 0.95), "stays_s": random.uniform(30.0, 200.0)}


def _take_ram(stage: Stage, name: str, drawn: Arguments) -> None:
    """Other people's use of host RAM rises and falls."""
    host = stage.host
    extra = int(max(0, host.available_bytes) * float(drawn["share"] or 0.0))
    host.others_bytes += extra

    def over() -> None:
        host.others_bytes -= extra

    stage.later(float(drawn["stays_s"] or 0.0), over)
    stage.blame(*stage.models)


def _draw_silence(random: Random, cast: Cast) -> Arguments:
    return {"lasts_s": random.uniform(1.0, 30.0)}


def _silence_nvml(stage: Stage, name: str, drawn: Arguments) -> None:
    stage.daemon.upsets.nvml_missing = True
    stage.later(float(drawn["lasts_s"] or 0.0), lambda: _restore_nvml(stage))


def _restore_nvml(stage: Stage) -> None:
    stage.daemon.upsets.nvml_missing = False


def _draw_jump(random: Random, cast: Cast) -> Arguments:
    return {"by_s": random.choice((-7200.0, -5.0, 3600.0))}


def _jump_clock(stage: Stage, name: str, drawn: Arguments) -> None:
    by_s = float(drawn["by_s"] or 0.0)
    stage.daemon.upsets.wall_offset_s += by_s
    if by_s > 0:
        # What a daemon restarted is on record by the wall clock: the next one takes it for so much longer ago.
        stage.account.restarts.clear()


DEEDS = (
    Deed("neighbour on a GPU", _take_gpu_memory, _draw_neighbour, heal=_neighbours_leave),
    Deed("neighbour in a transition", _ambush, _draw_ambush),
    Deed("memory freed late", _release_late, _draw_lag, weight=0.5, heal=_release_at_once),
    Deed("host RAM taken", _take_ram, _draw_ram),
    Deed("NVML silent", _silence_nvml, _draw_silence, heal=_restore_nvml),
    Deed("clock jumps", _jump_clock, _draw_jump),
)
