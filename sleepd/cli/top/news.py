"""What comes from the daemon, taken into a View: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sleepd.cli.top.view import EVENTS_KEPT, Away, Fetch, Notice, Pane, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from sleepd.cli.top.view import Sample
    from sleepd.wire.answers import Status

RATE_SPAN_S = 60.0


@dataclass(frozen=True, slots=True)
class StatusCame:
    body: Status
    wall_s: float


@dataclass(frozen=True, slots=True)
class EventCame:
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PaneCame:
    """What a pane asked for; lines where it was refused."""

    wanted: Fetch
    body: Any


News: TypeAlias = "StatusCame | Away | EventCame | Notice | PaneCame"


def take(view: View, news: News) -> View:
    """Return the View that knows this, too."""
    if isinstance(news, StatusCame):
        return _take_status(view, news)
    if isinstance(news, Away):
        since_s = view.away.since_wall_s if view.away else view.status_wall_s or news.since_wall_s
        return replace(view, away=replace(news, since_wall_s=since_s), now_wall_s=news.since_wall_s)
    if isinstance(news, EventCame):
        return replace(view, events=(*view.events, news.body)[-EVENTS_KEPT:])
    if isinstance(news, Notice):
        return replace(view, notice=news)
    pane = view.mode
    if isinstance(pane, Pane) and Fetch(pane.kind, pane.model) == news.wanted:
        return replace(view, mode=replace(pane, body=news.body))
    return view


def _take_status(view: View, news: StatusCame) -> View:
    before = view.status
    same_daemon = before is not None and before["since"] == news.body["since"]
    finished = {
        model["name"]: _counted(
            view.finished.get(model["name"], ()) if same_daemon else (),
            (news.wall_s, model["requests_finished"]),
        )
        for model in news.body["models"]
        if "requests_finished" in model  # a daemon of an older release does not count them
    }
    return replace(
        view, status=news.body, status_wall_s=news.wall_s, now_wall_s=news.wall_s, away=None, finished=finished
    )


def _counted(samples: tuple[Sample, ...], now: Sample) -> tuple[Sample, ...]:
    """Return the samples of the last minute; a clock or a count that goes back begins anew."""
    if samples and (now[0] < samples[-1][0] or now[1] < samples[-1][1]):
        samples = ()
    return (*(sample for sample in samples if now[0] - sample[0] <= RATE_SPAN_S), now)
