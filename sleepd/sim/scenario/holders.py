"""People who keep models awake: holds that end by themselves, with their stream or by hand, and pins."""

from random import Random

from sleepd.core.wishes import HoldAsked, HoldDetached, HoldEnded, PinAsked
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage

UID = 1000


def _draw_hold(random: Random, cast: Cast) -> Arguments:
    return {
        "id": f"hold-{random.randrange(4)}",
        "ttl_s": random.choice((20.0, 60.0, None)),
        "lasts_s": random.uniform(1.0, 90.0),
        "how": random.choice(("let go", "line breaks")),
    }


def _hold(stage: Stage, name: str, drawn: Arguments) -> None:
    """Somebody holds a model, for a while or as long as a stream is open; the same id renews or moves it."""
    daemon, hold_id = stage.daemon, str(drawn["id"])
    if not daemon.alive:
        return
    ttl_s = None if drawn["ttl_s"] is None else float(drawn["ttl_s"])
    stream = daemon.ask(lambda w: HoldAsked(w, hold_id, name, UID, "holder", ttl_s), lambda answer: None)

    def end() -> None:
        if daemon.alive and drawn["how"] == "let go":
            daemon.ask(lambda w: HoldEnded(w, hold_id, UID), lambda answer: None)
        elif daemon.alive:
            daemon.submit(HoldDetached(hold_id, stream))

    stage.later(float(drawn["lasts_s"] or 0.0), end)


def _draw_pin(random: Random, cast: Cast) -> Arguments:
    return {"lasts_s": random.uniform(10.0, 120.0)}


def _pin(stage: Stage, name: str, drawn: Arguments) -> None:
    """An operator pins a model and unpins it again."""
    _set_pin(stage, name, pinned=True)
    stage.later(float(drawn["lasts_s"] or 0.0), lambda: _set_pin(stage, name, pinned=False))


def _set_pin(stage: Stage, name: str, *, pinned: bool) -> None:
    if stage.daemon.alive:
        stage.daemon.ask(lambda w: PinAsked(w, name, "operator", pinned), lambda answer: None)


DEEDS = (
    Deed("hold", _hold, _draw_hold, every_s=(20.0, 120.0)),
    Deed("pin", _pin, _draw_pin, every_s=(100.0, 400.0)),
)
