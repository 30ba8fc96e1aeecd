"""What befalls the daemon itself: it is killed at awkward moments, its disk refuses to write."""

from random import Random

from sleepd.core.events import Stopping
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage


def _draw_kill(random: Random, cast: Cast) -> Arguments:
    return {"how": random.choice(("now", "before", "after", "after")), "down_s": random.uniform(0.5, 30.0)}


def _kill(stage: Stage, name: str, drawn: Arguments) -> None:
    """The daemon is killed: now, before its next commit or right after it; a moment later it starts again."""
    daemon = stage.daemon
    if not daemon.alive:
        return
    if drawn["how"] == "now":
        daemon.die()
    daemon.upsets.die_before_commit = drawn["how"] == "before"
    daemon.upsets.die_after_commit = drawn["how"] == "after"
    stage.later(float(drawn["down_s"] or 0.0), lambda: _revive(stage))


def _revive(stage: Stage) -> None:
    stage.daemon.upsets.die_before_commit = stage.daemon.upsets.die_after_commit = False
    if not stage.daemon.alive:
        stage.daemon.start()


def _draw_refusals(random: Random, cast: Cast) -> Arguments:
    return {"commits": random.randint(1, 4)}


def _refuse_commits(stage: Stage, name: str, drawn: Arguments) -> None:
    stage.daemon.upsets.fail_commits = int(drawn["commits"] or 0)


def _accept_commits(stage: Stage) -> None:
    stage.daemon.upsets.fail_commits = 0


def _draw_slowness(random: Random, cast: Cast) -> Arguments:
    return {"commits_take_s": random.choice((0.5, 5.0, 30.0)), "lasts_s": random.uniform(5.0, 60.0)}


def _slow_disk(stage: Stage, name: str, drawn: Arguments) -> None:
    stage.daemon.upsets.disk_slow_s = float(drawn["commits_take_s"] or 0.0)
    stage.later(float(drawn["lasts_s"] or 0.0), lambda: _quicken_disk(stage))


def _quicken_disk(stage: Stage) -> None:
    stage.daemon.upsets.disk_slow_s = 0.0


def _draw_pause(random: Random, cast: Cast) -> Arguments:
    return {"down_s": random.uniform(0.5, 30.0)}


def _restart(stage: Stage, name: str, drawn: Arguments) -> None:
    """The service manager ends the daemon in order and starts it again."""
    if stage.daemon.alive:
        stage.daemon.submit(Stopping())
        stage.later(0.5, lambda: stage.daemon.die() if stage.daemon.alive else None)
        stage.later(0.5 + float(drawn["down_s"] or 0.0), lambda: _revive(stage))


DEEDS = (
    Deed("daemon killed", _kill, _draw_kill, weight=3.0, heal=_revive),
    Deed("daemon restarted", _restart, _draw_pause),
    Deed("disk slow", _slow_disk, _draw_slowness, weight=0.5, heal=_quicken_disk),
    Deed("disk refuses", _refuse_commits, _draw_refusals, heal=_accept_commits),
)
