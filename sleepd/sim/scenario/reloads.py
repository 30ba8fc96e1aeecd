"""An operator who changes the policy of models while they take turns: how long these last, who is more important, how
many may be awake at once."""

from dataclasses import replace
from random import Random

from sleepd.core.events import SettingsChanged
from sleepd.core.model import Group
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage

_OF_A_MODEL = {
    "min_awake_s": (0.0, 5.0, 30.0, 120.0),
    "max_wait_s": (5.0, 20.0, 120.0, 600.0),
    "priority": (-5, 0, 3, 20),
    "max_level": (0, 1, 1, 2),
}
_OF_ALL = {"drain_s": (1.0, 5.0, 60.0, 300.0), "max_awake": (0, 1, 2)}


def _draw(random: Random, cast: Cast) -> Arguments:
    key = random.choice((*_OF_A_MODEL, *_OF_ALL))
    return {"key": key, "value": random.choice({**_OF_A_MODEL, **_OF_ALL}[key])}


def _reload(stage: Stage, name: str, drawn: Arguments) -> None:
    """One key of the configuration is another from now on. `max_awake` 0: no group; else one of all models."""
    daemon, key, value = stage.daemon, str(drawn["key"]), drawn["value"] or 0
    settings = daemon.settings
    if key == "drain_s":
        settings = replace(settings, turn_drain_s=float(value))
    elif key == "max_awake":
        groups = (Group("reloaded", frozenset(settings.models), int(value)),) if value else ()
        settings = replace(settings, groups=groups)
    else:
        settings = replace(settings, models={**settings.models, name: replace(settings.models[name], **{key: value})})  # type: ignore[arg-type]
    daemon.settings = settings
    daemon.submit(SettingsChanged(settings))


DEEDS = (Deed("reload", _reload, _draw, every_s=(10.0, 60.0)),)
