"""`sleepctl reservations`: whose job has how much of which GPUs, until when, and why."""

from __future__ import annotations

from sleepd.cli.columns import Columns, age, left
from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.reservation_shapes import Reservation


def render_reservations(reservations: list[Reservation], screen: Screen, now_wall_s: float) -> list[str]:
    """Return the lines of the table, or that there is no reservation."""
    if not reservations:
        return ["no GPU memory is reserved"]
    rows = [_cells(kept, now_wall_s) for kept in reservations]
    columns = Columns(("ID", "GPU", "EACH", "BY", "SINCE", "ENDS", "ASIDE", "REASON"), rows, right=(2, 4, 5))
    return columns.render(screen, [{7: "dim"}] * len(rows))


def name_gpus(kept: Reservation) -> str:
    """Return its GPUs by their numbers, where they are known."""
    return ",".join(clean(gpu["uuid"]) if gpu["index"] is None else str(gpu["index"]) for gpu in kept["gpus"])


def _cells(kept: Reservation, now_wall_s: float) -> tuple[str, ...]:
    ends = "with it" if kept["until"] is None else f"in {left(kept['until'], now_wall_s)}"
    who = clean(kept["who"]).partition(" (")[0]
    size, aside = format_size(kept["bytes_per_gpu"]), ", ".join(clean(name) for name in kept["aside"])
    about = clean(kept["reason"])
    if not kept["granted"]:
        ends, about = "waits", f"waits for {clean(kept['waits_for'] or '')}"
    since = age(kept["since"], now_wall_s)
    return clean(kept["id"]), name_gpus(kept), size, who, since, ends, aside or "-", about
