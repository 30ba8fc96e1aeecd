"""The timeline: a lane for each model, its states as blocks whose height and colour tell what it was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepd.charts.markup import element, escaped, figure, text_at
from sleepd.charts.window import LEFT, WIDTH, Window, draw_axis, name_at
from sleepd.core.units import WallS, format_duration

LANE, BLOCK = 22.0, 16.0
LEAST_WIDTH = 0.6
"""Blocks that are narrower are drawn as one with their neighbours, as the state that lasted longest among them."""
LEGEND = 24.0


@dataclass(frozen=True, slots=True)
class Look:
    """How one sort of state is drawn: its class in the style, its height as a share of a block, its name."""

    class_: str
    height: float
    told: str


_AWAKE, _MOVING = Look("awake", 1.0, "awake"), Look("moving", 0.75, "in transition")
_ASLEEP_1, _ASLEEP_2 = Look("asleep1", 0.5, "asleep at level 1"), Look("asleep2", 0.3, "asleep at level 2")
_STOPPED, _FAILED = Look("stopped", 0.12, "stopped"), Look("failed", 1.25, "failed or lost")
_UNKNOWN = Look("unknown", 0.3, "unknown")
LOOKS = (_AWAKE, _MOVING, _ASLEEP_1, _ASLEEP_2, _STOPPED, _FAILED, _UNKNOWN)
_BY_STATE = {
    "awake": _AWAKE,
    "stopped": _STOPPED,
    "failed": _FAILED,
    "lost": _FAILED,
    **dict.fromkeys(("draining", "falling_asleep", "waking", "starting", "stopping"), _MOVING),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A model was in one state of the API's from `since_s` to `until_s`. `note`: why, as text."""

    since_s: WallS
    until_s: WallS
    state: str
    level: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """What one model was; spans in the order of time."""

    name: str
    spans: Sequence[Span]


def look_of(state: str, level: int | None) -> Look:
    """Return how a state is drawn; one that nobody knows as unknown."""
    if state == "asleep":
        return _ASLEEP_2 if level == 2 else _ASLEEP_1
    return _BY_STATE.get(state, _UNKNOWN)


def draw_timeline(lanes: Sequence[Lane], window: Window, *, name: str, title: str) -> str:
    """Return the SVG; each block's title tells the state, how long it lasted, and why. `name` is unique on its page."""
    height = max(1, len(lanes)) * LANE
    drawn, seen = [draw_axis(window, height)], set[Look]()
    for row, lane in enumerate(lanes):
        floor = row * LANE + (LANE + BLOCK) / 2
        drawn.append(name_at(floor - 4, lane.name))
        drawn.append(element("line", x1=LEFT, x2=window.x(window.until_s), y1=floor, y2=floor, class_="floor"))
        for together in _gathered(lane.spans, window):
            chief = max(together, key=lambda span: span.until_s - span.since_s)
            look = look_of(chief.state, chief.level)
            seen.add(look)
            drawn.append(_block(together, chief, look, floor, window))
    legend = _legend([look for look in LOOKS if look in seen], height + LEGEND + 14)
    count = "1 model" if len(lanes) == 1 else f"{len(lanes)} models"
    about = f"{count} from {window.tell(window.since_s)} to {window.tell(window.until_s)}"
    return figure(name, WIDTH, height + LEGEND + 24, title, about, "".join(drawn) + legend)


def _gathered(spans: Sequence[Span], window: Window) -> Iterator[list[Span]]:
    """Yield the spans within the window; neighbours that are too narrow to be seen, together."""
    together: list[Span] = []
    for span in spans:
        if span.until_s < window.since_s or span.since_s > window.until_s:
            continue
        if together and not (_is_narrow([span], window) and _is_narrow(together, window)):
            yield together
            together = []
        together.append(span)
    if together:
        yield together


def _is_narrow(spans: Sequence[Span], window: Window) -> bool:
    return window.x(spans[-1].until_s) - window.x(spans[0].since_s) < LEAST_WIDTH


def _block(together: Sequence[Span], chief: Span, look: Look, floor: float, window: Window) -> str:
    x = window.x(together[0].since_s)
    width = max(LEAST_WIDTH, window.x(together[-1].until_s) - x)
    told = element("title", escaped(_tell(together, chief, look, window)))
    size = {"x": x, "y": floor - look.height * BLOCK, "width": width, "height": look.height * BLOCK}
    return element("rect", told, **size, class_=look.class_)


def _tell(together: Sequence[Span], chief: Span, look: Look, window: Window) -> str:
    state = look.told if chief.state == "asleep" else chief.state.replace("_", " ")
    lasted = format_duration(max(0.0, chief.until_s - chief.since_s))
    more = f" and {len(together) - 1} more changes" if len(together) > 1 else ""
    why = f": {chief.note}" if chief.note else ""
    return f"{state} for {lasted} from {window.tell(chief.since_s)}{why}{more}"


def _legend(looks: Sequence[Look], floor: float) -> str:
    drawn, x = [], LEFT
    for look in looks:
        height = look.height * 12
        drawn.append(element("rect", x=x, y=floor - height, width=14, height=height, class_=look.class_))
        drawn.append(text_at(x + 19, floor, look.told, "tell"))
        x += 34 + 6.2 * len(look.told)
    return "".join(drawn)
