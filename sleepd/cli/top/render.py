"""The whole screen as lines: pure, so that it is tested as text."""

from __future__ import annotations

from dataclasses import replace

from sleepd.cli.columns import wall_s
from sleepd.cli.model_cells import outlook
from sleepd.cli.screen import clean
from sleepd.cli.top.bars import meters
from sleepd.cli.top.lines import Line, Piece, fill, fold, greyed, in_ascii, pad, plain, spread
from sleepd.cli.top.models import draw_models
from sleepd.cli.top.panes import event_line, pane_lines
from sleepd.cli.top.rows import chosen_model, shown_models
from sleepd.cli.top.view import Confirm, Pane, SleepMenu, Typing
from sleepd.core.units import format_duration, format_wall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.cli.top.view import View
    from sleepd.wire.shapes import Model, Task

LEAST_WIDTH, LEAST_HEIGHT = 40, 10
LEAST_ROWS = 3
STRIP_WIDTH = 40
"""More than two meters stand side by side where each still gets so much."""
_KEYS = ("w wake", "s sleep", "h hold", "p pin", "e explain", "/ filter", "o order", "? help", "q quit")
_QUIET = frozenset({"state", "task_begun"})
"""Events that the table itself shows; the pane of all events has them."""
_PANE_NAMES = {
    "help": "keys",
    "events": "events, the newest first",
    "reservations": "reserved for jobs",
    "explain": "why",
    "plan": "what a wake would do",
}


def render(view: View, width: int, height: int) -> list[Line]:
    """Return `height` lines of at most `width` columns."""
    lines = _lines(view, width, height)
    return lines if view.unicode else [in_ascii(line) for line in lines]


def _lines(view: View, width: int, height: int) -> list[Line]:
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        told = f"too small: wanted {LEAST_WIDTH}x{LEAST_HEIGHT}, found {width}x{height}; q quits"
        small: list[Line] = [fill([Piece(line)], width) for line in fold(told, width)]
        return _padded(small[:height], height)
    head, foot = _header(view, width), _footer(view, width)
    room = height - 1 - len(foot)
    body = _pane(view, view.mode, width, room) if isinstance(view.mode, Pane) else _overview(view, width, room)
    if view.away is not None and not (isinstance(view.mode, Pane) and view.mode.kind == "help"):
        body = [greyed(line) for line in body]
    return [head, *_padded(body[:room], room), *foot]


def settle(view: View, width: int, height: int) -> View:
    """Return the View with its pane scrolled no further than to its end on a screen of this size."""
    if not isinstance(view.mode, Pane):
        return view
    room = height - 1 - len(_footer(view, width)) - 1
    most = max(0, len(pane_lines(view, view.mode, width)) - max(1, room))
    return replace(view, mode=replace(view.mode, first=min(view.mode.first, most)))


def _padded(lines: list[Line], height: int) -> list[Line]:
    return lines + [()] * (height - len(lines))


def _header(view: View, width: int) -> Line:
    clock = format_wall(view.now_wall_s)[11:]
    if view.away is not None:
        passed = format_duration(max(0, round(view.now_wall_s - view.away.since_wall_s)))
        since = format_wall(view.away.since_wall_s)[11:]
        return spread(f" no answer since {since} ({passed}): {clean(view.away.why)}", "", width, "alert", view.unicode)
    if view.status is None:
        return spread(" sleepd", clock, width, "bold")
    status = view.status
    counts: dict[str, int] = {}
    for model in status["models"]:
        counts[model["state"]] = counts.get(model["state"], 0) + 1
    told = ", ".join(f"{count} {clean(state).replace('_', ' ')}" for state, count in sorted(counts.items()))
    up = format_duration(max(0, int(view.now_wall_s - wall_s(status["since"]))))
    observe = " observe mode," if status["mode"] == "observe" else ""
    name = f" sleepd {clean(status['version'])},{observe} up {up}"
    total = len(status["models"])
    return spread(f"{name}  {total} {'model' if total == 1 else 'models'}: {told}", clock, width, "bold", view.unicode)


def _overview(view: View, width: int, room: int) -> list[Line]:
    if view.status is None:
        return [(Piece("asking ...", "dim"),)]
    models = shown_models(view)
    top = _meter_lines(view, width, max(1, room // 2))
    chosen = chosen_model(view)
    left = room - len(top) - 1
    detail = _detail(chosen, view, width)[: max(0, min(3, left - LEAST_ROWS))]
    left -= len(detail)
    events = [event for event in view.events if event["kind"] not in _QUIET]
    rows = max(LEAST_ROWS, min(max(1, len(models)), left - min(len(events) + 1, max(3, left // 3))))
    listed = draw_models(view, models, width, rows)
    if not models:
        listed.append((Piece(_nothing(view), "dim"),))
    lines = [*top, *listed, *detail]
    if room - len(lines) < 2 or not events:
        return lines
    lines.append((Piece(pad("EVENTS", width), "reverse"),))
    return lines + [event_line(event, width, view.unicode) for event in events[-(room - len(lines)) :]]


def _nothing(view: View) -> str:
    assert view.status is not None
    if not view.status["models"]:
        return "no model is configured"
    return f"no name has {view.filter!r} in it; esc shows all"


def _meter_lines(view: View, width: int, most: int) -> list[Line]:
    """Return at most so many lines: meters side by side where they are many, and below them what cannot be read."""
    assert view.status is not None
    count = len(view.status["gpus"]) + 1
    columns = 1 if count <= 3 else max(1, min(count, width // STRIP_WIDTH))
    each = width // columns
    strips = [fill(strip, each - (columns > 1), view.unicode) for strip in meters(view.status, each, view.unicode)]
    lines: list[Line] = []
    for start in range(0, len(strips), columns):
        line: Line = ()
        for strip in strips[start : start + columns]:
            line = (*line, *strip, Piece(" " * (each - len(plain(strip)))))
        lines.append(fill(line, width, view.unicode))
    notes = [fill([Piece(f"! {clean(note)}", "yellow")], width, view.unicode) for note in view.status["notes"]][:2]
    if len(lines) + len(notes) > most:
        shown = max(0, most - len(notes) - 1)
        more = f"{count - shown * columns} more on a larger screen"
        lines = [*lines[:shown], fill([Piece(more, "dim")], width, view.unicode)]
    return (lines + notes)[:most]


def _detail(model: Model | None, view: View, width: int) -> list[Line]:
    """Return why the chosen model is as it is and what is being done with it, in as many lines as that takes."""
    if model is None or view.status is None:
        return []
    parts = [f"{clean(model['name'])}: {clean(model['reason'])}"]
    parts += [_task(task) for task in view.status["tasks"] if task["model"] == model["name"]]
    if model["failure"] and model["failure"]["detail"] not in model["reason"]:
        parts.append(clean(model["failure"]["detail"]))
    parts += [outlook(model)[0]] if model["next"] and not model["failure"] and not model["queued"] else []
    parts += [f"running {model['running']}, waiting {model['waiting']}"] if model["running"] or model["waiting"] else []
    parts += [f"queued {model['queued']}"] if model["queued"] else []
    parts += ["pinned"] if model["pinned"] else []
    parts += [f"held: {', '.join(clean(hold) for hold in model['holds'])}"] if model["holds"] else []
    parts += [f"a wake takes {format_duration(model['eta_s'])}"] if model["eta_s"] and model["state"] != "awake" else []
    return [fill([Piece(line, "cyan")], width, view.unicode) for line in fold("; ".join(parts), width)]


def _task(task: Task) -> str:
    """Return how far a task is: "wake: reload weights, step 2 of 3, 12s"."""
    step = f" {clean(task['step']).replace('_', ' ')}," if task["step"] else ""
    doing = "" if task["phase"] == "do" else f" ({clean(task['phase'])})"
    place = min(task["steps_done"] + 1, task["steps"])
    return f"{task['kind']}{doing}:{step} step {place} of {task['steps']}, {format_duration(round(task['running_s']))}"


def _pane(view: View, pane: Pane, width: int, room: int) -> list[Line]:
    about = f" {clean(pane.model)}:" if pane.model else ""
    title = (Piece(pad(f"{about} {_PANE_NAMES[pane.kind]}", width), "reverse"),)
    lines = pane_lines(view, pane, width)
    first = min(pane.first, max(0, len(lines) - max(1, room - 1)))
    return [title, *lines[first : first + room - 1]]


def _footer(view: View, width: int) -> list[Line]:
    """Return the keys that act now; above them what became of the last wish."""
    mode = view.mode
    told: list[Line] = []
    if view.notice is not None:
        words = [line for text in view.notice.lines for line in fold(text, width)]
        told = [(Piece(line, "red" if view.notice.refused else "green"),) for line in words[:5]]
    if isinstance(mode, Confirm):
        asked = [(Piece(line, "bold yellow"),) for line in fold(f"{mode.question} y: yes, any other key: no", width)]
        return [*told, *asked[:3]]
    if isinstance(mode, SleepMenu):
        text = f"sleep {clean(mode.model)}: 1 level 1  2 level 2  f F by force at 1, 2  esc no"
        return [*told, fill([Piece(text, "bold yellow")], width, view.unicode)]
    if isinstance(mode, Typing):
        if mode.what == "filter":
            text = f"show names with: {mode.text}_   enter keeps it, esc shows all"
        else:
            text = f"hold for: {mode.text}_   enter holds, esc does not"
        wrong: list[Line] = [fill([Piece(mode.wrong, "red")], width, view.unicode)] if mode.wrong else []
        return [*told, *wrong, fill([Piece(text, "bold yellow")], width, view.unicode)]
    if isinstance(mode, Pane):
        return [*told, fill([Piece("up down pgup pgdn: read on   esc: back", "dim")], width, view.unicode)]
    return [*told, _key_line(view, width)]


def _key_line(view: View, width: int) -> Line:
    only = f"[{view.filter}] " if view.filter else ""
    kept = only
    for word in _KEYS:
        if len(kept) + len(word) + 2 > width:
            break
        kept += f"{word}  "
    return fill([Piece(kept.rstrip(), "dim")], width, view.unicode)
