"""What is read in place of the table: help, events, why a model is as it is, what a wake would do."""

from __future__ import annotations

from sleepd.cli.explanation import tell_explanation
from sleepd.cli.plan import tell_plan
from sleepd.cli.prose import tell_text
from sleepd.cli.reservations_table import render_reservations
from sleepd.cli.screen import Screen, clean
from sleepd.cli.top.lines import Line, Piece, fill, fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sleepd.cli.top.view import Pane, View

HELP = (
    ("up down j k, pgup pgdn, home end", "choose a model"),
    ("w   W", "wake it; W: without looking whether there is room (admin)"),
    ("s", "put it to sleep: level 1 or 2, or by force (admin)"),
    ("h   H", "hold it awake for a time; H: let go of that hold"),
    ("p", "pin it, or unpin it"),
    ("t   x", "start its unit; x: stop it (admin), and it stays stopped"),
    ("r", "reset it after a failure"),
    ("e   d", "explain: every rule, wanted and found; d: what a wake would do"),
    ("v   R", "all events; R: what is reserved for jobs, whose, until when"),
    ("/   esc", "show only names with this in them, or that match a glob; esc: all"),
    ("o   O", "order by the next column; O: the other way round"),
    ("?   q", "these keys; q or Ctrl-C: leave, and what was asked for goes on"),
    ("", ""),
    ("REQ/M", "requests finished a minute, of the last minute, by the server's own count"),
)
_TONES = {
    **dict.fromkeys(("failure", "answer_wrong", "foreign", "gpus_missing", "host_missing", "unanswered"), "red"),
    **dict.fromkeys(("alarm", "helpless", "pressure", "wake_refused", "cooldown", "gap", "restart_due"), "yellow"),
}


def pane_lines(view: View, pane: Pane, width: int) -> list[Line]:
    """Return everything there is to read; the pane shows a part of it."""
    screen = Screen(width, colour=False, unicode=view.unicode)
    if pane.kind == "help":
        return _help(view, width)
    if pane.kind == "events":
        return [event_line(event, width, view.unicode) for event in reversed(view.events)]
    if pane.body is None:
        return [(Piece("asking ...", "dim"),)]
    if isinstance(pane.body, tuple):  # a refusal, in lines
        told = [line for text in pane.body for line in fold(text, width)]
    elif pane.kind == "reservations":
        told = render_reservations(pane.body, screen, view.now_wall_s)
    elif pane.kind == "explain":
        told = tell_explanation(pane.body, screen)
    else:
        told = tell_plan(clean(pane.model), pane.body, screen)
    return [fill([Piece(line)], width, view.unicode) for line in told]


def event_line(event: Mapping[str, Any], width: int, unicode: bool) -> Line:
    """Return one event: the time of day in UTC, and what happened."""
    if event["kind"] == "gap":
        return (Piece("-- some events are no longer on record, or sleepd was restarted --"[:width], "yellow"),)
    time, told = clean(event["time"])[11:19], tell_text(event)
    return fill([Piece(f"{time} ", "dim"), Piece(told, _TONES.get(event["kind"], ""))], width, unicode)


def _help(view: View, width: int) -> list[Line]:
    keys = 34 if width >= 100 else 12
    lines: list[Line] = []
    for key, text in HELP:
        first, *rest = fold(text, width - keys - 1)
        lines.append(fill([Piece(f"{key:<{keys}} " if len(key) <= keys else f"{key}  ", "bold"), Piece(first)], width))
        lines += [fill([Piece(" " * (keys + 1) + more)], width) for more in rest]
    solid, others, kept, free = ("█", "▓", "▒", "░") if view.unicode else ("#", "%", "=", ".")
    lines.append(
        fill([Piece(f"{'bars':<{keys}} ", "bold"), Piece(f"{solid} held by models  {others} by others")], width)
    )
    lines.append(fill([Piece(" " * (keys + 1) + f"{kept} a wake takes, or kept for jobs  {free} free")], width))
    return lines
