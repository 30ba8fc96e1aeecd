"""The curves of benchmarks/policy.py as SVG: GiB-hours along, requests that waited upwards; left and low is good."""

from collections.abc import Mapping
from html import escape

WIDTH, HEIGHT, LEFT, TOP, COLUMNS = 420, 300, 56, 34, 2
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - 24, HEIGHT - TOP - 48
CURVES = (
    ("ttl-1m", "ttl-5m", "ttl-15m", "ttl-30m", "while-it-fits"),
    ("foresight-1m", "foresight-5m", "foresight-15m", "foresight-1h", "foresight-3h"),
)
"""Each joined by a line: what one number can be turned to."""
AHEAD = "foresight-"
UNNAMED = tuple(name for name in CURVES[1] if name != "foresight-5m")
"""Their line and colour tell what they are, in the order of their numbers from left to right."""
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#333}.frame{fill:none;stroke:#bbb}.curve{fill:none;stroke:#7a8;"
    "stroke-width:1.5}.dot{fill:#267}.name{font-weight:600}"
    ".ahead{fill:#c50}.line.ahead{fill:none;stroke:#c50}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.frame{stroke:#555}.dot{fill:#6bd}.ahead{fill:#f94}"
    ".line.ahead{stroke:#f94}}"
)
Points = Mapping[str, tuple[float, float]]


def draw_curves(groups: Mapping[str, Points]) -> str:
    """Return the SVG: one panel for each group, all of its policies as dots."""
    rows = -(-len(groups) // COLUMNS)
    panels = "".join(
        f'<g transform="translate({number % COLUMNS * WIDTH} {number // COLUMNS * HEIGHT})">{_panel(name, points)}</g>'
        for number, (name, points) in enumerate(groups.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * WIDTH} {rows * HEIGHT}">'
        f"<title>Requests that waited against GiB-hours of GPU memory</title><style>{STYLE}</style>{panels}</svg>\n"
    )


def _panel(name: str, points: Points) -> str:
    most_x = max(x for x, _ in points.values()) * 1.08 or 1.0
    most_y = max(y for _, y in points.values()) * 1.2 or 1.0
    at = {
        contender: (LEFT + x / most_x * INNER_WIDTH, TOP + INNER_HEIGHT - y / most_y * INNER_HEIGHT)
        for contender, (x, y) in points.items()
    }
    lines = [" ".join(f"{at[c][0]:.1f},{at[c][1]:.1f}" for c in curve if c in at) for curve in CURVES]
    parts = [
        f'<text x="{LEFT}" y="{TOP - 12}" class="name">{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{TOP}" width="{INNER_WIDTH}" height="{INNER_HEIGHT}" class="frame"/>',
        *(
            f'<polyline points="{line}" class="curve line{kind}"/>'
            for line, kind in zip(lines, ("", " ahead"), strict=True)
        ),
        f'<text x="{LEFT}" y="{TOP + INNER_HEIGHT + 14}">0</text>',
        f'<text x="{LEFT + INNER_WIDTH}" y="{TOP + INNER_HEIGHT + 14}" text-anchor="end">{most_x:.0f} GiB-hours</text>',
        f'<text x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end">{100 * most_y:.1f}%</text>',
        f'<text x="{LEFT - 4}" y="{TOP + INNER_HEIGHT}" text-anchor="end">0%</text>',
    ]
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="dot{_kind(name)}"/>' for name, (x, y) in at.items()]
    parts += [
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(told)}</text>'
        for told, x, y, anchor in _labels(at)
    ]
    return "".join(parts)


def _kind(name: str) -> str:
    return " ahead" if name.startswith(AHEAD) else ""


def _labels(at: Points) -> list[tuple[str, float, float, str]]:
    """Names beside their dots, each moved up until it covers no other."""
    found: list[tuple[str, float, float, str]] = []
    named = {name: point for name, point in at.items() if name not in UNNAMED}
    for name, (x, y) in sorted(named.items(), key=lambda each: (-each[1][1], each[1][0])):
        right = x > LEFT + 0.7 * INNER_WIDTH
        x, y = x + (-6 if right else 6), y - 5
        while any(abs(y - other_y) < 11 and abs(x - other_x) < 90 for _, other_x, other_y, _ in found):
            y -= 4
        found.append((name, x, y, "end" if right else "start"))
    return found
