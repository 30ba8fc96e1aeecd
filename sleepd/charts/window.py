"""The span of time that charts show: where a moment stands, and which moments are marked."""

from collections.abc import Iterator
from dataclasses import dataclass

from sleepd.charts.markup import element, escaped, text_at
from sleepd.core.units import Seconds, WallS, format_duration, format_wall

WIDTH, LEFT, RIGHT = 960.0, 150.0, 16.0
"""Of every chart: names stand left of `LEFT`."""
NAME_LIMIT = 20
TICKS_LIMIT = 9
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_STEPS_S = (
    *(1, 5, 10, 30, _MINUTE_S, 5 * _MINUTE_S, 10 * _MINUTE_S, 30 * _MINUTE_S),
    *(_HOUR_S, 2 * _HOUR_S, 3 * _HOUR_S, 6 * _HOUR_S, 12 * _HOUR_S),
    *(_DAY_S, 2 * _DAY_S, 7 * _DAY_S, 14 * _DAY_S, 28 * _DAY_S, 91 * _DAY_S, 365 * _DAY_S),
)


@dataclass(frozen=True, slots=True)
class Window:
    """From `since_s` to `until_s`. `elapsed`: moments are told as time since its beginning, else in UTC."""

    since_s: WallS
    until_s: WallS
    elapsed: bool = False

    @property
    def span_s(self) -> Seconds:
        return max(1e-6, self.until_s - self.since_s)

    def x(self, moment_s: WallS) -> float:
        """Return where the moment stands in a chart; one outside stands at its edge."""
        share = (min(max(moment_s, self.since_s), self.until_s) - self.since_s) / self.span_s
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> Iterator[tuple[WallS, str]]:
        """Yield round moments and what is written at them: at most `TICKS_LIMIT`, none for a span beyond all reason."""
        step_s = next((step for step in _STEPS_S if self.span_s / step < TICKS_LIMIT), None)
        if step_s is None:
            return
        origin_s = self.since_s if self.elapsed else 0.0
        number = -((origin_s - self.since_s) // step_s)
        while (moment_s := origin_s + number * step_s) <= self.until_s:
            yield moment_s, self._label(moment_s, step_s)
            number += 1

    def tell(self, moment_s: WallS) -> str:
        """Return the moment to the second."""
        return format_duration(round(moment_s - self.since_s)) if self.elapsed else format_wall(moment_s)

    def _label(self, moment_s: WallS, step_s: int) -> str:
        if self.elapsed:
            return format_duration(round(moment_s - self.since_s))
        told = format_wall(moment_s)
        if step_s > 28 * _DAY_S:
            return told[:10]
        if step_s >= _DAY_S or round(moment_s) % _DAY_S == 0:
            return told[5:10]
        return told[11:16] if step_s >= _MINUTE_S else told[11:19]


def draw_axis(window: Window, height: float) -> str:
    """Return lines at round moments down to `height`, and what they are below it."""
    drawn = []
    for moment_s, label in window.ticks():
        x = window.x(moment_s)
        drawn.append(element("line", x1=x, x2=x, y1=0.0, y2=height + 4, class_="tick"))
        drawn.append(text_at(x, height + 17, label, "tell", "middle"))
    return "".join(drawn)


def name_at(y: float, name: str) -> str:
    """Return a lane's name at the left edge, cut in its middle where it is long: names often differ at their ends."""
    tail = NAME_LIMIT // 2
    shown = name if len(name) <= NAME_LIMIT else f"{name[: NAME_LIMIT - tail - 1]}…{name[-tail:]}"
    whole = element("title", escaped(name)) if shown != name else ""
    return element("g", whole + text_at(LEFT - 8, y, shown, "", "end"))
