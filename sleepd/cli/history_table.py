"""`sleepctl history`: what each model was, for how long, and why; and what did not come about."""

from __future__ import annotations

from sleepd.cli.columns import Columns, moment, wall_s
from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.history_shapes import History, StateSpan, TaskSpan

ROOMY_WIDTH, NAME_WIDTH = 110, 16
"""A narrower screen gets shorter names and moments without the year, so that there is room for why."""
_TONES = {"awake": "green", "asleep": "blue", "failed": "red", "lost": "red"}
_WORDS = {
    "rule": "rule {}",
    "operator": "asked for by {}",
    "request": "a request ({})",
    "victim": "made room for {}",
    "check": "checked {}",
    "prime": "so that later sleeps are fast",
    "recovery": "put back after {}",
}


def render_history(pages: Sequence[History], screen: Screen, now_wall_s: float) -> list[str]:
    """Return the lines of the table, or that there is nothing on record."""
    rows: list[tuple[str, tuple[str, ...], dict[int, str]]] = []
    for page in pages:
        rows += [_state(each, now_wall_s) for each in page["states"]]
        rows += [_miss(each) for each in (*page["wakes"], *page["tasks"]) if each["result"] in ("failed", "refused")]
    if not rows:
        return ["nothing is on record for this time"]
    rows.sort(key=lambda row: row[0])
    lines, since = [cells for _, cells, _ in rows], "SINCE"
    if screen.width is not None and screen.width < ROOMY_WIDTH:
        since = "SINCE (UTC)"
        lines = [(screen.cut_middle(name, NAME_WIDTH), told[5:-1], *rest) for name, told, *rest in lines]
    columns = Columns(("MODEL", since, "STATE", "LASTED", "WHY"), lines, right=(3,))
    return columns.render(screen, [tones for _, _, tones in rows])


def _state(each: StateSpan, now_wall_s: float) -> tuple[str, tuple[str, ...], dict[int, str]]:
    depth = f" L{each['level']}" if each["level"] else ""
    state = clean(each["state"]).replace("_", " ") + depth
    until_s = now_wall_s if each["until"] is None else wall_s(each["until"])
    lasted = format_duration(max(0.0, until_s - wall_s(each["since"])))
    freed = f", frees {format_size(each['freed_bytes'])}" if each["freed_bytes"] else ""
    why = _why(each["by"], each["who"]) + freed
    tone = _TONES.get(each["state"], "dim")
    return each["since"], (clean(each["model"]), moment(each["since"]), state, lasted, why), {2: tone, 4: "dim"}


def _miss(each: TaskSpan) -> tuple[str, tuple[str, ...], dict[int, str]]:
    what = f"{each['kind']} {each['result']}"
    cells = (
        clean(each["model"]),
        moment(each["began"]),
        what,
        format_duration(each["seconds"]),
        clean(each["outcome"]),
    )
    return each["began"], cells, {2: "red"}


def _why(by: str | None, who: str) -> str:
    return "found so" if by is None else _WORDS.get(by, f"{by} {{}}").format(clean(who))
