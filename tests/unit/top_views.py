"""Views of `sleepctl top` for its tests: a daemon in words, as the API tells it."""

from dataclasses import replace
from typing import Any

from sleepd import wire
from sleepd.cli.top.lines import plain
from sleepd.cli.top.news import EventCame, StatusCame, take
from sleepd.cli.top.render import render, settle
from sleepd.cli.top.view import Away, View
from tests.unit.api_rig import GPU, WALL_S, FakeDaemon

GIB = 1 << 30


def status(**changes: Any) -> Any:
    """Return what the API answers for four models, one GPU and a host; `changes` are merged into each model."""
    body: Any = wire.status_body(FakeDaemon())  # type: ignore[arg-type]
    for model in body["models"]:
        model.update(changes)
    return body


def model(name: str, **changes: Any) -> Any:
    """Return an awake, idle model as the API tells it."""
    awake = next(found for found in status()["models"] if found["name"] == "qwen3-32b")
    gpus = [{"uuid": GPU, "index": 0, "awake_bytes": 40 * GIB, "asleep_bytes": 2 * GIB, "need_bytes": 38 * GIB}]
    quiet = {"running": 0, "waiting": 0, "in_flight": 0, "queued": 0, "next": None, "gpus": gpus}
    return {**awake, **quiet, "name": name, **changes}


def status_of(*models: Any) -> Any:
    return {**status(), "models": list(models)}


def view_of(body: Any, **fields: Any) -> View:
    return replace(take(View(asked_by="alice"), StatusCame(body, WALL_S)), **fields)


def told(view: View, kind: str, text: str, name: str | None = "chat") -> View:
    return take(view, EventCame({"kind": kind, "text": text, "model": name, "time": "2026-01-01T00:00:05.000Z"}))


def lost(view: View, after_s: float, why: str = "no daemon at /run/s") -> View:
    return take(view, Away(WALL_S + after_s, why))


def text(view: View, width: int = 80, height: int = 24) -> list[str]:
    """Return the screen's lines without their tones and the blanks at their ends."""
    return [plain(line).rstrip() for line in render(settle(view, width, height), width, height)]
