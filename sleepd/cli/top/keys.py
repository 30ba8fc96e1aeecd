"""What a key does: another View, and perhaps something to ask of the daemon. Pure."""

from __future__ import annotations

from dataclasses import replace

from sleepd.cli.model_cells import is_busy
from sleepd.cli.screen import clean
from sleepd.cli.top.rows import ORDERS, chosen_index, chosen_model, shown_models
from sleepd.cli.top.view import Browse, Confirm, Fetch, Leave, Pane, SleepMenu, Typing, View, Wish
from sleepd.core.units import UnitError, format_duration, parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from sleepd.wire.shapes import Model

    Pressed: TypeAlias = tuple[View, Wish | Fetch | Leave | None]

DRAIN_S = 60.0
"""How long a busy model that is put to sleep may finish."""
HOLD, LONGEST_HOLD_S = "1h", 31_536_000.0
PAGE = 10
_MOVES: Mapping[str, int] = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -PAGE, "pgdn": PAGE}
_ENDS: Mapping[str, int] = {"home": 0, "g": 0, "end": -1, "G": -1}
TEXT_LIMIT = 63
USER_LIMIT = 48
"""With the longest name of a model, that is an id which the API takes."""


def hold_id(view: View, model: str) -> str:
    """Return the id of the hold that this user takes here: the same key again renews it."""
    user = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in view.asked_by)
    return f"top-{user[:USER_LIMIT]}-{model}"


def press(view: View, key: str) -> Pressed:
    """Return what a key leads to. Keys are characters, or names such as "up", "enter" and "esc"."""
    view = replace(view, notice=None)
    mode = view.mode
    if isinstance(mode, Typing):
        return _type(view, mode, key)
    if isinstance(mode, SleepMenu):
        return _choose_sleep(replace(view, mode=Browse()), mode.model, key)
    if isinstance(mode, Confirm):
        return replace(view, mode=Browse()), mode.wish if key in ("y", "Y") else None
    if isinstance(mode, Pane):
        return _read(view, mode, key)
    return _browse(view, key)


def _browse(view: View, key: str) -> Pressed:
    if key in ("q", "f10"):
        return view, Leave()
    if key in _MOVES or key in _ENDS:
        return _move(view, key), None
    if key == "R":
        return replace(view, mode=Pane("reservations")), Fetch("reservations", "")
    if key in ANYWHERE:
        return ANYWHERE[key](view), None
    model = chosen_model(view)
    if model is not None and key in ON_MODEL:
        # What acts is what is seen to be chosen, also where nobody chose it yet.
        return ON_MODEL[key](replace(view, chosen=model["name"]), model)
    return view, None


def _move(view: View, key: str) -> View:
    models = shown_models(view)
    if not models:
        return view
    last = len(models) - 1
    index = (_ENDS[key] % len(models)) if key in _ENDS else chosen_index(models, view) + _MOVES[key]
    return replace(view, chosen=models[min(max(index, 0), last)]["name"])


def _next_order(view: View) -> View:
    orders = list(ORDERS)
    return replace(view, sort=orders[(orders.index(view.sort) + 1) % len(orders)], turned=False)


ANYWHERE: Mapping[str, Callable[[View], View]] = {
    "?": lambda view: replace(view, mode=Pane("help")),
    "f1": lambda view: replace(view, mode=Pane("help")),
    "v": lambda view: replace(view, mode=Pane("events")),
    "/": lambda view: replace(view, mode=Typing("filter", view.filter)),
    "esc": lambda view: replace(view, filter=""),
    "o": _next_order,
    "O": lambda view: replace(view, turned=not view.turned),
}


def _hold(view: View, model: Model) -> Pressed:
    return replace(view, mode=Typing("hold", HOLD)), None


def _let_go(view: View, model: Model) -> Pressed:
    return view, Wish("release", model["name"])


def _pin(view: View, model: Model) -> Pressed:
    return view, Wish("unpin" if model["pinned"] else "pin", model["name"])


def _stop(view: View, model: Model) -> Pressed:
    question = f"Stop {clean(model['name'])}? Its server ends, and only a person starts it again."
    return replace(view, mode=Confirm(question, Wish("stop", model["name"]))), None


def _wake_anyway(view: View, model: Model) -> Pressed:
    question = f"Wake {clean(model['name'])} without looking whether there is room for it?"
    return replace(view, mode=Confirm(question, Wish("wake", model["name"], force=True))), None


def _explain(view: View, model: Model) -> Pressed:
    return replace(view, mode=Pane("explain", model["name"])), Fetch("explain", model["name"])


def _plan(view: View, model: Model) -> Pressed:
    return replace(view, mode=Pane("plan", model["name"])), Fetch("plan", model["name"])


ON_MODEL: Mapping[str, Callable[[View, Model], Pressed]] = {
    "w": lambda view, model: (view, Wish("wake", model["name"])),
    "W": _wake_anyway,
    "s": lambda view, model: (replace(view, mode=SleepMenu(model["name"])), None),
    "h": _hold,
    "H": _let_go,
    "p": _pin,
    "e": _explain,
    "enter": _explain,
    "d": _plan,
    "t": lambda view, model: (view, Wish("start", model["name"])),
    "x": _stop,
    "r": lambda view, model: (view, Wish("reset", model["name"])),
}


def _choose_sleep(view: View, name: str, key: str) -> Pressed:
    levels = {"1": (1, False), "enter": (1, False), "2": (2, False), "f": (1, True), "F": (2, True)}
    if key not in levels:
        return view, None
    level, force = levels[key]
    shown, found = clean(name), view.status["models"] if view.status else []
    model = next((model for model in found if model["name"] == name), None)
    if force:
        question = f"Put {shown} to sleep at level {level} whoever holds or pinned it? Requests in flight are kept."
        return replace(view, mode=Confirm(question, Wish("sleep", name, level, force=True))), None
    if model is not None and is_busy(model):
        count = max(model["in_flight"], (model["running"] or 0) + (model["waiting"] or 0))
        work = "1 request" if count == 1 else f"{count} requests"
        question = f"{shown} works on {work}. Sleep once they are done, {format_duration(DRAIN_S)} from now at most?"
        return replace(view, mode=Confirm(question, Wish("sleep", name, level, drain_s=DRAIN_S))), None
    return view, Wish("sleep", name, level)


def _type(view: View, typing: Typing, key: str) -> Pressed:
    if key == "esc":
        return replace(view, mode=Browse(), filter="" if typing.what == "filter" else view.filter), None
    if key == "enter":
        return (replace(view, mode=Browse()), None) if typing.what == "filter" else _take_hold(view, typing)
    if key in _MOVES and len(key) > 1:
        return _move(view, key), None
    text = typing.text
    if key == "backspace":
        text = text[:-1]
    elif len(key) == 1 and key.isprintable() and len(text) < TEXT_LIMIT:
        text += key
    view = replace(view, mode=replace(typing, text=text, wrong=""))
    return (replace(view, filter=text) if typing.what == "filter" else view), None


def _take_hold(view: View, typing: Typing) -> Pressed:
    model = chosen_model(view)
    if model is None:
        return replace(view, mode=Browse()), None
    try:
        ttl_s = parse_duration(typing.text)
    except UnitError as error:
        return replace(view, mode=replace(typing, wrong=str(error))), None
    if not 0 < ttl_s <= LONGEST_HOLD_S:
        return replace(view, mode=replace(typing, wrong=f"wanted at most 365d, found {typing.text!r}")), None
    return replace(view, mode=Browse()), Wish("hold", model["name"], ttl_s=ttl_s)


def _read(view: View, pane: Pane, key: str) -> Pressed:
    if key in ("q", "esc", "enter", "f10") or (key, pane.kind) in (("?", "help"), ("v", "events"), ("e", "explain")):
        return replace(view, mode=Browse()), None
    if key in _ENDS:
        return replace(view, mode=replace(pane, first=0 if _ENDS[key] == 0 else 1_000_000)), None
    if key in _MOVES:
        return replace(view, mode=replace(pane, first=max(0, pane.first + _MOVES[key]))), None
    return view, None
