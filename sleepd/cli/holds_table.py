"""`sleepctl holds`: who keeps what awake, until when, and why."""

from __future__ import annotations

from sleepd.cli.columns import Columns, age, left
from sleepd.cli.screen import Screen, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.shapes import Hold


def render_holds(holds: list[Hold], screen: Screen, now_wall_s: float) -> list[str]:
    """Return the lines of the table, or that there is no hold."""
    if not holds:
        return ["nothing is held awake"]
    rows = [_cells(hold, now_wall_s) for hold in holds]
    columns = Columns(("MODEL", "HOLD", "BY", "SINCE", "ENDS", "REASON"), rows, right=(3, 4))
    return columns.render(screen, [{5: "dim"}] * len(rows))


def _cells(hold: Hold, now_wall_s: float) -> tuple[str, ...]:
    ends = "with it" if hold["until"] is None else f"in {left(hold['until'], now_wall_s)}"
    who = clean(hold["who"]).partition(" (")[0]
    return clean(hold["model"]), clean(hold["id"]), who, age(hold["since"], now_wall_s), ends, clean(hold["reason"])
