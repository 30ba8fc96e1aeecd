"""A turn that became the world, for whoever follows along: events, history, metrics, traces."""

from collections.abc import Sequence
from dataclasses import dataclass

from sleepd.core.events import Event
from sleepd.core.model import Now
from sleepd.core.turn import Turn
from sleepd.core.units import Seconds
from sleepd.core.world import World


@dataclass(frozen=True, slots=True)
class Published:
    """What a turn made of `before`; `turn.world` is the world now. `step_s`: how long it took to decide;
    `events`: what it was decided about.

    Its records are durable, but for a turn that tells how a recorded step ended well: those become so next. A turn
    whose records cannot be committed is never published.
    """

    before: World
    turn: Turn
    now: Now
    step_s: Seconds
    events: Sequence[Event] = ()
