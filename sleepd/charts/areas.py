"""Areas: what something held over time, against what it has; one strip for each GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepd.charts.markup import element, escaped, figure, text_at
from sleepd.charts.window import LEFT, WIDTH, Window, draw_axis, name_at
from sleepd.core.units import WallS, format_size

STRIP, AREA = 64.0, 52.0
LEAST_STEP = 0.5
"""Steps nearer to each other are drawn as one, as high as the highest of them."""


@dataclass(frozen=True, slots=True)
class Area:
    """`points`: bytes held from that moment on, until the next, in the order of time; `total`: what there is."""

    name: str
    points: Sequence[tuple[WallS, float]]
    total: float


def draw_areas(areas: Sequence[Area], window: Window, *, name: str, title: str) -> str:
    """Return the SVG; each strip is as high as its own total. `name` is unique on its page."""
    height = max(1, len(areas)) * STRIP
    drawn = [draw_axis(window, height)]
    most = []
    for row, area in enumerate(areas):
        floor = (row + 1) * STRIP
        peak = max((held for _, held in area.points), default=0.0)
        told = f"{area.name}: {format_size(round(peak))} of {format_size(round(area.total))} at most"
        most.append(told)
        drawn.append(name_at(floor - AREA / 2, area.name))
        drawn.append(text_at(LEFT - 8, floor - AREA / 2 + 14, format_size(round(area.total)), "tell", "end"))
        path = _path(area, window, floor)
        drawn.append(element("path", element("title", escaped(told)), d=path, class_="area"))
        drawn += [_edge(floor, window), _edge(floor - AREA, window)]
    return figure(name, WIDTH, height + 24, title, "; ".join(most), "".join(drawn))


def _edge(y: float, window: Window) -> str:
    return element("line", x1=LEFT, x2=window.x(window.until_s), y1=y, y2=y, class_="floor")


def _path(area: Area, window: Window, floor: float) -> str:
    steps = list(_steps(area, window))
    if not steps:
        return f"M{LEFT:.1f} {floor:.1f}"
    drawn = [f"M{steps[0][0]:.1f} {floor:.1f}"]
    for x, share in steps:
        drawn.append(f"H{x:.1f}V{floor - share * AREA:.1f}")
    return "".join([*drawn, f"H{window.x(window.until_s):.1f}V{floor:.1f}Z"])


def _steps(area: Area, window: Window) -> Iterator[tuple[float, float]]:
    """Yield where each step stands and its share of the total. What held before the window holds at its edge."""
    last: tuple[float, float] | None = None
    for moment_s, held in area.points:
        if moment_s > window.until_s:
            break
        x, share = window.x(moment_s), min(1.0, max(0.0, held / area.total)) if area.total > 0 else 0.0
        if last is not None and moment_s > window.since_s:
            if x - last[0] < LEAST_STEP:
                last = last[0], max(last[1], share)
                continue
            yield last
        last = x, share
    if last is not None:
        yield last
