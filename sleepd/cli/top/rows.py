"""Which models are shown, in which order, and how often they are used."""

from __future__ import annotations

from fnmatch import fnmatchcase

from sleepd.cli.model_cells import held_bytes
from sleepd.cli.top.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from sleepd.wire.shapes import Model

    Key: TypeAlias = Callable[[Model, View], tuple[float, str]]

LEAST_SPAN_S = 5.0
"""A rate is told once so much time was looked at."""
_ORDER = ("failed", "lost", "waking", "starting", "draining", "falling_asleep", "stopping", "awake", "asleep")


def rate_per_min(view: View, name: str) -> float | None:
    """Return how many requests a minute the model finished lately; None before that can be told."""
    samples = view.finished.get(name, ())
    if not samples or samples[-1][0] - samples[0][0] < LEAST_SPAN_S:
        return None
    return 60 * (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0])


def _by_state(model: Model, view: View) -> tuple[float, str]:
    return _ORDER.index(model["state"]) if model["state"] in _ORDER else len(_ORDER), model["name"]


def _by_idle(model: Model, view: View) -> tuple[float, str]:
    return -1.0 if model["idle_s"] is None else model["idle_s"], model["name"]


def _by_vram(model: Model, view: View) -> tuple[float, str]:
    return -(held_bytes(model) or 0), model["name"]


def _by_rate(model: Model, view: View) -> tuple[float, str]:
    return -(rate_per_min(view, model["name"]) or 0.0), model["name"]


def _by_next(model: Model, view: View) -> tuple[float, str]:
    return model["next"]["in_s"] if model["next"] else float("inf"), model["name"]


ORDERS: Mapping[str, Key] = {
    "name": lambda model, view: (0.0, model["name"]),
    "state": _by_state,
    "vram": _by_vram,
    "idle": _by_idle,
    "rate": _by_rate,
    "next": _by_next,
}


def shown_models(view: View) -> list[Model]:
    """Return the models that the filter leaves, in order. A filter is a part of a name, or a glob."""
    if view.status is None:
        return []
    pattern = view.filter if any(char in "*?[" for char in view.filter) else f"*{view.filter}*"
    found = [model for model in view.status["models"] if fnmatchcase(model["name"], pattern)]
    return sorted(found, key=lambda model: ORDERS[view.sort](model, view), reverse=view.turned)


def chosen_index(models: list[Model], view: View) -> int:
    """Return where the chosen model stands; 0 where it is not shown."""
    return next((index for index, model in enumerate(models) if model["name"] == view.chosen), 0)


def chosen_model(view: View) -> Model | None:
    """Return the model that keys act on."""
    models = shown_models(view)
    return models[chosen_index(models, view)] if models else None
