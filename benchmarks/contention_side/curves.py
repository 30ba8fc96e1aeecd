"""Curves as an SVG file: load against wait, one panel for each kind of load, one line for each side."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path

WIDE, HIGH, LEFT, TOP, GAP = 330, 210, 46, 34, 40
COLOURS = ("#0b6e4f", "#08a4a7", "#b23a48", "#e09f3e", "#6c6f93")

Curve = Sequence[tuple[float, float]]


def draw(panels: Mapping[str, Mapping[str, Curve]], most_s: float, path: Path) -> None:
    """Write one panel beside the other; x is logarithmic, y linear up to `most_s`."""
    sides = list(next(iter(panels.values())))
    whole = (LEFT + WIDE + GAP) * len(panels), TOP + HIGH + 62 + 16 * len(sides)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" role="img"'
        ' font-family="sans-serif" font-size="11">',
        "<title>Load against the wait of 95 in 100 requests</title>",
        f'<rect width="{whole[0]}" height="{whole[1]}" fill="white"/>',
    ]
    for number, (heading, curves) in enumerate(panels.items()):
        parts += _panel(heading, curves, most_s, LEFT + number * (WIDE + LEFT + GAP))
    said = f"Wait of 95 in 100 requests; one that was turned away counts as {most_s:g} s"
    parts.append(f'<text x="{LEFT + WIDE + LEFT + GAP}" y="{TOP + HIGH + 56}">{said}</text>')
    for number, side in enumerate(sides):
        y = TOP + HIGH + 56 + 16 * number
        parts.append(f'<rect x="{LEFT}" y="{y - 8}" width="18" height="4" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{LEFT + 26}" y="{y - 2}">{escape(side)}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _panel(heading: str, curves: Mapping[str, Curve], most_s: float, left: int) -> list[str]:
    loads = [load for load, _ in next(iter(curves.values()))]
    first, last = log10(loads[0]), log10(loads[-1])

    def x(load: float) -> float:
        return left + WIDE * (log10(load) - first) / (last - first)

    def y(wait_s: float) -> float:
        return TOP + HIGH * (1 - min(wait_s, most_s) / most_s)

    parts = [f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{escape(heading)}</text>']
    for step in range(5):
        tick_s = most_s * step / 4
        parts.append(f'<path d="M{left} {y(tick_s):.1f}h{WIDE}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(tick_s) + 4:.1f}" text-anchor="end">{tick_s:g} s</text>')
    parts += [f'<text x="{x(load):.1f}" y="{TOP + HIGH + 16}" text-anchor="middle">{load:g}</text>' for load in loads]
    parts.append(f'<text x="{left + WIDE / 2}" y="{TOP + HIGH + 34}" text-anchor="middle">requests a second</text>')
    for number, curve in enumerate(curves.values()):
        dashes = ' stroke-dasharray="7 4"' if number % 2 else ""
        points = " ".join(f"{x(load):.1f},{y(wait_s):.1f}" for load, wait_s in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[number]}" stroke-width="2"{dashes}/>')
    return parts
