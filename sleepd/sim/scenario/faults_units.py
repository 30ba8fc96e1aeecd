"""What befalls units: persons stop, start and restart them at any moment, starts fail or take long, stops hang, the
limit of starts is hit, an API server dies alone, the bus goes away, nobody may do anything."""

from random import Random

from sleepd.core.wishes import StartAsked, StopAsked
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.units import LIMIT_BURST, RESTART_SEC


def _draw_duration(random: Random, cast: Cast) -> Arguments:
    return {"lasts_s": random.choice((1.0, 20.0, 90.0))}


def _stop(stage: Stage, name: str, drawn: Arguments) -> None:
    """systemctl stop, and some time later systemctl start."""
    unit = stage.unit_of(name)
    if unit is not None:
        stage.blame(name)
        if unit.active not in ("inactive", "failed") and unit.job != "stop":
            # Else systemd has nothing more to do, and nobody can tell. A person took it in hand: restarts are counted
            # anew.
            stage.account.stopped_by_person.add(name)
            stage.account.restarts.pop(name, None)
        stage.manager.stop(unit)
        stage.later(float(drawn["lasts_s"] or 0.0), lambda: _start(stage, name))


def _start(stage: Stage, name: str) -> None:
    unit = stage.unit_of(name)
    if unit is not None:
        stage.account.stopped_by_person.discard(name)
        stage.manager.start(unit)


def _restart(stage: Stage, name: str, drawn: Arguments) -> None:
    """systemctl restart."""
    unit = stage.unit_of(name)
    if unit is not None and name not in stage.account.stopped_by_person:
        stage.blame(name)
        stage.manager.stop(unit)
        stage.manager.start(unit)


def _ask_stop(stage: Stage, name: str, drawn: Arguments) -> None:
    """sleepctl stop, and some time later sleepctl start."""
    if not stage.daemon.alive or stage.unit_of(name) is None:
        return
    stage.ask(lambda w: StopAsked(w, name, "operator", 60.0), 60.0, lambda answer: None)

    def start() -> None:
        if stage.daemon.alive:
            stage.account.stopped_by_person.discard(name)
            stage.ask(lambda w: StartAsked(w, name, "operator", 60.0), 60.0, lambda answer: None)

    stage.later(float(drawn["lasts_s"] or 0.0), start)


def _draw_failures(random: Random, cast: Cast) -> Arguments:
    return {"starts": random.choice((1, 3, 12))}


def _fail_starts(stage: Stage, name: str, drawn: Arguments) -> None:
    """Its next starts end at once, from now on: the server dies too."""
    unit, engine = stage.unit_of(name), stage.servers[name].engine
    if unit is not None:
        stage.blame(name)
        unit.fails = int(drawn["starts"] or 0)
        if engine is not None:
            engine.kill()


def _heal_starts(stage: Stage) -> None:
    for unit in stage.manager.units.values():
        unit.fails, unit.hangs, unit.forbidden = 0, False, False
    stage.manager.gone = False


def _hit_limit(stage: Stage, name: str, drawn: Arguments) -> None:
    """Its server dies, and systemd says that it was started too often."""
    unit, engine = stage.unit_of(name), stage.servers[name].engine
    if unit is not None and engine is not None:
        stage.blame(name)
        unit.started_at = [stage.time.now()] * LIMIT_BURST
        unit.started_at[-1] += RESTART_SEC
        engine.kill()


def _hang_stop(stage: Stage, name: str, drawn: Arguments) -> None:
    """Its next stop takes until SIGKILL."""
    unit = stage.unit_of(name)
    if unit is not None:
        unit.hangs = True


def _orphan(stage: Stage, name: str, drawn: Arguments) -> None:
    stage.blame(name)
    stage.orphan(name)


def _lose_bus(stage: Stage, name: str, drawn: Arguments) -> None:
    stage.manager.gone = True
    stage.later(float(drawn["lasts_s"] or 0.0), lambda: setattr(stage.manager, "gone", False))


def _forbid(stage: Stage, name: str, drawn: Arguments) -> None:
    """Somebody takes the polkit rule away, and puts it back."""
    unit = stage.unit_of(name)
    if unit is not None:
        stage.blame(name)
        unit.forbidden = True
        stage.later(float(drawn["lasts_s"] or 0.0), lambda: setattr(unit, "forbidden", False))


def _wedge(stage: Stage, name: str, drawn: Arguments) -> None:
    """Its engine core dies: the server ends, or goes on as a zombie that answers nothing."""
    engine = stage.servers[name].engine
    if engine is not None and stage.unit_of(name) is not None:
        stage.blame(name)
        engine.kill_core()


DEEDS = (
    Deed("unit stopped", _stop, _draw_duration, weight=2.0),
    Deed("unit restarted", _restart),
    Deed("unit asked to stop", _ask_stop, _draw_duration, weight=2.0),
    Deed("starts fail", _fail_starts, _draw_failures, heal=_heal_starts, weight=2.0),
    Deed("stop hangs", _hang_stop),
    Deed("start limit hit", _hit_limit),
    Deed("engine orphaned", _orphan, weight=2.0),
    Deed("engine core killed", _wedge, weight=2.0),
    Deed("bus gone", _lose_bus, _draw_duration),
    Deed("polkit rule gone", _forbid, _draw_duration, weight=0.5),
)
