"""Bars: one amount for each name, largest where the caller puts it, with a mark for a second amount."""

from collections.abc import Sequence
from dataclasses import dataclass

from sleepd.charts.markup import element, escaped, figure, text_at
from sleepd.charts.window import LEFT, RIGHT, WIDTH, name_at

ROW, BAR = 22.0, 14.0
VALUE_WIDTH = 150.0
"""What stands right of the longest bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """`shown` says the amount in words. `mark`: where a thin line stands, such as a 95th percentile."""

    name: str
    amount: float
    shown: str
    mark: float | None = None


def draw_bars(bars: Sequence[Bar], *, name: str, title: str, about: str) -> str:
    """Return the SVG; all bars have one scale, which the largest amount or mark fills. `name` is unique on its page."""
    most = max((max(bar.amount, bar.mark or 0.0) for bar in bars), default=0.0)
    full = WIDTH - LEFT - RIGHT - VALUE_WIDTH
    drawn = []
    for row, bar in enumerate(bars):
        top = row * ROW + (ROW - BAR) / 2
        width = full * max(0.0, bar.amount) / most if most > 0 else 0.0
        told = element("title", escaped(f"{bar.name}: {bar.shown}"))
        drawn.append(name_at(top + BAR - 3, bar.name))
        drawn.append(element("rect", told, x=LEFT, y=top, width=width, height=BAR, class_="amount"))
        end = width
        if bar.mark is not None and most > 0:
            end = max(width, full * bar.mark / most)
            x, middle = LEFT + full * bar.mark / most, top + BAR / 2
            drawn.append(element("line", x1=LEFT + width, x2=x, y1=middle, y2=middle, class_="mark"))
            drawn.append(element("line", x1=x, x2=x, y1=top, y2=top + BAR, class_="mark"))
        drawn.append(text_at(LEFT + end + 8, top + BAR - 3, bar.shown, "tell"))
    return figure(name, WIDTH, max(1, len(bars)) * ROW, title, about, "".join(drawn))
