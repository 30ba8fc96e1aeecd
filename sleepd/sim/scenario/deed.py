"""What one kind of happening is: how its numbers are drawn, how it is done, how what is left of it is ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from sleepd.core.units import Seconds
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.stage import Stage

Arguments = Mapping[str, float | int | str | bool | None]
"""The drawn numbers of one act, as JSON holds them."""


def nothing(random: Random, cast: Cast) -> Arguments:
    return {}


def ends_by_itself(stage: Stage) -> None:
    """Nothing of it is left to end."""


@dataclass(frozen=True, slots=True)
class Deed:
    """`do` gets the stage, the drawn model and what `draw` drew, and draws nothing itself.

    People repeat theirs `every_s` (least, most); a fault is chosen by its `weight` and is over after `heal`. A `do`
    that harms an engine, or lets others be harmed, says so by `stage.blame`: these models may then need a restart.
    """

    name: str
    do: Callable[[Stage, str, Arguments], None]
    draw: Callable[[Random, Cast], Arguments] = nothing
    weight: float = 1.0
    every_s: tuple[Seconds, Seconds] = (0.0, 0.0)
    heal: Callable[[Stage], None] = ends_by_itself
