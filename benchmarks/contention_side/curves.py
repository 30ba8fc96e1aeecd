"""Curves as an SVG file: load against wait, a panel for each kind of load, a line for each side."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path

WIDE, HIGH, LEFT, TOP = 330, 190, 46, 34
COLUMN, ROW = LEFT + WIDE + 34, TOP + HIGH + 52
COLOURS = ("#0b6e4f", "#08a4a7", "#b23a48", "#e09f3e", "#6c6f93")

Curve = Sequence[tuple[float, float]]


def draw(panels: Mapping[str, Mapping[str, Curve]], most_s: float, path: Path) -> None:
    """Write two panels a row; x is logarithmic, y linear up to `most_s`."""
    sides, rows = list(next(iter(panels.values()))), -(-len(panels) // 2)
    legend_y = rows * ROW + 24
    wide, high = 2 * COLUMN, legend_y + 16 * len(sides)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"'
        ' font-family="sans-serif" font-size="11">',
        "<title>Load against the wait of 95 in 100 requests</title>",
        f'<rect width="{wide}" height="{high}" fill="white"/>',
    ]
    for number, (heading, curves) in enumerate(panels.items()):
        parts += _panel(heading, curves, most_s, LEFT + number % 2 * COLUMN, TOP + number // 2 * ROW)
    said = f"Wait of 95 in 100 requests; who was turned away counts as {most_s:g} s"
    parts.append(f'<text x="{LEFT + COLUMN}" y="{legend_y}">{said}</text>')
    for number, side in enumerate(sides):
        y = legend_y + 16 * number
        line = f'stroke="{COLOURS[number]}" stroke-width="2.5"{_dashes(number)}'
        parts.append(f'<path d="M{LEFT} {y - 4}h30" {line}/>')
        parts.append(f'<text x="{LEFT + 38}" y="{y}">{escape(side)}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _dashes(number: int) -> str:
    return ' stroke-dasharray="7 4"' if number % 2 else ""


def _panel(heading: str, curves: Mapping[str, Curve], most_s: float, left: int, top: int) -> list[str]:
    loads = [load for load, _ in next(iter(curves.values()))]
    first, last = log10(loads[0]), log10(loads[-1])

    def x(load: float) -> float:
        return left + WIDE * (log10(load) - first) / (last - first)

    def y(wait_s: float) -> float:
        return top + HIGH * (1 - min(wait_s, most_s) / most_s)

    parts = [f'<text x="{left}" y="{top - 14}" font-weight="bold">{escape(heading)}</text>']
    for step in range(5):
        tick_s = most_s * step / 4
        parts.append(f'<path d="M{left} {y(tick_s):.1f}h{WIDE}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(tick_s) + 4:.1f}" text-anchor="end">{tick_s:g} s</text>')
    parts += [f'<text x="{x(load):.1f}" y="{top + HIGH + 16}" text-anchor="middle">{load:g}</text>' for load in loads]
    parts.append(f'<text x="{left + WIDE / 2}" y="{top + HIGH + 34}" text-anchor="middle">requests a second</text>')
    for number, curve in enumerate(curves.values()):
        points = " ".join(f"{x(load):.1f},{y(wait_s):.1f}" for load, wait_s in curve)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[number]}" stroke-width="2"{_dashes(number)}/>'
        )
    return parts
